"""How large a network is: its parameters, and its multiply-adds, counted while one image goes through."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn

from shitu.training.base.fuse import re_parameterise
from shitu.training.base.memory import counted, evaluation_mode
from shitu.training.rec.networks import DistillationModel, RecModel


@dataclass(frozen=True)
class NetworkSize:
    """Of several models (distillation) the sum.

    macs: multiply-adds of convolutions and linear layers for one image up to the features, without the head, as
    trained; macs_exported: the same once the re-parameterisable branches are one.
    """

    parameters: int
    trainable: int
    head: int
    macs: int
    macs_exported: int


def describe(network: RecModel | DistillationModel, image_shape: Sequence[int] = (3, 224, 224)) -> NetworkSize:
    """Count. Zeros go through in evaluation mode, and the network is left as it was.

    With hooks of our own, since paddle.flops counts norms and activations, too, and prints.
    """
    models = [network] if isinstance(network, RecModel) else list(network.children())
    return NetworkSize(
        parameters=_count(network.parameters()),
        trainable=_count(each for each in network.parameters() if not each.stop_gradient),
        head=sum(_count(model.head.parameters()) for model in models if model.head is not None),
        macs=sum(_macs(model.backbone, model.neck, image_shape) for model in models),
        macs_exported=sum(_macs(_fused(model.backbone), model.neck, image_shape) for model in models),
    )


def _count(parameters: Any) -> int:
    return sum(math.prod(each.shape) for each in parameters)


def _fused(backbone: nn.Layer) -> nn.Layer:
    fused = copy.deepcopy(backbone)
    re_parameterise(fused)
    return fused


def _macs(backbone: nn.Layer, neck: nn.Layer | None, image_shape: Sequence[int]) -> int:
    way = nn.Sequential(backbone, *([neck] if neck else []))
    layers = [layer for layer in way.sublayers() if isinstance(layer, nn.Conv2D | nn.Linear)]

    def products(layer: Any, output: Any) -> int:
        # each value of the output is a sum of as many products as one row of the weight has numbers
        each = math.prod(layer.weight.shape[1:]) if isinstance(layer, nn.Conv2D) else layer.weight.shape[0]
        return int(math.prod(output.shape) * each)

    with evaluation_mode(way):
        return counted(layers, products, lambda: way(paddle.zeros([1, *image_shape])))
