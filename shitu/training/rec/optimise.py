"""The optimizer, with weight decay where it belongs."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.errors import ConfigError
from shitu.training.rec import schema


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
