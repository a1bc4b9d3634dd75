"""What a training config says of its steps: batches, the learning rate at each, the optimizer. No image is read."""

from __future__ import annotations

import math
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.errors import ConfigError
from shitu.training.base import task
from shitu.training.base.task import Plan, Scaling
from shitu.training.rec import schema_optimizer as schema
from shitu.training.rec.rates import set_rates
from shitu.training.rec.samplers import build_sampler
from shitu.training.rec.schema import TrainConfig
from shitu.training.rec.schema_data import Data
from shitu.training.rec.schema_optimizer import (
    Constant,
    Cosine,
    LearningRate,
    Linear,
    MultiStepDecay,
    Piecewise,
    ReduceOnPlateau,
    Step,
)


def train_data(config: TrainConfig) -> Data:
    """DataLoader.Train. Raises ConfigError where it is missing."""
    if config.DataLoader.Train is None:
        raise ConfigError(f"{config.source} has no DataLoader.Train; it says which images to train on")
    return config.DataLoader.Train


def make_plan(config: TrainConfig, labels: np.ndarray, world: int) -> Plan:
    """`labels` (n,) int64, dense. Raises ConfigError where no batch can be made of them."""
    section, update_freq, lr = train_data(config).sampler, config.Global.update_freq, config.Optimizer.lr
    sampler = build_sampler(section, labels, streams=world * update_freq, seed=config.Global.seed)
    steps_per_epoch = len(sampler)
    if not steps_per_epoch:
        raise ConfigError(
            f"{len(labels)} images make no batch of {section.batch_size} for each of {world * update_freq} "
            "(cards x update_freq); lower DataLoader.Train.sampler.batch_size or set drop_last: False"
        )
    scaling = Scaling.of(lr, world * update_freq * section.batch_size)
    total_steps = min(config.Global.epochs * steps_per_epoch, most_steps(lr, scaling, config.Global.max_iters))
    return Plan(
        world=world,
        update_freq=update_freq,
        batch_size=section.batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        schedule=Schedule(lr, scaling, steps_per_epoch, total_steps),
        sampler=sampler,
    )


def most_steps(lr: LearningRate, scaling: Scaling, max_iters: int | None) -> int:
    """`max_iters`, by the inverse of the linear rule where scale_iters asks for that."""
    if max_iters is None:
        return sys.maxsize
    return max(1, round(max_iters / scaling.factor)) if lr.scale_iters else max_iters


