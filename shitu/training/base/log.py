"""The numbers of a run: means of the losses, told to people, and kept as JSON Lines.

metrics.jsonl holds {"epoch", "step", "loss", "lr", "images_per_s"} and {"epoch", "step", "recall1" ...}. Every record
has its `step`, the steps made since the run began, and a line is whole or is cut off at the next start.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu.errors import ShituError
from shitu.training.base.checkpoints import replace_file
from shitu.training.base.processes import summed
from shitu.training.base.task import Plan
from shitu.training.base.toolkits import imported

_log = logging.getLogger("shitu")
Record = dict[str, Any]


class Meter:
    """Sums stay on the device until they are taken, so that a GPU need not wait for each step's loss."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.images = 0

    def add(self, values: dict[str, paddle.Tensor], images: int) -> None:
        """`values`: means over a batch of `images`."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.astype("float64") * images
        self.images += images

    def means(self, world: int) -> dict[str, float]:
        """Over all processes, each of which must ask."""
        total = summed(np.array([*(float(value) for value in self.sums.values()), float(self.images)]), world)
        return {name: float(value / max(total[-1], 1)) for name, value in zip(self.sums, total, strict=False)}

    def take(self, world: int) -> dict[str, float]:
        """`means`, and then starts anew."""
        means = self.means(world)
        self.sums, self.images = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        return {"sums": {name: float(value) for name, value in self.sums.items()}, "images": self.images}

    def set_state(self, state: dict[str, Any]) -> None:
        self.sums, self.images = dict(state["sums"]), state["images"]


class MetricsLog:
    """The file of one run, appended to by one process."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._cut_off_half_line()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; a number that is none, or infinite, is written as null. Raises ShituError on a full disk."""
        plain = {name: _plain(value) for name, value in record.items()}
        line = json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(line.encode())
        except OSError as error:
            raise ShituError(
                f"{self.path} cannot be written: {error.strerror or error}; make room, then --resume"
            ) from error

    def drop_after(self, step: int) -> None:
        """Drop what a run wrote after the checkpoint from which it goes on; 0 begins a new run's file."""
        before = read_records(self.path)
        kept = [record for record in before if record["step"] <= step]
        if len(kept) < len(before):
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
            replace_file(self.path, lambda file: file.write(text.encode()))

    def _cut_off_half_line(self) -> None:
        if self.path.exists():
            whole, newline, rest = self.path.read_bytes().rpartition(b"\n")
            if rest:
                os.truncate(self.path, len(whole + newline))


class RunLog(MetricsLog):
    """The same, told to people as well; `visualdl` writes the records to folder/vdl, too."""

    def __init__(self, folder: Path, *, visualdl: bool) -> None:
        super().__init__(folder / "metrics.jsonl")
        self.visualdl = visualdl_writer(folder / "vdl") if visualdl else None

    def write(self, record: Mapping[str, float]) -> None:
        super().write(record)
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
            timedelta(seconds=round((plan.total_steps - step) / steps_per_second)),
        )


def read_records(path: str | Path) -> list[Record]:
    """The records in their order, none where there is no file; a line that is no record is passed over and told of."""
    path = Path(path)
    if not path.exists():
        return []
    records: list[Record] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append({**record, "step": int(record["step"])})
        except (ValueError, TypeError, KeyError):
            if line and number < len(lines):  # the last one may be half-written
                _log.warning("%s:%d is no record of a run; passed over", path, number)
    return records


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a number of numpy's
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def visualdl_writer(log_dir: str | Path) -> Any:
    """A VisualDL log in a folder. Raises EngineError with the install command."""
    advice = (
        "Global.use_visualdl wants it: pip install visualdl, or -o Global.use_visualdl=False; metrics.jsonl and "
        "curves.png are written in any case"
    )
    return imported("visualdl", advice).LogWriter(logdir=str(log_dir))


def shown(values: Mapping[str, float]) -> str:
    """
    >>> shown({"loss": 5.12345, "recall1": 0.5, "queries": 35})
    'loss 5.123, recall1 0.5, queries 35'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
