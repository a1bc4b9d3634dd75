"""What shows a run's numbers in a browser while it runs: TensorBoard and VisualDL, each an optional package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from shitu.training.base.toolkits import imported


class Writer(Protocol):
    """What both packages have."""

    def add_scalar(self, tag: str, value: float, step: int) -> object: ...

    def close(self) -> object: ...


# Both write in a thread. Where that ends, on a full disk, nobody may wait for room in its queue: a checkpoint that does
# not fit either ends the run long before. And a killed run has lost these seconds, not two minutes.
_HOW = {"max_queue": 1000, "flush_secs": 5}


def _tensorboard(package: Any, folder: Path, after: int) -> Any:
    # a resume writes the steps behind its checkpoint again: TensorBoard then forgets the first ones
    return package.SummaryWriter(str(folder), purge_step=after + 1 if after else None, **_HOW)


def _visualdl(package: Any, folder: Path, after: int) -> Any:
    return package.LogWriter(logdir=str(folder), **_HOW)


@dataclass(frozen=True)
class Board:
    """folder: in the run's; open: package, folder and the step after which it writes -> a writer."""

    module: str
    folder: str
    open: Callable[[Any, Path, int], Writer]


BOARDS = {  # by what follows use_ in Global
    "tensorboard": Board("tensorboardX", "tensorboard", _tensorboard),
    "visualdl": Board("visualdl", "vdl", _visualdl),  # where it has always been
}


def package(name: str) -> Any:
    """The module of a board. Raises EngineError with the install command."""
    advice = (
        f"Global.use_{name} wants it: pip install 'shitu[{name}]', or -o Global.use_{name}=False; metrics.jsonl and "
        "curves.png are written in any case"
    )
    return imported(BOARDS[name].module, advice)


class Boards:
    """Records go to all that are wanted. Raises as `package`."""

    def __init__(self, folder: Path, names: tuple[str, ...], *, after: int) -> None:
        kinds = [(BOARDS[name], package(name)) for name in names]
        self.writers = [board.open(module, folder / board.folder, after) for board, module in kinds]

    def write(self, record: Mapping[str, Any]) -> None:
        """Under train/ what a training step tells, else under eval/; nothing is shown of what is no number."""
        group = "train" if "lr" in record else "eval"
        for writer in self.writers:
            for name, value in record.items():
                if name not in ("epoch", "step") and value is not None and math.isfinite(value):
                    writer.add_scalar(f"{group}/{name}", float(value), int(record["step"]))

    def close(self) -> None:
        for writer in self.writers:
            with suppress(OSError):
                writer.close()