class Schedule(task.Schedule):
    """The warm-up is linear and by step, and what follows spans the steps after it, as in PaddleClas's
    ppcls/optimizer/learning_rate.py.
    """

    def __init__(self, section: LearningRate, scaling: Scaling, steps_per_epoch: int, total_steps: int) -> None:
        super().__init__(section, scaling, steps_per_epoch, total_steps)
        self.peak = scaling.factor * (section.values[0] if isinstance(section, Piecewise) else section.learning_rate)
        self.warmup_steps = min(round(section.warmup_epoch * steps_per_epoch), total_steps)

    def __call__(self, step: int) -> float:
        section: LearningRate = self.section
        later = section.last_epoch + 1
        if section.by_epoch:
            step = (step // self.steps_per_epoch + later) * self.steps_per_epoch
        else:
            step += later
        return super().__call__(step)

    def warming(self, step: int) -> float:
        start: float = self.section.warmup_start_lr
        return start + (self.peak - start) * step / self.warmup_steps

    def decaying(self, step: int) -> float:
        section: LearningRate = self.section
        rate, after, span = self.peak, step - self.warmup_steps, max(1, self.total_steps - self.warmup_steps)
        if isinstance(section, Cosine):
            return section.eta_min + (rate - section.eta_min) * (1 + math.cos(math.pi * after / span)) / 2
        if isinstance(section, Linear):
            left: float = max(0.0, 1 - after / span) ** section.power
            return (rate - section.end_lr) * left + section.end_lr
        epoch = after / self.steps_per_epoch
        if isinstance(section, Step):
            return rate * section.gamma ** math.floor(epoch / section.step_size)
        if isinstance(section, Piecewise):
            return section.values[sum(epoch >= limit for limit in section.decay_epochs)] * self.scaling.factor
        if isinstance(section, MultiStepDecay):
            rate *= section.gamma ** sum(epoch >= limit for limit in section.milestones)
        elif isinstance(section, ReduceOnPlateau):
            rate = max(section.min_lr, rate * section.factor ** section.reductions(self.scores))
        else:
            assert type(section) in (Constant, LearningRate)
        return rate


def build_optimizer(section: schema.Optimizer, network: nn.Layer, losses: nn.Layer) -> paddle.optimizer.Optimizer:
    """The optimizer over all parameters that learn, each at its rate. To be called once for a network.

    Raises ConfigError where none learns.
    """
    apart = {each: _of_loss(losses, each.scope) for each in section.of_losses}
    named = {id(p) for parameters in apart.values() for p in parameters}
    both = (*network.parameters(), *losses.parameters())
    parameters = [p for p in both if not p.stop_gradient and id(p) not in named]
    if not parameters:
        raise ConfigError("nothing is left to train: every parameter is frozen; see Arch.freeze_layers")
    set_rates(section, network)
    exempt = undecayed(network, section)
    for parameter in parameters:
        if parameter.name in exempt:
            parameter.regularizer = L2Decay(0.0)
    clip: Any = nn.ClipGradByNorm(section.clip_norm) if section.clip_norm else None
    if section.clip_global_norm:
        clip = nn.ClipGradByGlobalNorm(section.clip_global_norm)
    # the keys that a kind has for itself are parameters of Paddle's class, which is called alike
    own: set[str] = {each.name for each in fields(section)} - {each.name for each in fields(schema.Optimizer)}
    options: dict[str, Any] = {name: getattr(section, name) for name in own}
    if isinstance(section, schema.AdamW):
        options["apply_decay_param_fun"] = lambda name: name not in exempt
    elif section.regularizer:
        options["weight_decay"] = L2Decay(section.regularizer.coeff)
    kind = getattr(paddle.optimizer, type(section).__name__)
    optimizer: paddle.optimizer.Optimizer = kind(0.0, parameters=parameters, grad_clip=clip, **options)
    if not apart:
        return optimizer
    others = [paddle.optimizer.SGD(each.lr.learning_rate, found) for each, found in apart.items()]
    return Together(optimizer, others)


def _of_loss(losses: nn.Layer, scope: str) -> list[paddle.Tensor]:
    found = [p for layer in losses.sublayers() if type(layer).__name__ == scope for p in layer.parameters()]
    if not found:
        raise ConfigError(f"Optimizer: the scope {scope} is no loss of Loss.Train that learns anything; leave it out")
    return found


class Together:
    """An optimizer, and others of a constant rate, which learn nothing that a resume would need. Not for AMP's O2."""

    def __init__(self, first: paddle.optimizer.Optimizer, others: list[paddle.optimizer.Optimizer]) -> None:
        self.first, self.others = first, others
        self._parameter_list = [p for each in (first, *others) for p in each._parameter_list]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

    def step(self) -> None:
        for each in (self.first, *self.others):
            each.step()

    def clear_grad(self) -> None:
        for each in (self.first, *self.others):
            each.clear_grad()


def undecayed(network: nn.Layer, section: schema.Optimizer) -> set[str]:
    """Paddle's names of the parameters without weight decay, beside those that a backbone exempts itself."""
    exempt = set()
    if not section.decay_bn_and_bias:
        exempt = {
            parameter.name
            for layer in network.sublayers(include_self=True)
            for name, parameter in layer.named_parameters(include_sublayers=False)
            if name == "bias" or "Norm" in type(layer).__name__
        }
    parts = (section.no_weight_decay_name or "").split()
    return exempt | {
        parameter.name
        for name, parameter in network.named_parameters()
        if any(part in name for part in parts) or (section.one_dim_param_no_weight_decay and len(parameter.shape) == 1)
    }
