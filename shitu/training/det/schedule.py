"""The learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shitu.training.base.scaling import Scaling
from shitu.training.det.schema import CosineDecay, LearningRate, LinearWarmup, PiecewiseDecay


@dataclass(frozen=True)
class Schedule:
    """`schedule(step)` is the learning rate with which step 0, 1, 2 ... is made: ppdet's, as a function.

    A resume therefore needs no state. `total_batch` counts the images of one step over all cards, `total_steps` the
    steps of the run.
    """

    section: LearningRate
    steps_per_epoch: int
    total_batch: int
    total_steps: int

    @property
    def scaling(self) -> Scaling:
        return Scaling.of(self.section, self.total_batch)

    @property
    def peak(self) -> float:
        """The learning rate at the end of the warm-up."""
        return self.section.base_lr * self.scaling.factor

    @property
    def warmup_steps(self) -> int:
        decay = self.section.schedulers[0]
        assert isinstance(decay, CosineDecay | PiecewiseDecay)
        if len(self.section.schedulers) == 1 or not decay.use_warmup:
            return 0
        warmup = self.section.schedulers[1]
        assert isinstance(warmup, LinearWarmup)
        return max(1, warmup.steps if warmup.epochs is None else warmup.epochs * self.steps_per_epoch)

    def __call__(self, step: int) -> float:
        warmup = self.warmup_steps
        if step < warmup:
            ramp = self.section.schedulers[1]
            assert isinstance(ramp, LinearWarmup)
            part = step / warmup
            return self.peak * (ramp.start_factor * (1 - part) + part)
        decay = self.section.schedulers[0]
        if isinstance(decay, PiecewiseDecay):
            passed = sum(step >= milestone * self.steps_per_epoch for milestone in decay.milestones)
            return self.peak * (decay.gamma[passed - 1] if passed else 1.0)
        assert isinstance(decay, CosineDecay)
        end = decay.max_epochs * self.steps_per_epoch if decay.max_epochs else self.total_steps
        lowest, span = self.peak * decay.min_lr_ratio, max(1, end - warmup)
        return lowest + (self.peak - lowest) * (1 + math.cos(math.pi * min(1.0, (step - warmup) / span))) / 2
