"""`shitu train --find-lr`: a learning rate from the loss of one short run in which it rises at every step.

Smith 2017 (Cyclical Learning Rates); as in fastai, the run ends where the loss is four times the least, and a tenth of
the rate of the least loss is suggested. Where the loss falls steepest is told beside: with batches of other classes
each time it is the less sure of the two.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ShituError
from shitu.training.base.curves import Found
from shitu.training.base.loop import Loop, Progress
from shitu.training.base.task import Scaling, Schedule, Task

Floats = NDArray[np.float64]
LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100
WIDTH = 5.0  # steps: the standard deviation of the bell that smooths the curve, a third of a decade
SMOOTHING = 0.9  # of the running mean that says when to end
NOISE = 0.5  # times the spread of the loss from step to step: what a fall must be, smoothed, to be one
TOO_HIGH = 4.0  # times the least smoothed loss: the end


class Rising(Schedule):
    """From LOWEST to HIGHEST in `total_steps`, by the same factor each step."""

    def __init__(self, total_steps: int) -> None:
        super().__init__(None, Scaling(1.0, ""), total_steps, total_steps)
        self.warmup_steps, self.peak = 0, HIGHEST

    def warming(self, step: int) -> float:
        return self.decaying(step)

    def decaying(self, step: int) -> float:
        return float(LOWEST * (HIGHEST / LOWEST) ** (step / max(1, self.total_steps - 1)))


def find_rate(task: Task[Any], rank: int, *, steps: int = STEPS, progress: Progress) -> Found:
    """Train for at most `steps`, as the task's own run would but for the rate; nothing is saved. All processes must
    ask. Raises ShituError where the loss never falls.
    """
    loop = Loop(task, rank)
    schedule = Rising(steps)
    loop.plan = replace(task.plan, schedule=schedule, total_steps=steps)
    losses: list[float] = []
    epoch = 0
    task.train_mode()
    with progress(steps) as bar:
        while loop.step < steps and not _over(losses):
            with closing(task.batches(epoch, 0)) as batches:
                for _ in range(min(task.plan.steps_per_epoch, steps - loop.step)):
                    loop.make_step(batches)
                    losses.append(loop.meter.take(task.plan.world)["loss"])
                    bar.update(1)
                    if _over(losses):
                        break
            epoch += 1
    return suggested([schedule(step) for step in range(len(losses))], losses)


def suggested(rates: Sequence[float], losses: Sequence[float]) -> Found:
    """(n,) rates, ascending by one factor, and the losses of these steps -> what they say. Raises ShituError."""
    finite = list(itertools.takewhile(math.isfinite, losses))
    smooth = smoothed(np.array(finite))
    least = int(np.argmin(smooth)) if finite else 0
    if least < WIDTH or smooth[0] - smooth[least] < NOISE * np.std(np.diff(finite[: least + 1])):
        raise ShituError(
            f"the loss does not fall at any learning rate from {LOWEST:g} on, so none can be suggested: is there "
            "something to learn in the list, and are these weights not trained already?"
        )
    steepest = int(np.argmin(np.diff(smooth[: least + 1])))
    return Found(rates, losses, smooth.tolist(), rates[steepest], rates[least] / 10)


def smoothed(losses: Floats) -> Floats:
    """Each the mean of its neighbours, weighed by a bell; at the ends of those that there are."""
    steps = np.arange(len(losses))
    bell = np.exp(-(((steps[:, None] - steps) / WIDTH) ** 2) / 2)
    return np.asarray(bell @ losses / bell.sum(axis=1))


def _over(losses: Sequence[float]) -> bool:
    """Whether their running mean, without the bias towards its beginning, is far above its least."""
    mean, means = 0.0, [math.inf]
    for number, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**number))
    return bool(losses) and not means[-1] <= TOO_HIGH * min(means)
