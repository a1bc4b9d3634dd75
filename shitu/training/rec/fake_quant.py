"""Slim.quant: training sees the rounding of int8, and learns weights that bear it; they are saved in fp32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.memory import evaluation_mode
from shitu.training.rec.networks import DistillationModel, RecModel, part
from shitu.training.rec.schema import TrainConfig

STEPS = 255  # of an activation, uint8
MOST = 127  # of a weight, int8
math: Any = paddle  # its minimum and maximum have no types


class _Rounded:
    """A layer whose input and weight are rounded as by an int8 program, backwards as if they were not (Jacob et al.
    2018). The input's `range`, low and high, learns by what it cuts off (PACT, Choi et al. 2018).
    """

    channels: int  # the weight's axis of outputs, each with a step of its own

    def forward(self: Any, x: paddle.Tensor) -> paddle.Tensor:
        weight = self._parameters["weight"]
        self._parameters["weight"] = rounded_weight(weight, self.channels)
        try:
            output: paddle.Tensor = super().forward(rounded_input(x, self.range))  # type: ignore[misc]
        finally:
            self._parameters["weight"] = weight
        return output


class RoundedConv2D(_Rounded, nn.Conv2D):
    channels = 0


class RoundedLinear(_Rounded, nn.Linear):
    channels = 1


_TWINS: dict[type, type] = {nn.Conv2D: RoundedConv2D, nn.Linear: RoundedLinear}


def rounded_weight(weight: paddle.Tensor, channels: int) -> paddle.Tensor:
    """By output channel, symmetric, -127 to 127 steps."""
    others = [axis for axis in range(weight.ndim) if axis != channels]
    step = (weight.detach().abs().amax(axis=others, keepdim=True) / MOST).clip(min=1e-12)
    return weight + ((weight / step).round() * step - weight).detach()


def rounded_input(x: paddle.Tensor, ends: paddle.Tensor) -> paddle.Tensor:
    """Cut to `ends` (2,), low and high, with zero between them, and rounded to 255 steps, zero being one of them."""
    low, high = ends[0].clip(max=0.0), ends[1].clip(min=1e-6)
    cut: paddle.Tensor = math.maximum(math.minimum(x, high), low)
    step = ((high - low) / STEPS).detach()
    zero = (low.detach() / step).round()
    steps = math.maximum(math.minimum((cut / step).round(), zero + STEPS), zero)
    rounded: paddle.Tensor = cut + (steps * step - cut).detach()
    return rounded


def add_rounding(
    network: RecModel | DistillationModel, config: TrainConfig, images: Callable[[], paddle.Tensor] | None
) -> None:
    """Do what Slim.quant says, in place, with the model that is exported; its head, which is not, stays as it is.

    `images` () -> (n, 3, h, w): the ranges begin as what they excite; None: a checkpoint will set them. The checkpoint
    has a `range` for each layer beside its weights, which other readers leave alone. Raises ConfigError.
    """
    if not (config.Slim and config.Slim.quant):
        return
    model = part(network, config.Arch.inferring)
    layers = [each for each in _way(model).sublayers() if type(each) in _TWINS]
    if not layers:
        raise ConfigError("Slim.quant: the network has no plain convolution or linear layer to round; leave it out")
    for layer in layers:
        zero = nn.initializer.Constant(0.0)
        layer.add_parameter("range", layer.create_parameter([2], default_initializer=zero))
    if images is not None:
        hooks = [layer.register_forward_pre_hook(_widen) for layer in layers]
        with evaluation_mode(model), paddle.no_grad():
            model.embed(images())
        for hook in hooks:
            hook.remove()
    for layer in layers:
        layer.__class__ = _TWINS[type(layer)]


def _way(model: RecModel) -> nn.Layer:
    return nn.Sequential(model.backbone, *([model.neck] if model.neck else []))


def _widen(layer: Any, inputs: Any) -> Any:
    x = inputs[0]
    low, high = layer.range
    layer.range.set_value(paddle.stack([math.minimum(x.min(), low), math.maximum(x.max(), high)]))
