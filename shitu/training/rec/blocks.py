"""The blocks of a backbone in their order: what is computed again instead of kept, and whose rates decay downwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from shitu.training.rec.networks import RecModel


def rec_models(network: nn.Layer) -> list[RecModel]:
    """The network itself, or those of a DistillationModel."""
    return [layer for layer in network.sublayers(include_self=True) if isinstance(layer, RecModel)]


def blocks_of(layer: nn.Layer) -> Iterator[nn.Layer]:
    """Children as defined, or the children of those that only hold others; with parameters, and none in another."""
    for child in layer.children():
        if type(child) in (nn.LayerList, nn.Sequential):
            yield from blocks_of(child)
        elif child.parameters():
            yield child


def recomputable(network: nn.Layer) -> list[nn.Layer]:
    """The blocks of all backbones but those that hold no other layers: these would save nothing."""
    return [block for model in rec_models(network) for block in blocks_of(model.backbone) if list(block.children())]


def recompute_blocks(network: nn.Layer) -> None:
    """Let the backbones keep only the inputs of their blocks, and compute the rest again in the backward pass.

    Gradient checkpointing (Chen et al. 2016) by Paddle's `recompute`: losses, gradients and the norms' running
    statistics stay what they are.
    """
    for block in recomputable(network):
        block.forward = partial(_recomputed, block)  # type: ignore[method-assign]  # a deep copy takes its own block along


def _recomputed(block: nn.Layer, x: paddle.Tensor) -> Any:
    plain, before = partial(type(block).forward, block), []

    def once(x: paddle.Tensor) -> Any:
        before.append(True)
        if len(before) == 1:
            return plain(x)
        with _statistics_kept(block):
            return plain(x)

    # what has nothing before it that learns would not be asked for its gradients
    if x.stop_gradient or not paddle.is_grad_enabled():
        return plain(x)
    return recompute(once, x)


@contextmanager
def _statistics_kept(block: nn.Layer) -> Iterator[None]:
    """Norms see the batch a second time: their running statistics have it already."""
    norms = [(layer, layer._momentum) for layer in block.sublayers() if hasattr(layer, "_momentum")]
    for norm, _ in norms:
        norm._momentum = 1.0  # Paddle's is the share of the old
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm._momentum = momentum
