"""Where the numbers of a run go: metrics.jsonl, curves.png and, where wanted, VisualDL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from shitu.training.base.curves import draw_curves
from shitu.training.base.metrics_log import MetricsLog, visualdl_writer
from shitu.training.base.progress_text import duration, shown

_log = logging.getLogger("shitu")


class Plan(Protocol):
    """What the log says of a run's plan."""

    @property
    def epochs(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def total_batch(self) -> int: ...
    @property
    def schedule(self) -> Callable[[int], float]: ...


class RunLog:
    """Records of one run; `visualdl` writes them to folder/vdl too."""

    def __init__(self, folder: Path, *, visualdl: bool) -> None:
        self.path, self.picture = folder / "metrics.jsonl", folder / "curves.png"
        self.metrics = MetricsLog(self.path)
        self.visualdl = visualdl_writer(folder / "vdl") if visualdl else None

    def write(self, record: Mapping[str, float]) -> None:
        """A record with `epoch` and `step`."""
        self.metrics.write(record)
        if self.visualdl:
            for name, value in record.items():
                if name not in ("epoch", "step"):
                    self.visualdl.add_scalar(name, value, int(record["step"]))

    def write_step(
        self, plan: Plan, epoch: int, step: int, means: Mapping[str, float], steps_per_second: float
    ) -> None:
        """What training has come to after `step` steps, `means` being those of the losses; told, too."""
        lr, images_per_s = plan.schedule(step - 1), steps_per_second * plan.total_batch
        self.write({"epoch": epoch, "step": step, **means, "lr": lr, "images_per_s": round(images_per_s, 1)})
        _log.info(
            "epoch %d/%d, step %d/%d: %s, lr %.3g, %.1f images/s, %s left",
            *(epoch, plan.epochs, step, plan.total_steps, shown(means), lr, images_per_s),
            duration((plan.total_steps - step) / steps_per_second),
        )

    def drop_after(self, step: int) -> None:
        """Forget what a run did after the step from which it now goes on."""
        self.metrics.drop_after(step)

    def draw(self) -> None:
        """The curves up to now."""
        draw_curves(self.path, self.picture)
