"""The learning rate at each step."""

from __future__ import annotations

import dataclasses
import math

from shitu.training.base.scaling import Scaling
from shitu.training.rec.schema import Constant, Cosine, LearningRate, Linear, Piecewise, Step


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
