"""What the report's plots show, in numbers and pixels; how that looks as SVG is in report_plots.html."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH = 440  # of every plot, in pixels of its own; the page shrinks it on narrow screens
LEFT, RIGHT = 52, 14
TALLEST = 48  # the highest bar of the histogram
BINS = 40


@dataclass(frozen=True)
class Axis:
    """A range of values on a range of pixels; `start` may be greater than `end` (y grows downwards)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    margin: float = RIGHT  # beyond its end

    def place(self, value: float) -> float:
        """The pixel of a value, at the nearer end for one outside the range."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def percent(share: float | None) -> str:
    """
    >>> percent(0.5), percent(None)
    ('50.0\\xa0%', '–')
    """
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.1f}\u00a0%"


def native(threshold: float, sign: float) -> str:
    """A threshold in the gallery's own scores."""
    return f"{sign * threshold:.4g}" if math.isfinite(threshold) else "none"


# Nothing from outside can be anything but text: everything is escaped.
PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.filters |= {
    "percent": percent,
    "short": lambda share: f"{100 * share:g}\u00a0%",
    "between": lambda interval: f"{percent(interval[0])} to {percent(interval[1])}",
    "native": native,
    "shortest": lambda number: f"{number:g}",
    "basename": lambda path: os.path.basename(path) or path,
}


def open_set_plot(false_accepts: Sequence[float], recalls: Sequence[float], unknown: int) -> dict[str, Any]:
    """Recall against false-accept rate, both 0..1; the rate's axis is logarithmic down to one in `unknown` queries."""
    decades = min(max(math.ceil(math.log10(max(unknown, 1))), 1), 4)
    x, y = Axis(10.0**-decades, 1.0, LEFT, WIDTH - RIGHT, log=True), Axis(0.0, 1.0, 262, 24)
    rates = [10.0**power for power in range(-decades, 1)]
    return {"x": x, "y": y, "rates": rates, "steps": _steps(x, y, false_accepts, recalls)}


def _steps(x: Axis, y: Axis, false_accepts: Sequence[float], recalls: Sequence[float]) -> str:
    """The most that is recalled at no more than each rate: it jumps where a rate is reached, and stays until then."""
    best = 0.0
    points = []
    for rate, recall in sorted(zip(false_accepts, recalls, strict=True)):
        best = max(best, recall)
        points.append((x.place(rate), y.place(best)))
    started = [point for point in points if point[0] <= LEFT]
    path = f"M{LEFT} {started[-1][1] if started else y.place(0.0)}"
    path += "".join(f"H{across}V{down}" for across, down in points if across > LEFT)
    return f"{path}H{WIDTH - RIGHT}"


def histogram(groups: Mapping[str, Floats], threshold: float, sign: float) -> dict[str, Any]:
    """Scores (n,), greater is nearer, of several groups, one above the other on one axis, each with its own height.

    `sign` is -1 where the scores are negated distances: the axis shows the distances.
    """
    every = np.concatenate([*groups.values(), [threshold]])
    low, high = float(every.min()), float(every.max())
    margin = 0.03 * (high - low) or 0.5
    x = Axis(low - margin, high + margin, LEFT, WIDTH - RIGHT)
    edges = np.linspace(x.low, x.high, BINS + 1)
    marks = [(f"{value:g}".replace("-", "−"), x.place(value * sign)) for value in ticks(x.low * sign, x.high * sign)]
    bars = [(name, len(values), _bars(x, edges, values, sign)) for name, values in groups.items()]
    return {"x": x, "groups": bars, "ticks": marks, "threshold": threshold * sign, "at": x.place(threshold)}


def _bars(x: Axis, edges: Floats, values: Floats, sign: float) -> list[tuple[float, float, float, str]]:
    """(left, width, height, tooltip) of those that have any height."""
    counts = np.histogram(values, edges)[0]
    wide = (x.end - x.start) / BINS
    return [
        (
            round(x.start + number * wide, 1),
            round(wide - 1, 1),
            max(TALLEST * count / counts.max(), 1.5),
            f"{edges[number] * sign:.3g} to {edges[number + 1] * sign:.3g}: {count}",
        )
        for number, count in enumerate(counts)
        if count
    ]


def ticks(first: float, last: float) -> list[float]:
    """Four to eight round numbers between two values, whichever is greater."""
    low, high = min(first, last), max(first, last)
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (step * factor) >= 3.5)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


PAGES.globals |= {"open_set_plot": open_set_plot, "histogram": histogram}
