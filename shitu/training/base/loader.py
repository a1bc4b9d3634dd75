"""Batches made ahead by worker processes, what all loaders share of them; and the random streams of a run by name."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ShituError
from shitu.training.base.task import Batches
from shitu.training.base.worker_pool import Slot, made_ahead

_log = logging.getLogger("shitu")
_SHOWN = 20  # bad images named one by one
Made = TypeVar("Made")

# What is random is drawn by generators that are seeded with where it is drawn: an image's augmentation with (seed,
# epoch, stream, batch index, position). Every other stream has a word of its own, which for those of five numbers is
# above every position; numpy fills up shorter ones with zeros, so theirs is none that could end in 0.
_ABOVE_POSITIONS = 1 << 20
OF_BATCH = _ABOVE_POSITIONS  # (seed, epoch, stream, batch index, OF_BATCH): a detector's operators on a whole batch
PK = _ABOVE_POSITIONS + 2  # (seed, epoch, stream, batch index, PK)
PERMUTATION = 1  # (seed, epoch, PERMUTATION); a detector's has no word: (seed, epoch)
IDENTITY = 3  # (seed, epoch, round, IDENTITY)
EMPTY_IMAGES = 4  # (seed, EMPTY_IMAGES, EMPTY_IMAGES): which images without boxes a detector is trained on


@dataclass(frozen=True)
class Task:
    """One batch: the entries of the list, and what its random numbers hang on: (epoch, stream, batch index)."""

    indices: NDArray[np.int64]
    key: tuple[int, int, int]


def tasks_of(batches: Batches, epoch: int, streams: Sequence[int], start: int) -> Iterator[Task]:
    """Of an epoch from step `start` on, step by step and in a step stream by stream."""
    for step in range(start, len(batches)):
        for stream in streams:
            yield Task(batches.batch(epoch, stream, step), (epoch, stream, step))


class Maker(ABC, Generic[Made]):
    """What a worker does: numpy only."""

    shape: tuple[int, int, int]  # (3, height, width) of the largest image that it can make

    def bytes_of(self, task: Task) -> int:
        """What the task's images take at most."""
        return 4 * len(task.indices) * prod(self.shape)

    def __call__(self, task: Task, slot: Slot) -> tuple[Made | ShituError, dict[str, str]]:
        """The batch, its images in the slot, or why there is none; with path -> reason of all bad images."""
        bad: dict[str, str] = {}
        try:
            return self.make(task, slot, bad), bad
        except ShituError as error:
            return error, bad

    @abstractmethod
    def make(self, task: Task, slot: Slot, bad: dict[str, str]) -> Made: ...


class Loader(ABC, Generic[Made]):
    """`bad` holds path -> reason of every bad image met so far; `bad_are` says what becomes of them."""

    def __init__(self, maker: Maker[Made], workers: int, *, use_shared_memory: bool, bad_are: str) -> None:
        self.maker, self.workers, self.bad_are = maker, workers, bad_are
        self.bytes_of = maker.bytes_of if use_shared_memory else None
        self.bad: dict[str, str] = {}

    @abstractmethod
    def on_device(self, made: Made) -> Made | None:
        """With tensors on paddle's current device in the place of arrays; None where there is nothing in it."""

    def batches(self, tasks: Iterable[Task]) -> Generator[Made, None, None]:
        """Each task's. Closing the generator ends the workers."""
        known = len(self.bad)
        with closing(made_ahead(self.maker, tasks, self.workers, bytes_of=self.bytes_of)) as batches:
            for made, bad in batches:
                for path in [path for path in bad if path not in self.bad]:
                    if len(self.bad) < _SHOWN:
                        _log.warning("%s: %s; %s", path, bad[path], self.bad_are)
                    self.bad[path] = bad[path]
                if isinstance(made, ShituError):
                    raise made
                if (batch := self.on_device(made)) is not None:
                    yield batch
        if len(self.bad) > max(known, _SHOWN):
            _log.warning("%d images cannot be read; the first %d of them are named above", len(self.bad), _SHOWN)
