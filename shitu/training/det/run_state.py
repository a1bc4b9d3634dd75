"""A run's state as arrays and back: what `latest.pdstates` holds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import paddle

from shitu.errors import ModelError
from shitu.training.base.checkpoint_fit import changes, check_fits, plain
from shitu.training.base.checkpoints import State, load_states, save_states
from shitu.training.base.meter import Meter
from shitu.training.base.precision import Precision
from shitu.training.base.state_arrays import arrays, optimizer_state, set_optimizer_state, tensors
from shitu.training.det.build import PicoDet
from shitu.training.det.ema import CycleEMA
from shitu.training.det.evaluate import Metrics
from shitu.training.det.plan import Plan
from shitu.training.det.schema import DetConfig

_log = logging.getLogger("shitu")


class Run(Protocol):
    """What of a trainer is saved, and set again."""

    config: DetConfig
    plan: Plan
    folder: Path
    network: PicoDet
    optimizer: paddle.optimizer.Optimizer
    precision: Precision
    ema: CycleEMA | None
    meter: Meter
    step: int
    best: Metrics


def save(run: Run) -> None:
    """Write `latest.pdstates`."""
    state: State = {
        "network": arrays(run.network),
        "optimizer": optimizer_state(run.optimizer, run.network),
        "precision": run.precision.state(),
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


def load(run: Run, path: Path) -> None:
    """Put a checkpoint's state into a run that has not begun. Raises ModelError where it is of another network."""
    state, position = load_states(str(path))
    if "ema" not in position or "images" not in position:
        raise ModelError(
            f"{path} is no checkpoint of a detector, perhaps one of `shitu train`; name one of `shitu train-det`"
        )
    check_fits(path, state.get("network", {}), arrays(run.network), _ADVICE)
    run.network.set_state_dict(tensors(state["network"]))
    set_optimizer_state(run.optimizer, run.network, state.get("optimizer", {}))
    run.precision.set_state(state.get("precision", {}))
    if run.ema and "ema" in state:
        run.ema.set_state(state["ema"], position["ema"])
    run.step = position["images"] // run.plan.total_batch  # other cards than before: other steps, the same images
    run.best = position["best"]
    run.meter.set_state(position["meter"])
    for change in changes(position["config"], plain(run.config), _MAY_CHANGE):
        _log.warning("changed since the checkpoint: %s", change)


_MAY_CHANGE = ("source", "save_dir", "epoch", "use_gpu", "weights", "worker_num", "pretrain_weights", "max_iters")
_ADVICE = "Use the config it was made with, or start from its weights alone: -o pretrain_weights=PATH"
