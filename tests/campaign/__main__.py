"""`python -m tests.campaign --minutes 30`: as many trials as the time allows; status 1 where something was found.

Ctrl-C ends a kind of trials early, with its counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# Before numpy is loaded: trials run in forked processes, which OpenMP's threads do not survive.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from tests.campaign import (
    broken_galleries,
    broken_images,
    broken_models,
    full_disks,
    killed_writers,
    readers_and_writers,
)
from tests.campaign.trials import Counts, Trial, run_trials

# name: the trial, how many at a time, the share of the time, and what one trial is
KINDS: dict[str, tuple[Trial, int, float, str]] = {
    "images": (broken_images.trial, 500, 0.15, "broken images"),
    "galleries": (broken_galleries.trial, 25, 0.35, "broken galleries"),
    "models": (broken_models.trial, 50, 0.05, "tampered models"),
    "kills": (killed_writers.trial, 1, 0.2, f"times {killed_writers.KILLS} kills"),
    "disks": (full_disks.trial, 25, 0.15, "full disks"),
    "readers": (
        readers_and_writers.trial,
        1,
        0.1,
        f"times {readers_and_writers.SECONDS:.0f} s of readers against a writer",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="the first; printed, so that it can be repeated"
    )
    parser.add_argument("--trials", type=int, help="exactly so many of each kind, whatever the time")
    asked = parser.parse_args()
    chosen = {name: KINDS[name] for name in asked.only or KINDS if name != "disks" or full_disks.may_mount()}
    whole, found = sum(kind[2] for kind in chosen.values()), 0
    print(f"seed {asked.seed}", flush=True)
    for name, (trial, step, share, what) in chosen.items():
        counts, seed = Counts(), asked.seed
        end = time.monotonic() + asked.minutes * 60 * share / whole
        with tempfile.TemporaryDirectory(prefix="shitu-campaign-", dir=_fast()) as folder, suppress(KeyboardInterrupt):
            while counts.trials < asked.trials if asked.trials else time.monotonic() < end:
                count = min(step, asked.trials - counts.trials) if asked.trials else step
                run_trials(trial, range(seed, seed + count), Path(folder), counts)
                seed += count
        print(f"{name}: {counts.trials} {what}, {len(counts.findings)} findings", flush=True)
        for outcome, number in counts.happened.most_common(12):
            print(f"    {number:7d}  {outcome}")
        for number, reason in counts.findings[:20]:
            print(f"    FINDING seed {number}: {reason}", flush=True)
        found += len(counts.findings)
    return 1 if found else 0


def _fast() -> str | None:
    """Memory where there is a disk of it: trials write much and keep nothing."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
