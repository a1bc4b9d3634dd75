"""What the report's plots show, in numbers and pixels; how that looks as SVG is in report_plots.html."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from shitu.evaluation.evaluate import Evaluation

Floats = NDArray[np.float64]

WIDTH = 440  # of every plot, in pixels of its own; the page shrinks it on narrow screens
LEFT, RIGHT = 52, 14
TOP, ROW, TALLEST = 22, 72, 48  # of the histogram: above the first group, for each, and its highest bar
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


@dataclass(frozen=True)
class Mark:
    """A point on the open-set curve: where, what its tooltip says, whether it is the config's own."""

    false_accept: float
    recall: float
    title: str
    configured: bool = False


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


def _draw(plot: str, **what: Any) -> Markup:
    drawn: Markup = getattr(PAGES.get_template("report_plots.html").module, plot)(**what)
    return drawn


def open_set_curve(evaluation: Evaluation) -> Markup:
    """Recall against false accepts of an evaluation with an open set, with the thresholds that the table names."""
    found, at, sign = evaluation.open_set, evaluation.at_threshold, evaluation.settings.sign
    assert found is not None
    marks = [
        Mark(one.false_accept_rate, one.recall, f"threshold {native(one.threshold, sign)}: at most "
             f"{percent(one.false_accept_rate)} of the unknown named, {percent(one.recall)} of the known named rightly")
        for one in found.recall_at
    ]  # fmt: skip
    if at.unknown_named is not None:
        title = f"this config: {percent(at.unknown_named)} of the unknown named, {percent(at.named_right)} of the known"
        marks.append(Mark(at.unknown_named, at.named_right, title + " named rightly", configured=True))
    return open_set_plot(found.curve.false_accept_rate.tolist(), found.curve.recall.tolist(), marks, found.unknown)


def open_set_plot(
    false_accepts: Sequence[float], recalls: Sequence[float], marks: Sequence[Mark], unknown: int
) -> Markup:
    """Recall against false-accept rate, both 0..1; the rate's axis is logarithmic down to one in `unknown` queries."""
    decades = min(max(math.ceil(math.log10(max(unknown, 1))), 1), 4)
    x, y = Axis(10.0**-decades, 1.0, LEFT, WIDTH - RIGHT, log=True), Axis(0.0, 1.0, 262, 24)
    rates = [10.0**power for power in range(-decades, 1)]
    return _draw("open_set", x=x, y=y, rates=rates, steps=_steps(x, y, false_accepts, recalls), marks=marks)


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


def score_histogram(evaluation: Evaluation, quantity: str) -> Markup:
    """The scores of an evaluation; `quantity` says what they are."""
    groups = [
        ("right", evaluation.known_scores),
        ("wrong", evaluation.wrong_scores),
        ("unknown", evaluation.unknown_scores),
    ]
    sign = evaluation.settings.sign
    return histogram(groups, sign * evaluation.at_threshold.threshold, sign, quantity)


def histogram(groups: Sequence[tuple[str, Floats]], threshold: float, sign: float, quantity: str) -> Markup:
    """Scores of several groups (name and CSS class, (n,) greater is nearer), one above the other on one axis.

    `sign` is -1 where the scores are negated distances: the axis shows the distances. Each group has its own height.
    """
    every = np.concatenate([*(values for _, values in groups), [threshold]])
    low, high = float(every.min()), float(every.max())
    margin = 0.03 * (high - low) or 0.5
    x = Axis(low - margin, high + margin, LEFT, WIDTH - RIGHT)
    edges = np.linspace(x.low, x.high, BINS + 1)
    return _draw(
        "histogram",
        x=x,
        top=TOP,
        row=ROW,
        groups=[(name, name, len(values), _bars(x, edges, values, sign)) for name, values in groups],
        ticks=[
            (f"{value:g}".replace("-", "−"), x.place(value * sign)) for value in _ticks(x.low * sign, x.high * sign)
        ],
        threshold=f"threshold {threshold * sign:g}",
        at=x.place(threshold),
        quantity=quantity,
    )


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


def _ticks(first: float, last: float) -> list[float]:
    """Four to eight round numbers between two values, whichever is greater."""
    low, high = min(first, last), max(first, last)
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (step * factor) >= 3.5)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
