"""What both halves are: a loop over the time given that learns, tells, measures and saves."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from research.gpu_job.job.packed import Pack
from research.gpu_job.job.state import Clock, Learner, Log

LEAST = 3  # steps, however little time is left
TELL_SECONDS, SMOKE_TELL_SECONDS = 10, 2


class Half:
    """A half of the job; subclasses make `learner` and say what a step's losses and a point of the curve are."""

    name = ""
    warmup, max_norm, measure_every = 0, 0.0, 1.0  # steps; of the gradient; of progress

    def __init__(self, pack: Pack, out: Path, log: Log, *, batch: int, lr: float, seed: int, smoke: bool):
        self.pack, self.out, self.log, self.batch, self.smoke = pack, out, log, batch, smoke
        self.device = pack.device
        torch.manual_seed(seed)
        self.learner: Learner = self.make(lr, seed)
        self.learner.load(out, log.line)

    def make(self, lr: float, seed: int) -> Learner:
        raise NotImplementedError

    def begin(self, progress: float) -> None:
        """Before each step: what changes with progress."""

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise in this step, and its parts, for the log."""
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """What the choosing sets say."""
        raise NotImplementedError

    def run(self, seconds: float) -> None:
        """Learn until the time is over; measured before the first step, now and then, and last."""
        clock, learner = Clock(seconds, self.learner.used), self.learner
        if not learner.step:
            self.measure(clock)
        told, samples, measured = time.monotonic(), learner.samples, clock.progress
        parts: list[Tensor] = []
        least = learner.step + LEAST
        while (progress := clock.progress) < 1 or learner.step < least:
            self.begin(progress)
            loss, named = self.losses()
            learner.learn(loss, self.batch, learner.rate(progress, 5 if self.smoke else self.warmup), self.max_norm)
            parts.append(torch.stack([part.detach() for part in named.values()]))
            if time.monotonic() - told >= (SMOKE_TELL_SECONDS if self.smoke else TELL_SECONDS):
                means = zip(named, torch.stack(parts).mean(0).tolist(), strict=True)
                text = " ".join(f"{name} {value:.4f}" for name, value in means)
                speed = (learner.samples - samples) / (time.monotonic() - told)
                self.log.line(f"{self.name}: {progress:.0%} step {learner.step} {text} {speed:.0f}/s")
                told, samples, parts = time.monotonic(), learner.samples, []
            if progress - measured >= self.measure_every:
                self.measure(clock)
                measured = progress
            learner.save_now_and_then(self.out, clock.seconds)
        learner.save(self.out, clock.seconds)
        self.measure(clock)

    def measure(self, clock: Clock) -> None:
        """A point of the curve."""
        self.log.point(self.name, {**clock.told(self.learner), **self.figures()})
