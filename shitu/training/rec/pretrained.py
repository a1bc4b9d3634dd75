"""Weights from a file, a name or an address into a network, with a report of what went where."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ConfigError, DownloadError, ModelError
from shitu.models import ModelFolder, open_model
from shitu.models.folder import model_homes
from shitu.models.model_yaml import MODEL_YAML
from shitu.training.base.read_weights import SUFFIX, LoadReport, fetched, load_fitting, read_arrays, some, weights_home
from shitu.training.rec.backbones import known_names, model_url
from shitu.training.rec.networks import DistillationModel, RecModel, part
from shitu.training.rec.schema import TrainConfig
from shitu.training.rec.schema_arch import Arch, Backbone

IN_FOLDER = "weights.pdparams"  # where a model folder keeps them, if it does
_log = logging.getLogger("shitu")
_ADDRESS = ("https://", "http://")
_LEAST_SHARE = 0.1  # below it, the names that fit do so by chance


def load_weights(network: nn.Layer, source: str, *, strict_heads: bool = False) -> LoadReport:
    """Set what of the network's parameters and running statistics `source` has, and log what that was.

    `source`: a .pdparams, with or without its suffix; a model folder, or the name of one, with weights.pdparams; the
    name of a network of PaddleClas, whose ImageNet weights are then downloaded. Names in the file may be those of the
    network, of its backbone alone, or of a DistillationModel, whose student is taken; a DistillationModel takes what
    is one model's for each of its models. A head of another size is left out with a warning unless `strict_heads`.

    Raises ModelError where there is no such file, where nothing in it fits, and where it is of another shape.
    """
    path, names = find_weights(source), list(network.state_dict())
    match = _best_match(read_arrays(path), names, network)

    def check(report: LoadReport) -> None:
        _check(report, names, match.of_backbone, strict_heads)

    report = load_fitting(network, path, match.tensors, check, unexpected=match.unexpected)
    (_log.warning if report.other_shape or report.missing else _log.info)("%s", report)
    return report


def load_named(network: RecModel | DistillationModel, config: TrainConfig) -> list[LoadReport]:
    """Global.pretrained_model; without it, what Arch itself names: that of the whole network makes these needless.

    An exported model (a folder, or the name of one) fills backbone and neck; `freeze` has been at the network.
    """
    source = config.Global.pretrained_model
    if source and isinstance(network, RecModel) and (model := _exported(source)):
        from shitu.training.rec.from_exported import load_exported

        return [load_exported(network, model)]
    if source:
        return [load_weights(network, source)]
    return load_start_weights(network, config.Arch)


def start_from(network: RecModel | DistillationModel, config: TrainConfig) -> None:
    """Set what a run starts from. `freeze` has been at the network.

    Raises as load_named, and ConfigError where layers are frozen that nothing was loaded into.
    """
    if not load_named(network, config) and config.Arch.freeze_layers:
        raise ConfigError(
            "Arch.freeze_layers, but no weights to start from: layers of random numbers would stay so. Name some: "
            "-o Global.pretrained_model=efficientnet_lite0_512 (or the path of a .pdparams)"
        )


def _exported(source: str) -> ModelFolder | None:
    """The model folder that is meant, where it has no weights to train on beside its program."""
    path = Path(source).expanduser()
    folders = [path, *(home / path.name for home in model_homes() if path.name == source)]
    for folder in folders:
        if (folder / MODEL_YAML).is_file() and not (folder / IN_FOLDER).is_file():
            return open_model(str(folder), task="recognition")
    return None


def to_fetch(config: TrainConfig) -> list[str]:
    """Addresses that `start_from` would download from."""
    urls: list[str] = []
    if source := config.Global.pretrained_model:
        urls += [source] * source.startswith(_ADDRESS)
        named = source in known_names() and not Path(source).exists() and not Path(f"{source}{SUFFIX}").exists()
        sections = [Backbone(name=source)] if named else []
    else:
        backbones = [each.Backbone for each in config.Arch.parts().values()]
        sections = [each for each in backbones if each.pretrained == "True"]
        urls += [each.pretrained for each in backbones if each.pretrained and each.pretrained.startswith(_ADDRESS)]
    urls += [url for each in sections if (url := model_url(each))]
    return [url for url in dict.fromkeys(urls) if not weights_home(url).is_file()]


def load_start_weights(network: RecModel | DistillationModel, arch: Arch) -> list[LoadReport]:
    """What the Arch section itself names: Backbone.pretrained of each model, and DistillationModel.pretrained_list.

    Raises as load_weights does, and DownloadError.
    """
    reports = []
    for name, section in arch.parts().items():
        if (source := section.Backbone.pretrained) is not None:
            source = str(fetch_imagenet(section.Backbone)) if source == "True" else source
            reports.append(load_weights(part(network, name).backbone, source))
    for name, whole in zip(arch.parts(), getattr(arch, "pretrained_list", None) or (), strict=False):
        if whole:
            reports.append(load_weights(part(network, name), whole))
    return reports


def find_weights(source: str) -> Path:
    """The file that a path, a name or an address stands for. Raises ModelError; DownloadError for the latter two."""
    if source.startswith(_ADDRESS):
        return _fetch(source)
    try:
        path = Path(source).expanduser()
        folders = [path, *(home / path.name for home in model_homes() if path.name)]
        for candidate in (path, Path(f"{path}{SUFFIX}"), *(folder / IN_FOLDER for folder in folders)):
            if candidate.is_file():
                return candidate
    except (OSError, RuntimeError) as error:  # a name too long, a folder closed to us, ~nobody
        raise ModelError(f"{source[:200]}: no usable path of weights: {error}; give that of a {SUFFIX}") from error
    if source in known_names():
        return fetch_imagenet(Backbone(name=source))
    if path.is_dir():
        held = sorted(each.name for each in path.glob(f"*{SUFFIX}"))
        hint = (
            f"name one of its files: {', '.join(held)}" if held else f"it holds no {SUFFIX}, from which one can train"
        )
        raise ModelError(f"{path} is a folder without {IN_FOLDER}; {hint}")
    beside = [each.name for each in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1) or get_close_matches(source, known_names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"a {SUFFIX}, a model folder or a network's name is wanted"
    raise ModelError(f"no weights {source}: there is no such file, with or without {SUFFIX}; {hint}")


def fetch_imagenet(section: Backbone) -> Path:
    """PaddleClas's ImageNet weights of a backbone, downloaded at the first time. Raises ConfigError, DownloadError."""
    url = model_url(section)
    if url is None:
        raise ConfigError(
            f"Arch.Backbone.pretrained: no ImageNet weights of {section.name} are published; give the path of a "
            f"{SUFFIX}, or set Arch.Backbone.pretrained=False"
        )
    return _fetch(url)


