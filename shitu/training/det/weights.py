"""Weights from a .pdparams into a detector: a backbone's or a whole detector's, with a report of what went where."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from shitu.errors import ConfigError, ModelError, UsageError
from shitu.training.base.read_weights import SUFFIX, LoadReport, fetched, read_state

_log = logging.getLogger("shitu")
_SHOWN = 3

State = dict[str, Any]  # numpy arrays


def load_pretrained(network: nn.Layer, source: str) -> LoadReport:
    """What fits of a start: a whole detector's weights, or a backbone's such as LCNet's from ImageNet.

    Its outputs may be of another number of classes: they then keep their initial values. `source` is a path, or an
    address, which is downloaded once. Raises ModelError where anything else is of another shape.
    """
    path = fetched(source) if "://" in source else _found(source, "pretrain_weights")
    state = _arrays(path)
    own: State = {name: value.numpy() for name, value in network.state_dict().items()}
    if not any(name.startswith("backbone.") for name in state):
        state = {f"backbone.{name}": value for name, value in state.items()}
    loaded = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    other = {name for name in state if name in own and name not in loaded}
    if wrong := sorted(name for name in other if not name.startswith("head.head_cls")):
        raise ModelError(f"{path} is of another network: {_misfits(wrong, state, own)}")
    if not loaded:
        raise ModelError(
            f"{path}: nothing in it fits this detector, name another; it has {', '.join(list(state)[:_SHOWN])}"
        )
    _set(network, loaded)
    report = LoadReport(
        str(path),
        tuple(loaded),
        tuple(name for name in own if name not in state),
        tuple(name for name in state if name not in own),
        tuple(f"{name} {own[name].shape} here, {state[name].shape} there" for name in sorted(other)),
    )
    _log.info("%s", report)
    return report


def load_trained(network: nn.Layer, source: str | None) -> Path:
    """All weights of a detector of this configuration. Raises ModelError where one is missing or of another shape."""
    if source is None:
        raise UsageError("no weights are named; give those to use: -o weights=output/NAME/best_model.pdparams")
    path = _found(source, "weights")
    state, own = _arrays(path), {name: value.numpy() for name, value in network.state_dict().items()}
    if missing := [name for name in own if name not in state]:
        raise ModelError(
            f"{path} lacks {len(missing)} of {len(own)} tensors of this detector, such as "
            f"{', '.join(missing[:_SHOWN])}; was it trained with this config?"
        )
    if wrong := [name for name in own if state[name].shape != own[name].shape]:
        raise ModelError(f"{path} is of another network: {_misfits(wrong, state, own)}")
    _set(network, state)
    return path


def _set(network: nn.Layer, values: State) -> None:
    for name, tensor in network.state_dict().items():  # set_state_dict would warn of each that is not there
        if name in values:
            tensor.set_value(values[name])


def _misfits(names: list[str], state: State, own: State) -> str:
    shown = "; ".join(f"{name} is {list(state[name].shape)}, wanted {list(own[name].shape)}" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more}. Use the config it was trained with (LCNet.scale, num_classes)"


def _found(source: str, key: str) -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        path = path.with_name(path.name + SUFFIX)
    if not path.is_file():
        raise ConfigError(
            f"no file {source} (nor with {SUFFIX}), which {key} names. Nothing is downloaded: check the path"
        )
    return path


def _arrays(path: Path) -> State:
    state = {name: value for name, value in read_state(path).items() if isinstance(value, np.ndarray)}
    if not state:
        raise ModelError(f"{path} holds no weights; a .pdparams is wanted, not a .pdopt")
    return state
