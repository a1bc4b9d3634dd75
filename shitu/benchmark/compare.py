"""Whether two ways to run the models give the same answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from shitu.benchmark.record import Answers

PIXELS = 2.0  # a box may be so far off
Found = Sequence[Sequence[Any]]  # of one image: (label, box) pairs


def compare_answers(reference: Sequence[Found], answers: Sequence[Found], precision: str) -> Answers:
    """Image by image the same labels, equally often; each box beside the nearest one of its label.

    int8, and `auto`, which may be int8, keep the answers by the labels alone; others' boxes are within PIXELS, too.
    """
    pairs = list(zip(reference, answers, strict=True))
    others = sum(sorted(label for label, _ in one) != sorted(label for label, _ in other) for one, other in pairs)
    if others:
        return Answers(False, others, None, False)
    pixels = max((_apart(one, other) for one, other in pairs), default=0.0)
    return Answers(True, 0, pixels, precision in ("int8", "auto") or pixels <= PIXELS)


def _apart(one: Found, other: Found) -> float:
    """The largest difference of an edge, in pixels."""
    waiting: dict[str, list[Sequence[float]]] = defaultdict(list)
    for label, box in other:
        waiting[label].append(box)
    worst = 0.0
    for label, box in one:
        nearest = min(waiting[label], key=lambda each: _edges(box, each))
        waiting[label].remove(nearest)
        worst = max(worst, _edges(box, nearest))
    return worst


def _edges(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
