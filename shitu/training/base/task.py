"""What the training loop has to be told: what a configuration says of a run, and what is trained in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import paddle
from paddle import nn

from shitu.config.values import Section
from shitu.training.base.ema import MovingAverage
from shitu.training.base.plan import Plan
from shitu.training.base.schema import AMP

Batch = TypeVar("Batch")
Metrics = dict[str, Any]  # of an evaluation: name -> number, or None


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
    visualdl: bool = False


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
