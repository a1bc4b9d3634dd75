"""What a training config says of its steps: batches, the learning rate at each, the optimizer. No image is read."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.errors import ConfigError
from shitu.training.base import plan
from shitu.training.base.plan import Scaling
from shitu.training.rec import schema
from shitu.training.rec.samplers import BatchSampler, build_sampler
from shitu.training.rec.schema import Constant, Cosine, LearningRate, Linear, Piecewise, Step, TrainConfig
from shitu.training.rec.schema_data import Data


@dataclass(frozen=True)
class Plan(plan.Plan):
    """With what makes the batches, and what the size of all of them does to the learning rate."""

    sampler: BatchSampler
    scaling: Scaling


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
    limit = scaling.iterations(lr, config.Global.max_iters)
    total_steps = min(config.Global.epochs * steps_per_epoch, limit or math.inf)
    return Plan(
        world=world,
        update_freq=update_freq,
        batch_size=section.batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=int(total_steps),
        scaling=scaling,
        schedule=Schedule(lr, scaling, steps_per_epoch, int(total_steps)),
        sampler=sampler,
    )


# --- the learning rate at each step -----------------------------------------------------------------------------


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


# --- the optimizer, with weight decay where it belongs ----------------------------------------------------------


def build_optimizer(section: schema.Optimizer, network: nn.Layer, losses: nn.Layer) -> paddle.optimizer.Optimizer:
    """The optimizer over all parameters that learn. Raises ConfigError where none does."""
    parameters = [p for p in (*network.parameters(), *losses.parameters()) if not p.stop_gradient]
    if not parameters:
        raise ConfigError("nothing is left to train: every parameter is frozen; see Arch.freeze_layers")
    exempt = set() if section.decay_bn_and_bias else undecayed(network)
    for parameter in parameters:
        if parameter.name in exempt:
            parameter.regularizer = L2Decay(0.0)
    clip = nn.ClipGradByGlobalNorm(section.clip_norm) if section.clip_norm else None
    decay = L2Decay(section.regularizer.coeff) if section.regularizer else None
    common: dict[str, Any] = {"learning_rate": 0.0, "parameters": parameters, "grad_clip": clip}
    if isinstance(section, schema.AdamW):
        return paddle.optimizer.AdamW(
            beta1=section.beta1,
            beta2=section.beta2,
            epsilon=section.epsilon,
            weight_decay=section.weight_decay,
            apply_decay_param_fun=lambda name: name not in exempt,
            **common,
        )
    common["weight_decay"] = decay
    if isinstance(section, schema.Adam):
        return paddle.optimizer.Adam(beta1=section.beta1, beta2=section.beta2, epsilon=section.epsilon, **common)
    if isinstance(section, schema.SGD):
        return paddle.optimizer.SGD(**common)
    assert isinstance(section, schema.Momentum)
    return paddle.optimizer.Momentum(momentum=section.momentum, use_nesterov=section.use_nesterov, **common)


def undecayed(network: nn.Layer) -> set[str]:
    """Names of the parameters without weight decay: those of norms, and biases."""
    names = set()
    for layer in network.sublayers(include_self=True):
        is_norm = "Norm" in type(layer).__name__
        for name, parameter in layer.named_parameters(include_sublayers=False):
            if is_norm or name == "bias":
                names.add(parameter.name)
    return names
