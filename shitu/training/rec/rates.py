"""Learning rates that differ from layer to layer: groups of the Optimizer section, and decay towards the input."""

from __future__ import annotations

from collections.abc import Iterator

import paddle
from paddle import nn

from shitu.training.base.memory import numbers
from shitu.training.rec.blocks import blocks_of, rec_models
from shitu.training.rec.networks import is_below, not_there
from shitu.training.rec.schema_optimizer import Optimizer


def set_rates(section: Optimizer, network: nn.Layer) -> None:
    """Multiply the parameters' own rates, which Paddle's optimizers multiply the learning rate by.

    Layer decay: the last block of a backbone has `layer_decay` times the rate of neck and head, the one before it
    that times itself, and so on. Raises ConfigError where a group names nothing.
    """
    factors: dict[int, float] = {}
    for model in rec_models(network) if section.layer_decay < 1 else ():
        blocks = list(blocks_of(model.backbone))
        inside = {id(p): place for place, block in enumerate(blocks) for p in block.parameters()}
        for p in model.backbone.parameters():  # what stands in no block, such as a class token, is before the first
            factors[id(p)] = section.layer_decay ** (len(blocks) - inside.get(id(p), 0))
    for number, group in enumerate(section.groups):
        for wanted in group.names:
            below = [p for name, p in network.named_parameters() if is_below(name, wanted)]
            if not below:
                layers = [name for name, _ in network.named_sublayers()]
                raise not_there(f"Optimizer.groups.{number}.names", wanted, layers)
            factors |= {id(p): group.lr_mult for p in below}
    for parameter in network.parameters():
        parameter.optimize_attr["learning_rate"] *= factors.get(id(parameter), 1.0)


def rates_told(network: nn.Layer) -> Iterator[str]:
    """A line for each rate where there are several, with how many numbers learn at it."""
    found: dict[float, list[paddle.Tensor]] = {}
    for parameter in network.parameters():
        if not parameter.stop_gradient:
            found.setdefault(round(float(parameter.optimize_attr["learning_rate"]), 12), []).append(parameter)
    for rate, parameters in sorted(found.items()) if len(found) > 1 else ():
        yield f"learning rate  x {rate:<8.3g} for {numbers(parameters):,} of the numbers that learn"
