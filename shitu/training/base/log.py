"""The numbers of a run: means of the losses, told to people, and kept as JSON Lines.

metrics.jsonl holds {"epoch", "step", "loss", "lr", "images_per_s", "data_wait"} and {"epoch", "step", "recall1" ...}.
Every record has its `step`, the steps made since the run began, and a line is whole or is cut off at the next start.
train.log holds what is told to people, with the time before it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu.errors import ShituError
from shitu.training.base.boards import Boards, package
from shitu.training.base.checkpoints import replace_file
from shitu.training.base.processes import gpu_memory, summed
from shitu.training.base.task import Plan

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


class Pace:
    """How fast it goes, and what share of the time goes into waiting for data, in this process."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        """Count from now on; `step` steps have been made."""
        self.step, self.since, self.waited = step, time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What the block takes is waiting for data."""
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    def take(self, step: int) -> tuple[float, float]:
        """Steps per second and the waiting's share, 0 to 1, since it was last asked."""
        seconds = time.perf_counter() - self.since
        found = (step - self.step) / seconds, self.waited / seconds
        self.begin(step)
        return found


class RunLog(MetricsLog):
    """The same, told to people and to the `boards` as well. Raises EngineError where one cannot be imported."""

    def __init__(self, folder: Path, boards: tuple[str, ...] = ()) -> None:
        for name in boards:  # before anything is written
            package(name)
        super().__init__(folder / "metrics.jsonl")
        self.wanted, self.folder, self.boards = boards, folder, Boards(folder, (), after=0)

    def begin(self, step: int) -> None:
        """Forget what was written after `step`, from which the run goes on."""
        self.drop_after(step)
        self.boards = Boards(self.folder, self.wanted, after=step)

    def write(self, record: Mapping[str, float]) -> None:
        super().write(record)
        self.boards.write(record)

    def write_step(self, plan: Plan, epoch: int, step: int, means: Mapping[str, float], pace: Pace) -> None:
        """What training has come to after `step` steps, `means` being those of the losses; told, too."""
        steps_per_s, wait = pace.take(step)
        lr, images_per_s = plan.schedule(step - 1), steps_per_s * plan.total_batch
        speed = {"images_per_s": round(images_per_s, 1), "data_wait": round(wait, 3)}
        memory = gpu_memory()
        self.write({"epoch": epoch, "step": step, **means, "lr": lr, **speed, **({"gpu_gb": memory} if memory else {})})
        _log.info(
            "epoch %d/%d, step %d/%d: %s, lr %.3g, %.1f images/s, %.0f %% of it waiting for data%s, %s left",
            *(epoch, plan.epochs, step, plan.total_steps, shown(means), lr, images_per_s, 100 * wait),
            f", GPU {memory:.1f} GB" if memory else "",
            timedelta(seconds=round((plan.total_steps - step) / steps_per_s)),
        )


class _TextFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk is told of by what keeps the checkpoints."""


@contextmanager
def text_log(path: Path) -> Iterator[None]:
    """Inside the block, what shitu tells people is also appended to a file, with the time; and how the block ends."""
    handler = _TextFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    except BaseException as error:
        handler.handle(_log.makeRecord(_log.name, logging.ERROR, "", 0, "%s", (str(error) or repr(error),), None))
        raise
    finally:
        _log.removeHandler(handler)
        with suppress(OSError):
            handler.close()


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


def shown(values: Mapping[str, float]) -> str:
    """
    >>> shown({"loss": 5.12345, "recall1": 0.5, "queries": 35})
    'loss 5.123, recall1 0.5, queries 35'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
