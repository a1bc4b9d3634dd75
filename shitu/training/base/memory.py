"""How much memory a training step takes, estimated before the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn

FLOAT = 4  # bytes; mixed precision needs less


@dataclass(frozen=True)
class Memory:
    """Bytes on one card; weights include running statistics and moving averages, activations are layers' outputs."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(
    network: nn.Layer,
    batch_size: int,
    *,
    image_shape: Sequence[int] = (3, 224, 224),
    optimizer_slots: int = 1,
    ema: bool = False,
) -> Memory:
    """What `batch_size` images forward and backward need, in float32.

    Activations are the outputs of all innermost layers for one image, times the batch: backward keeps them. What lies
    between layers (sums, concatenations), the loss, and what the libraries take for themselves is not in it.
    optimizer_slots: numbers kept for each that learns, 1 for Momentum, 2 for Adam and AdamW, 0 for SGD.
    The network is left as it was.
    """
    all_numbers = sum(math.prod(each.shape) for each in network.state_dict().values())
    learning = sum(math.prod(each.shape) for each in network.parameters() if not each.stop_gradient)
    return Memory(
        weights=FLOAT * all_numbers * (2 if ema else 1),
        gradients=FLOAT * learning,
        optimizer=FLOAT * learning * optimizer_slots,
        activations=FLOAT * batch_size * _outputs(network, image_shape),
    )


def _outputs(network: nn.Layer, image_shape: Sequence[int]) -> int:
    """Numbers that all innermost layers give for one image."""
    layers = network.sublayers(include_self=True)
    counted: list[int] = []

    def count(_: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, paddle.Tensor):
            counted.append(math.prod(output.shape))

    hooks = [layer.register_forward_post_hook(count) for layer in layers if not list(layer.children())]
    before = [layer.training for layer in layers]
    try:
        network.eval()  # batch norms refuse to learn from one image
        with paddle.no_grad():
            network(paddle.zeros([1, *image_shape]))
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in zip(layers, before, strict=True):
            layer.training = training
    return sum(counted)
