"""What the training loop has to be told: a run in numbers, what a configuration says of it, and what is trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.config.values import Section
from shitu.training.base.ema import MovingAverage
from shitu.training.base.schema import AMP, ScaledRate

Batch = TypeVar("Batch")
Metrics = dict[str, Any]  # of an evaluation: name -> number, or None


@dataclass(frozen=True)
class Scaling:
    """The linear rule (PaddleClas FAQ Q5.3): k times the batch, k times the learning rate, a k-th of the iterations."""

    factor: float
    reason: str  # for the log: why the factor is what it is

    @classmethod
    def of(cls, section: ScaledRate, total_batch: int) -> Scaling:
        """`total_batch`: images per step over all cards."""
        if section.for_batch_size is None:
            return cls(1.0, "not scaled: the config states no for_batch_size")
        if section.scaling == "none":
            return cls(1.0, "not scaled: the config's scaling is none")
        factor = total_batch / section.for_batch_size
        return cls(factor, f"linear rule, {total_batch} / {section.for_batch_size} = {factor:g}")


class Schedule(ABC):
    """`schedule(step)` is the learning rate of step 0, 1, 2 ...: a function, so that a resume needs no state but the
    `scores` of the evaluations so far.
    """

    peak: float  # at the end of the warm-up
    warmup_steps: int

    def __init__(self, section: Any, scaling: Scaling, steps_per_epoch: int, total_steps: int) -> None:
        self.section, self.scaling = section, scaling
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        self.scores: list[float] = []

    def __call__(self, step: int) -> float:
        return self.warming(step) if step < self.warmup_steps else self.decaying(step)

    @abstractmethod
    def warming(self, step: int) -> float: ...

    @abstractmethod
    def decaying(self, step: int) -> float: ...


class Batches(Protocol):
    """Which images go into a batch."""

    def __len__(self) -> int:
        """Of every epoch and stream."""

    def batch(self, epoch: int, stream: int, index: int) -> NDArray[np.int64]:
        """(n,) rows of the list; the same whatever was asked before."""


@dataclass(frozen=True)
class Plan:
    """Numbers of a run over `world` processes; a step takes `update_freq` batches on each of them."""

    world: int
    update_freq: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    schedule: Schedule
    sampler: Batches

    @property
    def epochs(self) -> int:
        return math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def total_batch(self) -> int:
        """Images per step over all processes."""
        return self.world * self.update_freq * self.batch_size

    def streams(self, rank: int) -> range:
        """The streams of batches that a process trains on."""
        return range(rank * self.update_freq, (rank + 1) * self.update_freq)


@dataclass(frozen=True)
class Settings:
    """What a configuration says of a run, whatever is trained."""

    what: str  # "an extractor" or "a detector"
    config: Section
    folder: Path
    folder_key: str  # the key that names it
    seed: int
    log_steps: int  # steps between two lines of the log
    save_steps: int | None  # between two checkpoints inside an epoch
    amp: AMP | None
    may_change: Collection[str]  # keys that a resume may find changed
    start_again: str  # what to do with a checkpoint of another network
    against_nan: str  # what to do where the loss is no number
    boards: tuple[str, ...] = ()  # of boards.BOARDS
    early_stop: int | None = None  # evaluations without gain after which it is over
    most_seconds: float | None = None  # of training, over all resumes; it ends with the epoch in which they pass
    keep_checkpoints: int | None = None  # of epoch_N, the latest


class Task(ABC, Generic[Batch]):
    """What the loop does not know of its training; everything is this process's share of it."""

    settings: Settings
    plan: Plan
    network: nn.Layer
    losses: nn.Layer  # its state is saved with the network's
    optimizer: paddle.optimizer.Optimizer
    checks_each_step = False  # whether each step's loss is waited for anyway

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        """Of one epoch from step `start` on, step by step and in a step stream by stream; closing ends the workers."""

    @abstractmethod
    def loss_of(self, batch: Batch, cast: AbstractContextManager[Any]) -> tuple[dict[str, paddle.Tensor], int]:
        """`loss` and its parts, means over the batch, and its number of images; `cast` is for the forward pass."""

    def train_mode(self) -> None:
        self.network.train()

    def average(self) -> MovingAverage | None:
        """Of the weights, where there is to be one."""
        return None

    @abstractmethod
    def kept(self, epoch: int, *, last: bool) -> tuple[list[str], bool]:
        """At the end of an epoch: names under which its weights are saved, and whether it is evaluated."""

    @abstractmethod
    def evaluate(self) -> Metrics: ...

    @abstractmethod
    def score(self, results: Metrics) -> float:
        """By which the best evaluation is known: greater is better."""

    def told(self, results: Metrics) -> Metrics:
        """What of an evaluation goes into the log."""
        return results

    @abstractmethod
    def summary(self) -> Iterable[str]:
        """What is told before the first step, line by line."""


def learning_rate_table(plan: Plan) -> list[str]:
    """The learning rate at steps over the run, as lines to print."""
    from tabulate import tabulate

    rows = [
        (name, f"{step / plan.steps_per_epoch:.2f}", f"{step:,}", f"{plan.schedule(step):.6g}")
        for name, step in _milestones(plan.total_steps, plan.schedule.warmup_steps)
    ]
    headers, columns = ("", "epoch", "step", "learning rate"), ("left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="plain", colalign=columns, disable_numparse=True).splitlines()


def _milestones(total_steps: int, warmup_steps: int) -> list[tuple[str, int]]:
    """Steps at which a learning rate is worth knowing, ascending; the last step that is made stands for the end."""
    last = total_steps - 1
    named = {0: "start"}
    if warmup_steps:
        named.setdefault(min(warmup_steps, last), "after warm-up")
    for share in (25, 50, 75):
        named.setdefault(total_steps * share // 100, f"{share} %")
    named.setdefault(last, "last step")
    return [(name, step) for step, name in sorted(named.items())]
