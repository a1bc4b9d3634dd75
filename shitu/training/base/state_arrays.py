"""Networks and optimizers as arrays and back, named as the network names its parameters."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn


def arrays(layer: nn.Layer) -> dict[str, np.ndarray]:
    """Its state dict as numpy arrays."""
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def tensors(values: dict[str, np.ndarray]) -> dict[str, paddle.Tensor]:
    """As set_state_dict wants them."""
    return {name: paddle.to_tensor(value) for name, value in values.items()}


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
