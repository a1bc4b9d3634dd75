"""What a detector's config says of its steps: batches, the learning rate at each, the optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.training.base import task
from shitu.training.base.task import Scaling
from shitu.training.det.batches import Order
from shitu.training.det.coco_data import DetData
from shitu.training.det.schema import (
    CosineDecay,
    DetConfig,
    LearningRate,
    LinearWarmup,
    OptimizerBuilder,
    PiecewiseDecay,
)


@dataclass(frozen=True)
class Plan(task.Plan):
    """With what makes the batches."""

    order: Order
    schedule: Schedule


def make_plan(config: DetConfig, data: DetData, world: int) -> Plan:
    """Raises ConfigError where the images do not fill one batch."""
    reader = config.TrainReader
    order = Order(len(data), reader.batch_size, world, config.seed, reader.shuffle)
    steps = len(order)
    total = min(config.epoch * steps, config.max_iters or config.epoch * steps)
    return Plan(
        world=world,
        update_freq=1,
        batch_size=reader.batch_size,
        steps_per_epoch=steps,
        total_steps=total,
        schedule=Schedule(config.LearningRate, steps, world * reader.batch_size, total),
        order=order,
    )


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


def build_optimizer(section: OptimizerBuilder, network: nn.Layer) -> paddle.optimizer.Optimizer:
    """Over all that learn. ppdet's layers already say which have no weight decay, and which learn twice as fast."""
    kind = section.optimizer
    parameters = [each for each in network.parameters() if not each.stop_gradient]
    clip = nn.ClipGradByGlobalNorm(section.clip_grad_by_norm) if section.clip_grad_by_norm else None
    if kind.type == "AdamW":
        return paddle.optimizer.AdamW(0.0, parameters=parameters, weight_decay=kind.weight_decay, grad_clip=clip)
    decay = L2Decay(section.regularizer.factor) if section.regularizer else None
    return paddle.optimizer.Momentum(
        0.0, kind.momentum, parameters, use_nesterov=kind.use_nesterov, weight_decay=decay, grad_clip=clip
    )
