"""What a detector's config says of its steps: batches, the learning rate at each, the optimizer."""

from __future__ import annotations

import math

import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.training.base import task
from shitu.training.base.task import Plan, Scaling
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


def make_plan(config: DetConfig, data: DetData, world: int) -> Plan:
    """Raises ConfigError where the images do not fill one batch."""
    reader = config.TrainReader
    order = Order(len(data), reader.batch_size, world, config.seed, reader.shuffle)
    steps = len(order)
    total = min(config.epoch * steps, config.max_iters or config.epoch * steps)
    batch = world * reader.batch_size
    schedule = Schedule(config.LearningRate, Scaling.of(config.LearningRate, batch), steps, total)
    return Plan(world, 1, reader.batch_size, steps_per_epoch=steps, total_steps=total, schedule=schedule, sampler=order)


class Schedule(task.Schedule):
    """ppdet's, as a function."""

    def __init__(self, section: LearningRate, scaling: Scaling, steps_per_epoch: int, total_steps: int) -> None:
        super().__init__(section, scaling, steps_per_epoch, total_steps)
        self.peak = section.base_lr * scaling.factor
        decay, *ramps = section.schedulers
        assert isinstance(decay, CosineDecay | PiecewiseDecay)
        self.decay, self.ramp = decay, LinearWarmup(steps=0)
        self.warmup_steps = 0
        for ramp in ramps if decay.use_warmup else ():
            assert isinstance(ramp, LinearWarmup)
            self.ramp = ramp
            self.warmup_steps = max(1, ramp.steps if ramp.epochs is None else ramp.epochs * steps_per_epoch)

    def warming(self, step: int) -> float:
        part = step / self.warmup_steps
        return self.peak * (self.ramp.start_factor * (1 - part) + part)

    def decaying(self, step: int) -> float:
        decay = self.decay
        if isinstance(decay, PiecewiseDecay):
            passed = sum(step >= milestone * self.steps_per_epoch for milestone in decay.milestones)
            return self.peak * (decay.gamma[passed - 1] if passed else 1.0)
        end = decay.max_epochs * self.steps_per_epoch if decay.max_epochs else self.total_steps
        lowest, span = self.peak * decay.min_lr_ratio, max(1, end - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / span)
        return lowest + (self.peak - lowest) * (1 + math.cos(math.pi * done)) / 2


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
