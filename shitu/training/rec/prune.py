"""Slim.prune: the inner channels of inverted bottlenecks that matter least are taken out, before it learns again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.memory import evaluation_mode
from shitu.training.rec import schema
from shitu.training.rec.networks import DistillationModel, RecModel, part
from shitu.training.rec.schema import TrainConfig

MULTIPLE = 8  # channels that stay are a multiple of it: kernels work on so many at once
CLOSE = 1e-4  # of the largest value, as for an export
Floats = NDArray[np.float32]
log = logging.getLogger("shitu")


@dataclass
class Bottleneck:
    """`widen` (1 x 1) makes channels that `within`, depthwise convolutions and norms, takes on one by one, and that
    nothing sees but `readers`: the convolution after them, and that of a squeeze-and-excitation, whose other one stands
    in `gates`.
    """

    widen: Any
    within: list[Any] = field(default_factory=list)
    gates: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)


def prune(network: RecModel | DistillationModel, config: TrainConfig) -> None:
    """Do what Slim.prune says, in place, with the model that is exported; names stay, shapes follow from the ratio
    alone. Raises ConfigError where the network has nothing to prune, or would be another one without it.
    """
    section = config.Slim.prune if config.Slim else None
    if section is None:
        return
    backbone = part(network, config.Arch.inferring).backbone
    name = config.Arch.parts()[config.Arch.inferring].Backbone.name
    found = find_bottlenecks(backbone, config.Global.image_shape)
    if not found:
        raise ConfigError(
            f"Slim.prune: {name} has no inverted bottleneck (1 x 1, depthwise, 1 x 1), whose inner channels could be "
            "pruned; leave Slim.prune out or name a network with such blocks, EfficientNetLite0 or MobileNetV3"
        )
    before = sum(each.widen.weight.shape[0] for each in found)
    chosen = [kept_channels(each.widen.weight.numpy(), section) for each in found]
    image = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, *config.Global.image_shape)).astype("float32"))
    for each, kept in zip(found, chosen, strict=True):
        _silence(each, kept)
    wanted = _run(backbone, image)
    for each, kept in zip(found, chosen, strict=True):
        _take_out(each, kept)
    try:
        same = float((_run(backbone, image) - wanted).abs().max()) <= CLOSE * float(wanted.abs().max())
    except (ValueError, RuntimeError):
        same = False
    if not same:
        raise ConfigError(f"Slim.prune: something else reads the inner channels of {name}; leave Slim.prune out")
    log.info("Slim.prune: %d of %d inner channels of %d blocks are left", sum(map(len, chosen)), before, len(found))


def find_bottlenecks(backbone: nn.Layer, image_shape: Sequence[int]) -> list[Bottleneck]:
    """In the order in which an image of zeros (3, h, w) passes them."""
    seen: list[tuple[Any, bool]] = []  # convolutions and norms; whether of single pixels
    note: Any = lambda layer, _, output: seen.append((layer, output.shape[2:] == [1, 1]))  # noqa: E731
    hooks = [
        layer.register_forward_post_hook(note)
        for layer in backbone.sublayers()
        if isinstance(layer, nn.Conv2D | nn.BatchNorm | nn.BatchNorm2D)
    ]
    try:
        _run(backbone, paddle.zeros([1, *image_shape]))
    finally:
        for hook in hooks:
            hook.remove()
    convs = [number for number, (layer, _) in enumerate(seen) if isinstance(layer, nn.Conv2D)]
    found = []
    for place, number in enumerate(convs):
        widen, rest = seen[number][0], [seen[each] for each in convs[place + 1 :]]
        width = widen.weight.shape[0]
        deep = 0
        while deep < len(rest) and rest[deep][0]._groups == width == rest[deep][0].weight.shape[0]:
            deep += 1
        if not deep or widen._groups != 1 or tuple(widen.weight.shape[2:]) != (1, 1):
            continue
        after = [layer for layer, _ in rest[deep : deep + 3]]
        squeezed = len(after) == 3 and all(pixel for _, pixel in rest[deep : deep + 2])
        gates = [after[1]] if squeezed and after[1].weight.shape[0] == width != after[0].weight.shape[0] else []
        readers = [after[0], after[2]] if gates else after[:1]
        if readers and all(each._groups == 1 and each.weight.shape[1] == width for each in readers):
            within = [layer for layer, _ in seen[number + 1 : convs[place + deep + 1]]]
            found.append(Bottleneck(widen, within, gates, readers))
    return found


def kept_channels(weight: Floats, section: schema.Prune) -> NDArray[np.int64]:
    """The numbers of the filters (outputs, inputs, 1, 1) that stay, rising.

    `l1_norm` drops those of the smallest sum of absolute values (Li et al. 2017), `fpgm` those with the smallest sum of
    distances to all others, which these can stand in for (He et al. 2019).
    """
    filters = weight.reshape(len(weight), -1).astype(np.float64)
    if section.name == "l1_norm":
        worth = np.abs(filters).sum(axis=1)
    else:
        squares = (filters**2).sum(axis=1)
        squared = squares[:, None] + squares[None] - 2 * filters @ filters.T
        worth = np.sqrt(np.maximum(squared, 0)).sum(axis=1)
    count = round(len(filters) * (1 - section.pruned_ratio) / MULTIPLE) * MULTIPLE
    return np.sort(np.argsort(-worth, kind="stable")[: max(count, min(MULTIPLE, len(filters)))])


def _silence(block: Bottleneck, kept: NDArray[np.int64]) -> None:
    """Nobody hears the channels that will be taken out: then it makes no difference that they are."""
    heard = np.zeros((1, block.widen.weight.shape[0], 1, 1), np.float32)
    heard[:, kept] = 1
    for each in block.readers:
        each.weight.set_value(each.weight * paddle.to_tensor(heard))


def _take_out(block: Bottleneck, kept: NDArray[np.int64]) -> None:
    for layer in (block.widen, *block.within, *block.gates):
        for holder in (layer._parameters, layer._buffers):
            for name, value in list(holder.items()):
                if value is not None:
                    _replace(layer, holder, name, value.numpy()[kept])
        if isinstance(layer, nn.Conv2D):
            layer._out_channels = len(kept)
            if layer in block.within:
                layer._groups = layer._in_channels = len(kept)
        else:
            layer._num_features = len(kept)
    for layer in block.readers:
        _replace(layer, layer._parameters, "weight", layer.weight.numpy()[:, kept])
        layer._in_channels = len(kept)


def _replace(layer: Any, holder: dict[str, Any], name: str, value: Floats) -> None:
    """A tensor cannot change its shape."""
    old = holder[name]
    if not isinstance(old, paddle.base.framework.EagerParamBase):
        holder[name] = paddle.to_tensor(value)
        return
    new = layer.create_parameter(list(value.shape), default_initializer=nn.initializer.Assign(value))
    new.stop_gradient, new.optimize_attr, new.regularizer = old.stop_gradient, old.optimize_attr, old.regularizer
    holder[name] = new


def _run(backbone: nn.Layer, image: paddle.Tensor) -> paddle.Tensor:
    with evaluation_mode(backbone), paddle.no_grad():
        output: paddle.Tensor = backbone(image)
    return output
