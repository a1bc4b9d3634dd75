"""The optimizer: weight decay where it belongs, gradients summed over processes, a state that names its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.errors import ConfigError
from shitu.train import schema

_BUCKET = 32 * 2**20  # bytes of gradients sent at once


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


def average_gradients(parameters: Iterable[paddle.Tensor], world: int) -> None:
    """Make every process's gradients the mean over all of them; a parameter without gradient counts as zero.

    After the last of the accumulated batches and in large buckets: simpler than paddle.DataParallel, which has to be
    told of parameters that a step leaves out.
    """
    if world == 1:
        return
    bucket: list[paddle.Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.stop_gradient:
            continue
        bucket.append(parameter)
        size += int(np.prod(parameter.shape)) * 4
        if size >= _BUCKET:
            _average(bucket, world)
            bucket, size = [], 0
    if bucket:
        _average(bucket, world)


def _average(bucket: list[paddle.Tensor], world: int) -> None:
    gradients = [paddle.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    flat = paddle.concat([gradient.reshape([-1]) for gradient in gradients])
    paddle.distributed.all_reduce(flat)
    parts = paddle.split(flat / world, [int(np.prod(p.shape)) for p in bucket])
    for parameter, part in zip(bucket, parts, strict=True):
        parameter.grad = part.reshape(parameter.shape)


def optimizer_state(optimizer: paddle.optimizer.Optimizer, network: nn.Layer) -> dict[str, np.ndarray]:
    """Its accumulators by the names that parameters have in the network; Paddle's own count up within a process."""
    owners = sorted(((p.name, name) for name, p in network.named_parameters()), key=lambda pair: -len(pair[0]))
    state: dict[str, np.ndarray] = {}
    values = optimizer.state_dict()
    masters = values.pop("master_weights", {})
    values.pop("LR_Scheduler", None)
    for kind, tensors in (("", values), ("master/", masters)):
        for key, tensor in tensors.items():
            own, name = next((pair for pair in owners if key.startswith(pair[0])), ("", ""))
            state[f"{kind}{name}|{key[len(own) :]}"] = tensor.numpy()
    return state


def set_optimizer_state(optimizer: paddle.optimizer.Optimizer, network: nn.Layer, state: dict[str, np.ndarray]) -> None:
    """The inverse of `optimizer_state`; for an optimizer that has not made a step."""
    own = {name: p.name for name, p in network.named_parameters()}
    values: dict[str, object] = {}
    masters: dict[str, object] = {}
    for key, array in state.items():
        name, _, suffix = key.rpartition("|")
        target = masters if name.startswith("master/") else values
        target[own.get(name.removeprefix("master/"), "") + suffix] = paddle.to_tensor(array)
    if masters:
        values["master_weights"] = masters
    optimizer.set_state_dict(values)
