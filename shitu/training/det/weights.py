"""Weights from a .pdparams into a detector: a backbone's or a whole detector's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddle import nn

from shitu.errors import ConfigError, ModelError, UsageError
from shitu.training.base.read_weights import SUFFIX, LoadReport, fetched, load_fitting, read_arrays, some


def load_pretrained(network: nn.Layer, source: str) -> LoadReport:
    """What fits of a start: a whole detector's weights, or a backbone's such as LCNet's from ImageNet.

    Its outputs may be of another number of classes: they then keep their initial values. `source` is a path, or an
    address, which is downloaded once. Raises ModelError where anything else is of another shape.
    """
    path = fetched(source) if "://" in source else _found(source, "pretrain_weights")
    state = _arrays(path)
    if not any(name.startswith("backbone.") for name in state):
        state = {f"backbone.{name}": value for name, value in state.items()}

    def check(report: LoadReport) -> None:
        _refuse(report, tuple(each for each in report.other_shape if not each.startswith("head.head_cls")))
        if not report.loaded:
            raise ModelError(f"{path}: nothing in it fits this detector, name another; it has {some(tuple(state))}")

    return load_fitting(network, path, state, check)


def load_trained(network: nn.Layer, source: str | None) -> Path:
    """All weights of a detector of this configuration. Raises ModelError where one is missing or of another shape."""
    if source is None:
        raise UsageError("no weights are named; give those to use: -o weights=output/NAME/best_model.pdparams")
    path = _found(source, "weights")

    def check(report: LoadReport) -> None:
        if missing := report.missing:
            raise ModelError(
                f"{path} lacks {len(missing)} tensors of this detector, such as {some(missing)}; "
                "was it trained with this config?"
            )
        _refuse(report, report.other_shape)

    load_fitting(network, path, _arrays(path), check)
    return path


def _refuse(report: LoadReport, wrong: tuple[str, ...]) -> None:
    if wrong:
        advice = "Use the config it was trained with (LCNet.scale, num_classes)"
        raise ModelError(f"{report.source} is of another network: {some(wrong)}. {advice}")


def _found(source: str, key: str) -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        path = path.with_name(path.name + SUFFIX)
    if not path.is_file():
        raise ConfigError(
            f"no file {source} (nor with {SUFFIX}), which {key} names. Nothing is downloaded: check the path"
        )
    return path


def _arrays(path: Path) -> dict[str, Any]:
    state = read_arrays(path)
    if not state:
        raise ModelError(f"{path} holds no weights; a .pdparams is wanted, not a .pdopt")
    return state