def _fetch(url: str) -> Path:
    try:
        return fetched(url)
    except (DownloadError, OSError) as error:
        raise DownloadError(
            f"{error}. Download {url} by hand to {weights_home(url)}, or set Arch.Backbone.pretrained=False (or to "
            f"the path of a {SUFFIX})"
        ) from error


@dataclass(frozen=True)
class _Match:
    """`tensors` by the network's names; `of_backbone`: the file is a backbone's, ImageNet weights as a rule."""

    tensors: Mapping[str, NDArray[Any]]
    unexpected: tuple[str, ...]
    of_backbone: bool


def _best_match(state: Mapping[str, NDArray[Any]], own: list[str], network: nn.Layer) -> _Match:
    """Of all ways to read the file's names, the one by which most of the network is found; first wins."""
    known = set(own)
    best = _Match({}, tuple(state), False)
    for begin, targets in _readings(state, network):
        tensors, unexpected = {}, []
        for name, array in state.items():
            inner = name[len(begin) :] if name.startswith(begin) else None
            places = [f"{target}{inner}" for target in targets if inner and f"{target}{inner}" in known]
            tensors.update(dict.fromkeys(places, array))
            if inner and not places:
                unexpected.append(name)
        if len(tensors) > len(best.tensors):
            bare = not isinstance(network, RecModel | DistillationModel)
            best = _Match(tensors, tuple(unexpected), bare or any("backbone." in target for target in targets))
    return best


def _readings(state: Iterable[str], network: nn.Layer) -> Iterator[tuple[str, list[str]]]:
    """Pairs of what to take off the file's names and what to put before them."""
    models = [f"{name}." for name, _ in network.named_children()] if isinstance(network, DistillationModel) else [""]
    targets = [[""], models, [f"{model}backbone." for model in models]]
    firsts = dict.fromkeys(f"{name.partition('.')[0]}." for name in state)
    begins = ["", *sorted(firsts, key=lambda first: first != "Student.")]
    begins += [f"{first}backbone." for first in begins[1:]]
    for begin in begins:
        for target in targets:
            yield begin, target


def _check(report: LoadReport, own: list[str], of_backbone: bool, strict_heads: bool) -> None:
    other = {each.split(" ")[0] for each in report.other_shape}
    if len(report.loaded) < _LEAST_SHARE * (len(report.loaded) + len(report.missing) + len(other)):
        fits = f"only {some(report.loaded)}" if report.loaded else "nothing in it"
        raise ModelError(
            f"{report.source}: {fits} fits: it has {some(report.other_shape or report.unexpected) or 'no tensors'}; "
            f"the network has {some(tuple(own))}. Name weights of the same network"
        )
    if of_backbone:
        # ImageNet weights of PPLCNetV2_base: ShiTu's last convolution is narrower, the classifier is cut off
        order = {name: place for place, name in enumerate(own)}
        last_loaded = max(order[name] for name in report.loaded)
        wrong = {name for name in other if order[name] < last_loaded}
    else:
        wrong = {name for name in other if strict_heads or not _is_head(name)}
    if wrong:
        told = some(tuple(each for each in report.other_shape if each.split(" ")[0] in wrong))
        raise ModelError(f"{report.source} is of another shape: {told}; name one that was saved from this network")


def _is_head(name: str) -> bool:
    """head.* of a RecModel, Student.head.* and its like of a DistillationModel; not a backbone's own layer `head`."""
    return "head" in name.split(".")[:2] and "backbone" not in name.split(".")[:2]
