"""A run's state as arrays and back: what `latest.pdstates` holds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import nn

from shitu.train.checkpoint_fit import changes, check_fits, plain
from shitu.train.checkpoints import State, load_states, save_states
from shitu.train.optimise import optimizer_state, set_optimizer_state

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
    check_fits(path, state.get("network", {}), arrays(run.network), _ADVICE)
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
    for change in changes(position["config"], plain(run.config), _MAY_CHANGE):
        _log.warning("changed since the checkpoint: %s", change)


_MAY_CHANGE = ("source", "Global.checkpoints", "Global.output_dir", "Global.epochs", "Global.device")
_ADVICE = (
    "Use the config and the list it was made with, or start from its weights alone: -o Global.pretrained_model=PATH"
)
