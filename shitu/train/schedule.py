"""The learning rate at each step, and what another total batch than the config's does to it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, Protocol

from shitu.train.schema import Constant, Cosine, LearningRate, Linear, Piecewise, Step


class Scalable(Protocol):
    """What a section says of the batch that its learning rate is made for."""

    @property
    def for_batch_size(self) -> int | None: ...
    @property
    def scaling(self) -> Literal["linear", "none"]: ...


@dataclass(frozen=True)
class Scaling:
    """The linear rule (PaddleClas FAQ Q5.3): k times the batch, k times the learning rate, a k-th of the iterations."""

    total_batch: int  # images per step over all cards
    made_for: int | None  # what the config's learning rate was made for
    factor: float
    reason: str  # for the log: why the factor is what it is

    @classmethod
    def of(cls, section: Scalable, total_batch: int) -> Scaling:
        made_for = section.for_batch_size
        if made_for is None:
            return cls(total_batch, None, 1.0, "not scaled: the config states no for_batch_size")
        if section.scaling == "none":
            return cls(total_batch, made_for, 1.0, "not scaled: the config's scaling is none")
        factor = total_batch / made_for
        return cls(total_batch, made_for, factor, f"linear rule, {total_batch} / {made_for} = {factor:g}")

    def iterations(self, section: LearningRate, max_iters: int | None) -> int | None:
        """`max_iters`, by the inverse where scale_iters asks for that."""
        if max_iters is None or not section.scale_iters:
            return max_iters
        return max(1, round(max_iters / self.factor))


class Schedule:
    """`schedule(step)` is the learning rate of step 0, 1, 2 ...: a function, so a resume needs no state.

    The warm-up is linear and by step, and what follows spans the steps after it, as in PaddleClas's
    ppcls/optimizer/learning_rate.py.
    """

    def __init__(self, section: LearningRate, scaling: Scaling, steps_per_epoch: int, total_steps: int) -> None:
        scaled = {"learning_rate": section.learning_rate * scaling.factor}
        if isinstance(section, Piecewise):
            scaled = {"values": tuple(value * scaling.factor for value in section.values)}  # type: ignore[dict-item]
        self.section = dataclasses.replace(section, **scaled)  # type: ignore[arg-type]
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        self.warmup_steps = min(round(section.warmup_epoch * steps_per_epoch), total_steps)

    @property
    def peak(self) -> float:
        """The learning rate at the end of the warm-up."""
        return self.section.values[0] if isinstance(self.section, Piecewise) else self.section.learning_rate

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            start = self.section.warmup_start_lr
            return start + (self.peak - start) * step / self.warmup_steps
        return self._after_warmup(step - self.warmup_steps, max(1, self.total_steps - self.warmup_steps))

    def _after_warmup(self, step: int, span: int) -> float:
        section, rate = self.section, self.peak
        if isinstance(section, Cosine):
            return section.eta_min + (rate - section.eta_min) * (1 + math.cos(math.pi * step / span)) / 2
        if isinstance(section, Linear):
            left: float = max(0.0, 1 - step / span) ** section.power
            return (rate - section.end_lr) * left + section.end_lr
        epoch = (step + self.warmup_steps) / self.steps_per_epoch
        if isinstance(section, Step):
            return rate * section.gamma ** math.floor(epoch / section.step_size)
        if isinstance(section, Piecewise):
            return section.values[sum(epoch >= limit for limit in section.decay_epochs)]
        assert type(section) in (Constant, LearningRate)
        return rate
