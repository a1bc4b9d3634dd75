"""Whether cuDNN shall search its fastest kernels: the search costs seconds for every new shape, and minutes in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

WARM, TIMED = 2, 8
PAYS = 0.75  # of the time of a step


def unsearched() -> AbstractContextManager[None]:
    """For shapes that come once, such as those of a measurement."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True)


def search_if_it_pays(network: nn.Module, side: int, batch: int, tell: Callable[[str], None]) -> None:
    """Time a step of this network in bfloat16, channels last, with and without; leave the search on if it pays."""
    device = next(network.parameters()).device
    if device.type != "cuda":
        return
    x = torch.rand(batch, 3, side, side, device=device) * 255
    network = network.to(memory_format=torch.channels_last).train()
    found = {}
    for searched in (False, True):
        torch.backends.cudnn.benchmark = searched
        found[searched] = timed(network, x)
    torch.backends.cudnn.benchmark = found[True][1] < PAYS * found[False][1]
    for searched, (first, each) in found.items():
        tell(f"cuDNN's search {'on' if searched else 'off'}: {first:.1f} s to begin, then {batch / each:.0f}/s")


def timed(network: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """(seconds of the first steps, seconds of a step after)."""
    marks = [time.monotonic()]
    for steps in (WARM, TIMED):
        for _ in range(steps):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                total = network(x).float().square().mean()
            total.backward()
        torch.cuda.synchronize()
        marks.append(time.monotonic())
    return marks[1] - marks[0], (marks[2] - marks[1]) / TIMED
