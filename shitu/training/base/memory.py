"""How much memory a training step takes, estimated before the first one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    recomputed: Collection[nn.Layer] = (),
) -> Memory:
    """What `batch_size` images forward and backward need, in float32.

    Activations are the outputs of all innermost layers for one image, times the batch: backward keeps them. What lies
    between layers (sums, concatenations), the loss, and what the libraries take for themselves is not in it.
    Of `recomputed` blocks only the outputs are kept, and all that is within the largest, while it is computed again.
    optimizer_slots: numbers kept for each that learns, 1 for Momentum, 2 for Adam and AdamW, 0 for SGD.
    The network is left as it was.
    """
    learning = numbers(each for each in network.parameters() if not each.stop_gradient)
    return Memory(
        weights=FLOAT * numbers(network.state_dict().values()) * (2 if ema else 1),
        gradients=FLOAT * learning,
        optimizer=FLOAT * learning * optimizer_slots,
        activations=FLOAT * batch_size * _outputs(network, image_shape, recomputed),
    )


def numbers(tensors: Iterable[paddle.Tensor]) -> int:
    """How many there are in all."""
    return sum(math.prod(each.shape) for each in tensors)


def _outputs(network: nn.Layer, image_shape: Sequence[int], recomputed: Collection[nn.Layer]) -> int:
    """Numbers that are kept for one image."""
    inside = {id(layer): place for place, block in enumerate(recomputed) for layer in block.sublayers()}
    innermost = [layer for layer in network.sublayers(include_self=True) if not list(layer.children())]
    within = [0] * len(recomputed)

    def of_one(layer: nn.Layer, output: Any) -> int:
        count = math.prod(output.shape) if isinstance(output, paddle.Tensor) else 0
        if id(layer) not in inside:
            return count
        within[inside[id(layer)]] += count
        return 0

    with evaluation_mode(network):  # batch norms refuse to learn from one image
        kept = counted([*innermost, *recomputed], of_one, lambda: network(paddle.zeros([1, *image_shape])))
    return kept + max(within, default=0)


def counted(layers: Sequence[nn.Layer], count: Callable[[nn.Layer, Any], int], run: Callable[[], object]) -> int:
    """The sum of `count(layer, its output)` over all that the layers give while `run` runs."""
    found: list[int] = []

    def note(layer: nn.Layer, _: Any, output: Any) -> None:
        found.append(count(layer, output))

    hooks = [layer.register_forward_post_hook(note) for layer in layers]  # type: ignore[arg-type]
    try:
        with paddle.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(found)


@contextmanager
def evaluation_mode(network: nn.Layer) -> Iterator[None]:
    """`network.eval()` for the time being; then each layer is as before, frozen norms included."""
    layers = network.sublayers(include_self=True)
    before = [layer.training for layer in layers]
    network.eval()
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training
