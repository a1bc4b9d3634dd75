"""A run's state as arrays and back: what `latest.pdstates` holds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import paddle

from shitu.training.base.checkpoint_fit import changes, check_fits, plain
from shitu.training.base.checkpoints import State, load_states, save_states
from shitu.training.base.ema import MovingAverage
from shitu.training.base.meter import Meter
from shitu.training.base.precision import Precision
from shitu.training.base.state_arrays import arrays, optimizer_state, set_optimizer_state, tensors
from shitu.training.rec.losses import TotalLoss
from shitu.training.rec.networks import DistillationModel, RecModel
from shitu.training.rec.plan import Plan
from shitu.training.rec.schema import TrainConfig

_log = logging.getLogger("shitu")


class Run(Protocol):
    """What of a trainer is saved, and set again."""

    config: TrainConfig
    plan: Plan
    folder: Path
    network: RecModel | DistillationModel
    losses: TotalLoss
    optimizer: paddle.optimizer.Optimizer
    precision: Precision
    ema: MovingAverage | None
    meter: Meter
    step: int
    best: dict[str, float]


def save(run: Run) -> None:
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


def load(run: Run, path: str) -> None:
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
