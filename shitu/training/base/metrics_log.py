"""A run's numbers as JSON Lines: {"epoch", "step", "loss", "lr", "images_per_s"} and {"epoch", "step", "recall1" ...}.

Every record has its `step`, the steps made since the run began, and a line is whole or is cut off at the next start.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from shitu.errors import EngineError, ShituError
from shitu.training.base.checkpoints import replace_file

_log = logging.getLogger("shitu")
Record = dict[str, Any]


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
            whole = self.path.read_bytes().rpartition(b"\n")
            if whole[2]:
                with self.path.open("rb+") as file:
                    file.truncate(len(whole[0]) + len(whole[1]))


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


class ScalarWriter(Protocol):
    """What is used of visualdl.LogWriter."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...
    def close(self) -> None: ...


def visualdl_writer(log_dir: str | Path) -> ScalarWriter:
    """A VisualDL log in a folder. Raises EngineError with the install command."""
    try:
        from visualdl import LogWriter  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise EngineError(
            f"Global.use_visualdl wants VisualDL, which cannot be imported ({error}): pip install visualdl, or "
            "-o Global.use_visualdl=False; metrics.jsonl and curves.png are written in any case"
        ) from error
    writer: ScalarWriter = LogWriter(logdir=str(log_dir))
    return writer
