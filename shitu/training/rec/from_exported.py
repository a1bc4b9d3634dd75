"""Weights to train on from: an exported model's, whose batch norms are folded into its convolutions.

An export cannot be taken back: what a norm did is in the kernels. But a norm that changes nothing stands for it as long
as it goes by its running statistics: mean 0, variance 1 - epsilon, scale 1, and the folded bias for its own. Hence
Arch.freeze_norms. Considered: measuring each layer's statistics on photos, so that norms could go on by those of their
batches; the refinement of the bundled recogniser trained with standing norms, too (research/gpu_job), and did well.

The same of PP-LCNetV2's parallel branches, which the export joined: the largest of them gets the joined kernel, those
beside it begin at zero, and learn.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ConfigError, ModelError
from shitu.models import ModelFolder
from shitu.training.base.export import fuse_batch_norms, re_parameterise
from shitu.training.base.read_weights import LoadReport
from shitu.training.rec.features import Features, relative_difference
from shitu.training.rec.networks import NORMS, RecModel

AGREES = 1e-4  # of the largest value of the features, as an export is held to
Arrays = list[tuple[str, NDArray[np.float32]]]
_log = logging.getLogger("shitu")


def load_exported(network: RecModel, model: ModelFolder) -> LoadReport:
    """Set backbone and neck from the program of a model folder; only where the features are then the program's.

    Raises ConfigError where the norms are to learn, ModelError where the program is another network's.
    """
    if any(isinstance(layer, NORMS) and not getattr(layer, "stands_still", False) for layer in network.sublayers()):
        raise ConfigError(
            f"{model.path} is an exported model: its batch norms are folded away and cannot go on by the statistics of "
            "their batches; -o Arch.freeze_norms=True trains everything else"
        )
    program = paddle.jit.load(str(model.program.with_suffix("")))
    there = sorted(((_own_name(each.name), each.numpy()) for each in program.parameters()), key=_creation)
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    features = Features(network, "features")
    try:
        _set(features, there, model)
        _compare(features, program, model)
    except ModelError:
        network.set_state_dict({name: paddle.to_tensor(value) for name, value in before.items()})
        raise
    report = LoadReport(str(model.path), tuple(features.state_dict()), (), (), ())
    _log.info("%s", report)
    return report


def _own_name(name: str) -> str:
    """Paddle adds _0 to the names of a program that it loads, _1 when a process loads it again."""
    return re.sub(r"_\d+$", "", name)


def _creation(item: tuple[str, object]) -> tuple[str, int, str]:
    """Paddle's conv2d_7.w_0: by kind and number, the kernel first; names of a network's own stay as they sort."""
    found = re.fullmatch(r"([a-z_0-9]*[a-z])_(\d+)\.([wb])_0", item[0])
    return (found[1], int(found[2]), "ab"[found[3] == "b"]) if found else ("", 0, item[0])


def _created(features: nn.Layer) -> Callable[[str], tuple[str, int, str]]:
    """The place of `layer.weight` or `layer.bias` in the order in which layers were made, which an export's names tell.

    It is not that of the state dict where a network changes layers after it has made them (PPLCNetV2_base_ShiTu).
    """
    made = {name.removesuffix(".weight"): _creation((each.name, None)) for name, each in features.named_parameters()}

    def place(name: str) -> tuple[str, int, str]:
        layer, _, which = name.rpartition(".")
        kind, number, last = made.get(layer, ("", 0, name))
        return (kind, number, "ab"[which == "bias"]) if kind else ("", 0, last)

    return place


def _set(features: Features, there: Arrays, model: ModelFolder) -> None:
    folded, joined = copy.deepcopy(features), dict(_joined(features))
    if re_parameterise(folded) > len(joined):
        raise ModelError(f"{model.path}: its parallel branches were joined by the export and cannot be parted again")
    fuse_batch_norms(folded)
    wanted = [(name, tuple(value.shape)) for name, value in folded.state_dict().items()]
    named = dict(there)
    found = {name: named[name] for name, _ in wanted} if all(name in named for name, _ in wanted) else {}
    if not found and len(there) == len(wanted):
        in_order = sorted(folded.state_dict(), key=_created(features))
        found = {name: array for name, (_, array) in zip(in_order, there, strict=True)}
    if not found or any(found[name].shape != shape for name, shape in wanted):
        raise ModelError(f"{model.path} is another network than the config's Arch: its tensors are not those")
    own = features.state_dict()
    for name, array in found.items():
        if name in own:
            own[name].set_value(array)
    for name, branches in joined.items():
        for branch in branches:
            kernel, first = own[f"{branch}.conv.weight"], branch == branches[0]
            kernel.set_value(found[f"{name}.weight"] if first else np.zeros(kernel.shape, np.float32))
            found[f"{branch}.conv.bias"] = found[f"{name}.bias"] * first
    for conv, norm in _pairs(features):
        layer = dict(features.named_sublayers())[norm]
        layer.weight.set_value(np.ones(layer.weight.shape, np.float32))
        layer.bias.set_value(found[f"{conv}.bias"])
        layer._mean.set_value(np.zeros(layer._mean.shape, np.float32))
        layer._variance.set_value(np.full(layer._variance.shape, 1 - layer._epsilon, np.float32))


def _joined(features: nn.Layer) -> Iterator[tuple[str, list[str]]]:
    """Of PaddleClas's RepDepthwiseSeparable: the convolution that an export makes of its branches, and these."""
    for prefix, layer in features.named_sublayers():
        if hasattr(layer, "dw_conv_list"):
            yield f"{prefix}.dw_conv", [f"{prefix}.dw_conv_list.{i}" for i in range(len(layer.dw_conv_list))]


def _pairs(features: nn.Layer) -> Iterator[tuple[str, str]]:
    """Names of each convolution and the norm that fuse_batch_norms folds into it."""
    for prefix, layer in features.named_sublayers(include_self=True):
        conv, begin = "", f"{prefix}." if prefix else ""
        for name, child in layer.named_children():
            if isinstance(child, nn.Conv2D):
                conv = name
            elif conv and isinstance(child, nn.BatchNorm | nn.BatchNorm2D):
                yield f"{begin}{conv}", f"{begin}{name}"
                conv = ""


def _compare(features: Features, program: nn.Layer, model: ModelFolder) -> None:
    size = model.card.preprocess.size if model.card.preprocess else (224, 224)
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32))
    alone = copy.deepcopy(features)  # the mode of the network itself is the caller's
    alone.eval()
    program.eval()
    with paddle.no_grad():
        difference = relative_difference(alone(x).numpy(), program(x).numpy())
    if not difference <= AGREES:
        raise ModelError(
            f"{model.path} is another network than the config's Arch: the features differ by {difference:.1e} of the "
            f"largest, {AGREES:.0e} is allowed"
        )
