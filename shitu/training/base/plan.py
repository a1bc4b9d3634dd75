"""What a run will do, in numbers: batches, steps, and the learning rate at each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from shitu.training.base.schema import ScaledRate


class Schedule(Protocol):
    """The learning rate as a function of the step, so that a resume needs no state."""

    @property
    def peak(self) -> float:
        """At the end of the warm-up."""

    @property
    def warmup_steps(self) -> int: ...

    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Plan:
    """Numbers of a run over `world` processes; a step takes `update_freq` batches on each of them."""

    world: int
    update_freq: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    schedule: Schedule

    @property
    def epochs(self) -> int:
        return math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def total_batch(self) -> int:
        """Images per step over all processes."""
        return self.world * self.update_freq * self.batch_size

    def streams(self, rank: int) -> range:
        """The streams of batches that a process trains on."""
        return range(rank * self.update_freq, (rank + 1) * self.update_freq)


# --- scaling -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaling:
    """The linear rule (PaddleClas FAQ Q5.3): k times the batch, k times the learning rate, a k-th of the iterations."""

    factor: float
    reason: str  # for the log: why the factor is what it is

    @classmethod
    def of(cls, section: ScaledRate, total_batch: int) -> Scaling:
        """`total_batch`: images per step over all cards."""
        if section.for_batch_size is None:
            return cls(1.0, "not scaled: the config states no for_batch_size")
        if section.scaling == "none":
            return cls(1.0, "not scaled: the config's scaling is none")
        factor = total_batch / section.for_batch_size
        return cls(factor, f"linear rule, {total_batch} / {section.for_batch_size} = {factor:g}")


# --- to be read before a run -------------------------------------------------------------------------------------


def learning_rate_table(plan: Plan) -> list[str]:
    """The learning rate at steps over the run, as lines to print."""
    from tabulate import tabulate

    rows = [
        (name, f"{step / plan.steps_per_epoch:.2f}", f"{step:,}", f"{plan.schedule(step):.6g}")
        for name, step in _milestones(plan.total_steps, plan.schedule.warmup_steps)
    ]
    headers, columns = ("", "epoch", "step", "learning rate"), ("left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="plain", colalign=columns, disable_numparse=True).splitlines()


def _milestones(total_steps: int, warmup_steps: int) -> list[tuple[str, int]]:
    """Steps at which a learning rate is worth knowing, ascending; the last step that is made stands for the end."""
    last = total_steps - 1
    named = {0: "start"}
    if warmup_steps:
        named.setdefault(min(warmup_steps, last), "after warm-up")
    for share in (25, 50, 75):
        named.setdefault(total_steps * share // 100, f"{share} %")
    named.setdefault(last, "last step")
    return [(name, step) for step, name in sorted(named.items())]
