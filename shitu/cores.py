"""How many cores there are for this process, which may be fewer than the machine has."""

from __future__ import annotations

import os

CORES = "SHITU_CORES"  # of many processes on one machine each is told so what its share is


def available_cores() -> int:
    """Cores that this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(CORES, "")
    return max(1, min(found, int(share))) if share.isdecimal() else found
