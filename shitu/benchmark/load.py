"""How much of the machine other processes take: while that is much, a measurement means nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from shitu.errors import ShituError

MOST = 0.15  # of all cores


class BusyError(ShituError):
    """The machine is too busy to measure on."""

    exit_status = 1


def others_share(seconds: float = 1.0) -> float:
    """The share (0 to 1) of all cores that other processes take, looked at for so long while this one sleeps.

    Without /proc/stat the load average of the last minute over the number of cores, at most 1.
    """
    before = _ticks()
    if before is None:
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else 0.0
    time.sleep(seconds)
    after = _ticks()
    assert after is not None
    busy, every = after[0] - before[0], after[1] - before[1]
    return busy / every if every else 0.0


def check_load(share: float) -> None:
    """Raises BusyError where others take more than MOST."""
    if share > MOST:
        raise BusyError(
            f"other processes take {share:.0%} of this machine's cores, wanted at most {MOST:.0%}, so that the figures "
            "would tell of them; end them or wait, or measure nevertheless with --anyway"
        )


def _ticks() -> tuple[int, int] | None:
    """(busy, all) since the start of a Linux machine, else None; what a hypervisor took counts as busy."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *rest = map(int, line.split()[1:9])
    every = sum((user, nice, system, idle, waiting, *rest))
    return every - idle - waiting, every
