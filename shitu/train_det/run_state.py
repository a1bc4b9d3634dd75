"""A run's state as arrays and back: what `latest.pdstates` holds."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from paddle import nn

from shitu.errors import ModelError
from shitu.train.checkpoints import State, load_states, save_states
from shitu.train.optimise import optimizer_state, set_optimizer_state
from shitu.train_det.schema import DetConfig

if TYPE_CHECKING:
    from shitu.train_det.trainer import Trainer

_log = logging.getLogger("shitu")


def arrays(layer: nn.Layer) -> dict[str, Any]:
    """Its state dict as numpy arrays."""
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def save(run: Trainer) -> None:
    """Write `latest.pdstates`."""
    scaler = run.scaler.state_dict().items()
    state: State = {
        "network": arrays(run.network),
        "optimizer": optimizer_state(run.optimizer, run.network),
        "scaler": {name: value.numpy() if hasattr(value, "numpy") else np.asarray(value) for name, value in scaler},
        "ema": run.ema.state() if run.ema else {},
    }
    position = {
        "images": run.step * run.plan.total_batch,
        "ema": run.ema.position() if run.ema else {},
        "best": run.best,
        "meter": run.meter.state(),
        "config": plain(run.config),
    }
    save_states(run.folder / "latest", state, position)


def load(run: Trainer, path: Path) -> None:
    """Put a checkpoint's state into a run that has not begun. Raises ModelError where it is of another network."""
    state, position = load_states(str(path))
    if "ema" not in position or "images" not in position:
        raise ModelError(f"{path} is no checkpoint of a detector; was it written by `shitu train`?")
    _check_fits(path, state.get("network", {}), arrays(run.network))
    weights: dict[str, Any] = dict(state["network"])
    run.network.set_state_dict(weights)
    set_optimizer_state(run.optimizer, run.network, state.get("optimizer", {}))
    scaler: Any = {name: value if value.shape else value.item() for name, value in state.get("scaler", {}).items()}
    if scaler:
        run.scaler.load_state_dict(scaler)
    if run.ema and "ema" in state:
        run.ema.set_state(state["ema"], position["ema"])
    run.step = position["images"] // run.plan.total_batch  # other cards than before: other steps, the same images
    run.best = position["best"]
    run.meter.set_state(position["meter"])
    for change in _changes(position["config"], plain(run.config)):
        _log.warning("changed since the checkpoint: %s", change)


def _check_fits(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    problems = [
        f"{name} is {list(found[name].shape) if name in found else 'not there'}, wanted {list(value.shape)}"
        for name, value in wanted.items()
        if name not in found or found[name].shape != value.shape
    ]
    problems += [f"{name} is in the checkpoint alone" for name in found if name not in wanted]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(
            f"the checkpoint {path} is of another network: {'; '.join(problems[:3])}{more}. Use the config it was made "
            "with, or start from its weights alone: -o pretrain_weights=PATH"
        )


def plain(config: DetConfig) -> Any:
    """As JSON brings it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


_MAY_CHANGE = ("source", "save_dir", "epoch", "use_gpu", "weights", "worker_num", "pretrain_weights", "max_iters")


def _changes(before: Any, after: Any, key: str = "") -> Iterator[str]:
    if key in _MAY_CHANGE:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _changes(before.get(name), after.get(name), f"{key}.{name}" if key else name)
    elif before != after:
        yield f"{key} {before} -> {after}"
