"""A run's state as arrays and back: what `latest.pdstates` holds."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle import nn

from shitu.errors import ModelError
from shitu.train.checkpoints import State, load_states, save_states
from shitu.train.optimise import optimizer_state, set_optimizer_state
from shitu.train.schema import TrainConfig

if TYPE_CHECKING:
    from shitu.train.trainer import Trainer

_log = logging.getLogger("shitu")


def arrays(layer: nn.Layer) -> dict[str, np.ndarray]:
    """Its state dict as numpy arrays."""
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def tensors(values: dict[str, np.ndarray]) -> dict[str, paddle.Tensor]:
    """As set_state_dict wants them."""
    return {name: paddle.to_tensor(value) for name, value in values.items()}


def save(run: Trainer) -> None:
    """Write `latest.pdstates`."""
    state: State = {
        "network": arrays(run.network),
        "losses": arrays(run.losses),
        "optimizer": optimizer_state(run.optimizer, run.network),
        "precision": run.precision.state(),
        "ema": run.ema.state() if run.ema else {},
    }
    position = {
        "images": run.step * run.plan.total_batch,
        "best": run.best,
        "meter": run.meter.state(),
        "config": plain(run.config),
    }
    save_states(run.folder / "latest", state, position)


def load(run: Trainer, path: str) -> None:
    """Put a checkpoint's state into a run that has not begun. Raises ModelError where it is of another network."""
    state, position = load_states(path)
    _check_fits(path, state.get("network", {}), arrays(run.network))
    run.network.set_state_dict(tensors(state["network"]))
    run.losses.set_state_dict(tensors(state.get("losses", {})))
    if run.plan.world > 1 and state.get("losses"):
        _log.warning("the checkpoint holds the first process's memory of embeddings; all processes go on with that")
    set_optimizer_state(run.optimizer, run.network, state.get("optimizer", {}))
    run.precision.set_state(state.get("precision", {}))
    if run.ema:
        run.ema.set_state(state.get("ema") or state["network"])
    run.step = position["images"] // run.plan.total_batch  # other cards than before: other steps, the same images
    run.best = position["best"]
    run.meter.set_state(position["meter"])
    for change in _changes(position["config"], plain(run.config)):
        _log.warning("changed since the checkpoint: %s", change)


def _check_fits(path: str, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    problems = [
        f"{name} is {list(found[name].shape) if name in found else 'not there'}, wanted {list(value.shape)}"
        for name, value in wanted.items()
        if name not in found or found[name].shape != value.shape
    ]
    problems += [f"{name} is in the checkpoint alone" for name in found if name not in wanted]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(
            f"the checkpoint {path} is of another network: {'; '.join(problems[:3])}{more}. Use the config and the "
            "list it was made with, or start from its weights alone: -o Global.pretrained_model=PATH"
        )


def plain(config: TrainConfig) -> Any:
    """As JSON brings it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


_MAY_CHANGE = ("source", "Global.checkpoints", "Global.output_dir", "Global.epochs", "Global.device")


def _changes(before: Any, after: Any, key: str = "") -> Iterator[str]:
    if key in _MAY_CHANGE:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _changes(before.get(name), after.get(name), f"{key}.{name}" if key else name)
    elif before != after:
        yield f"{key} {before} -> {after}"
