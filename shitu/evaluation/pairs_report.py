"""An extractor's evaluation as one HTML page: how similar like and unlike are, and what misleads. Words: pairs.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shitu.evaluation.report import write_page
from shitu.evaluation.report_pictures import Shown
from shitu.evaluation.report_plots import LEFT, RIGHT, TALLEST, WIDTH, Axis, ticks

MOST_BARS = 50


@dataclass(frozen=True)
class Side:
    """A picture, its label, and how similar it is to the query beside it."""

    picture: Shown
    label: str
    similarity: float | None = None


@dataclass(frozen=True)
class Row:
    """(name, number of pairs, bars) of the histogram; a bar is (left, width, height in pixels, tooltip)."""

    kind: str  # right or wrong, for its colour
    name: str
    count: int
    bars: Sequence[tuple[float, float, float, str]]


def write_pairs(
    path: Path,
    *,
    title: str,
    metrics: Mapping[str, str],
    edges: NDArray[np.float64],
    counts: Sequence[tuple[str, str, NDArray[np.int64]]],
    misled: Sequence[tuple[Side, Side, Side]],
    alike: Sequence[tuple[Side, Side]],
) -> None:
    """edges (b + 1,) and counts (kind, name, (b,)): the histogram; misled: query, nearest of its label, nearest of
    another; alike: query, nearest of another label. Raises ShituError (full disk).
    """
    axis, rows = _histogram(edges, counts)
    marks = [(f"{value:g}".replace("-", "−"), axis.place(value)) for value in ticks(axis.low, axis.high)]
    write_page(
        path, "pairs.html", title=title, metrics=metrics, x=axis, rows=rows, marks=marks, misled=misled, alike=alike
    )


def _histogram(
    edges: NDArray[np.float64], counts: Sequence[tuple[str, str, NDArray[np.int64]]]
) -> tuple[Axis, list[Row]]:
    """What is used of the bins, in at most MOST_BARS bars."""
    used = np.flatnonzero(np.sum([each for _, _, each in counts], axis=0))
    first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(edges) - 1)
    together = -(-(end - first) // MOST_BARS)
    bars = -(-(end - first) // together)
    step = edges[1] - edges[0]
    axis = Axis(float(edges[first]), float(edges[first] + bars * together * step), LEFT, WIDTH - RIGHT)
    rows = []
    for kind, name, each in counts:
        padded = np.zeros(bars * together, np.int64)
        padded[: end - first] = each[first:end]
        heights = padded.reshape(bars, together).sum(axis=1)
        rows.append(Row(kind, name, int(each.sum()), _bars(axis, heights)))
    return axis, rows


def _bars(axis: Axis, heights: NDArray[np.int64]) -> list[tuple[float, float, float, str]]:
    wide, span = (axis.end - axis.start) / len(heights), (axis.high - axis.low) / len(heights)
    return [
        (
            *(round(axis.start + number * wide, 1), round(wide - 1, 1), max(TALLEST * count / heights.max(), 1.5)),
            f"{axis.low + number * span:.3g} to {axis.low + (number + 1) * span:.3g}: {count:,}",
        )
        for number, count in enumerate(heights.tolist())
        if count
    ]
