"""Trials in processes of their own: what became of each, and who killed the process where it died."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MEMORY = 3 << 30  # bytes of address space that a trial may add
SECONDS = 120  # that a trial may take: ten kills on a busy machine take 40
AT_ONCE = 50  # trials in one process

# One trial: seed, a folder of its own -> what became of it, in a word or two. AssertionError, and any other exception,
# is a finding.
Trial = Callable[[int, Path], str]


@dataclass
class Counts:
    """How often each thing happened, and what should not have: seed and reason."""

    happened: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)

    @property
    def trials(self) -> int:
        return sum(self.happened.values()) + len(self.findings)


def run_trials(trial: Trial, seeds: range, folder: Path, counts: Counts) -> None:
    """Every seed once; goes on behind one that ends its process."""
    left = list(seeds)
    while left:
        batch = left[:AT_ONCE]
        done, how = _in_child(trial, batch, folder)
        for seed, outcome, finding in done:
            if finding:
                counts.findings.append((seed, outcome))
            else:
                counts.happened[outcome] += 1
        if how and len(done) < len(batch):
            counts.findings.append((batch[len(done)], how))
        left = left[len(done) + bool(how) :]


def _in_child(trial: Trial, seeds: list[int], folder: Path) -> tuple[list[tuple[int, str, bool]], str]:
    """(seed, outcome, whether it is a finding) of the trials that ended; and how the process died, where it did."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as file:
            _limit()
            for seed in seeds:
                print(json.dumps(_one(trial, seed, folder)), file=file, flush=True)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        done = [tuple(json.loads(line)) for line in file if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return done, f"died by {signal.Signals(os.WTERMSIG(status)).name}"
    return done, f"ended with status {os.WEXITSTATUS(status)}" if os.WEXITSTATUS(status) else ""


def _limit() -> None:
    logging.disable(logging.CRITICAL)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _one(trial: Trial, seed: int, folder: Path) -> tuple[int, str, bool]:
    signal.alarm(SECONDS)  # ends the process by SIGALRM, also within C
    try:
        return seed, trial(seed, folder), False
    except Exception as error:
        places = [f"{Path(each.filename).name}:{each.lineno}" for each in traceback.extract_tb(error.__traceback__)]
        return seed, f"{type(error).__name__}: {str(error)[:300]} ({' > '.join(places[-5:])})", True
    finally:
        signal.alarm(0)
