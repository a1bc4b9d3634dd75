"""The report's plots as inline SVG; colours come from the page's style, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from shitu.evaluation.evaluate import Evaluation

Floats = NDArray[np.float64]

WIDTH = 440  # of every plot, in pixels of its own; the page shrinks it on narrow screens
LEFT, RIGHT = 52, 14
TOP, ROW = 22, 72  # of the histogram: above the first group, and for each
BINS = 40


@dataclass(frozen=True)
class Axis:
    """A range of values on a range of pixels; `start` may be greater than `end` (y grows downwards)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

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


def element(name: str, *children: str, **attributes: object) -> Markup:
    """`<name attribute="...">children</name>`, well-formed as XML too; what is no Markup is escaped.

    An underscore at the end of an attribute's name (`class_`) falls away, one inside (`stroke_width`) is a hyphen.

    >>> element("text", "1 < 2", class_="x")
    Markup('<text class="x">1 &lt; 2</text>')
    """
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    start = name + "".join(f' {key}="{escape(str(value))}"' for key, value in pairs)
    return Markup(f"<{start}>{_join(*children)}</{name}>")


def _join(*parts: str) -> Markup:
    return Markup().join(parts)


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


def score_histogram(evaluation: Evaluation, quantity: str) -> Markup:
    """The scores of an evaluation; `quantity` says what they are."""
    groups = [
        ("right", "right", evaluation.known_scores),
        ("wrong", "wrong", evaluation.wrong_scores),
        ("unknown", "unknown", evaluation.unknown_scores),
    ]
    sign = evaluation.settings.sign
    return histogram(groups, sign * evaluation.at_threshold.threshold, sign, quantity)


def open_set_plot(
    false_accepts: Sequence[float], recalls: Sequence[float], marks: Sequence[Mark], unknown: int
) -> Markup:
    """Recall against false-accept rate, both 0..1; the rate's axis is logarithmic down to one in `unknown` queries."""
    floor = 10.0 ** -min(max(math.ceil(math.log10(max(unknown, 1))), 1), 4)
    x, y = Axis(floor, 1.0, LEFT, WIDTH - RIGHT, log=True), Axis(0.0, 1.0, 262, 24)
    decades = [10.0**power for power in range(round(math.log10(floor)), 1)]
    drawing = [
        *(_grid_x(x, y, value, _short(value)) for value in decades),
        *(_grid_y(x, y, value, _short(value)) for value in (0.0, 0.25, 0.5, 0.75, 1.0)),
        _caption_x(y, "unknown things named (false-accept rate)"),
        element("text", "known things named rightly", x=4, y=12),
        element("path", d=_steps(x, y, false_accepts, recalls), class_="curve"),
        *(_mark(x, y, mark) for mark in sorted(marks, key=lambda mark: mark.configured)),
    ]
    return _svg(302, "Recall of known things against the share of unknown things that are named", drawing)


def histogram(groups: Sequence[tuple[str, str, Floats]], threshold: float, sign: float, quantity: str) -> Markup:
    """Scores of several groups (name, CSS class, (n,) greater is nearer), one above the other on one axis.

    `sign` is -1 where the scores are negated distances: the axis shows the distances. Each group has its own height.
    """
    x = _score_axis([*(values for _, _, values in groups), np.array([threshold])])
    edges = np.linspace(x.low, x.high, BINS + 1)
    bottom = TOP + ROW * len(groups)
    at, shown = x.place(threshold), f"threshold {threshold * sign:g}"
    line = element("line", x1=at, x2=at, y1=TOP, y2=bottom, class_="threshold")
    drawing = [element("g", element("title", shown), line)]
    for number, (name, kind, values) in enumerate(groups, start=1):
        base = TOP + ROW * number
        drawing.append(_bars(x, base, edges * sign, np.histogram(values, edges)[0], kind))
        drawing.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"))
        drawing.append(element("text", f"{name}: {len(values)}", x=LEFT, y=base - 54, class_="name"))
    for value in _ticks(x.low * sign, x.high * sign):
        place = x.place(value * sign)
        drawing.append(element("line", x1=place, x2=place, y1=bottom, y2=bottom + 5, class_="axis"))
        drawing.append(element("text", f"{value:g}".replace("-", "−"), x=place, y=bottom + 18, text_anchor="middle"))
    side = {"x": at, "y": 14, "text_anchor": "end" if at > WIDTH * 0.7 else "start"}
    drawing.append(element("text", shown, **side, class_="strong"))
    drawing.append(element("text", f"{quantity}, nearer →", x=WIDTH - RIGHT, y=bottom + 36, text_anchor="end"))
    return _svg(bottom + 44, "Scores of right, wrong and unknown queries", drawing)


def share_bar(share: float) -> Markup:
    """A small bar for a table cell, 0..1."""
    full = element("rect", x=0, y=1, width=60, height=8, class_="empty")
    done = element("rect", x=0, y=1, width=round(60 * share, 1), height=8, class_="right")
    return element("svg", full, done, viewBox="0 0 60 10", class_="bar", aria_hidden="true")


def shares_bar(shares: Sequence[tuple[str, str, float]], title: str) -> Markup:
    """One bar of the full width, divided into (name, CSS class, share); the shares add up to 1."""
    start, drawing = 0.0, []
    for name, kind, share in shares:
        part = element("rect", x=round(start, 2), y=0, width=round(100 * share, 2), height=10, class_=kind)
        drawing.append(element("g", element("title", f"{name}: {percent(share)}"), part))
        start += 100 * share
    shape = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none", "class": "shares"}
    return element("svg", *drawing, **shape, role="img", aria_label=title)


def _svg(height: float, title: str, drawing: Sequence[Markup]) -> Markup:
    shape = {"viewBox": f"0 0 {WIDTH} {height:g}", "xmlns": "http://www.w3.org/2000/svg"}
    return element("svg", *drawing, **shape, class_="plot", role="img", aria_label=title)


def _short(value: float) -> str:
    return f"{100 * value:g}\u00a0%"


def _grid_x(x: Axis, y: Axis, value: float, name: str) -> Markup:
    at = x.place(value)
    line = element("line", x1=at, x2=at, y1=y.start, y2=y.end, class_="grid")
    anchor = "end" if value == x.high else "middle"
    return _join(line, element("text", name, x=at, y=y.start + 16, text_anchor=anchor))


def _grid_y(x: Axis, y: Axis, value: float, name: str) -> Markup:
    at = y.place(value)
    line = element("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="axis" if value == y.low else "grid")
    return _join(line, element("text", name, x=x.start - 6, y=at + 4, text_anchor="end"))


def _caption_x(y: Axis, caption: str) -> Markup:
    return element("text", caption, x=WIDTH - RIGHT, y=y.start + 34, text_anchor="end")


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


def _mark(x: Axis, y: Axis, mark: Mark) -> Markup:
    across, down = x.place(mark.false_accept), y.place(mark.recall)
    if not mark.configured:
        shape = element("circle", cx=across, cy=down, r=4.5, class_="point")
        return element("g", element("title", mark.title), shape)
    shape = element("path", d=f"M{across} {down - 7}l7 7l-7 7l-7 -7z", class_="configured")
    left = across > WIDTH * 0.6
    label_down = down + 22 if down < 120 else down - 12
    anchor = {"x": across + (6 if left else -6), "y": label_down, "text_anchor": "end" if left else "start"}
    return element("g", element("title", mark.title), shape, element("text", "this config", **anchor, class_="strong"))


def _score_axis(values: Sequence[Floats]) -> Axis:
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    margin = 0.03 * (high - low) or 0.5
    return Axis(low - margin, high + margin, LEFT, WIDTH - RIGHT)


def _bars(x: Axis, base: float, edges: Floats, counts: NDArray[Any], kind: str) -> Markup:
    """Bars 48 px high at most; `edges` are for the tooltips."""
    most = max(int(counts.max()), 1)
    wide = (x.end - x.start) / len(counts)
    bars = []
    for number, count in enumerate(counts.tolist()):
        if count:
            tall = max(48 * count / most, 1.5)
            place = {"x": round(x.start + number * wide, 1), "y": round(base - tall, 1), "height": round(tall, 1)}
            bar = element("rect", **place, width=round(wide - 1, 1), class_=kind)
            title = element("title", f"{edges[number]:.3g} to {edges[number + 1]:.3g}: {count}")
            bars.append(element("g", title, bar))
    return element("g", *bars)


def _ticks(first: float, last: float) -> list[float]:
    """Four to eight round numbers between two values, whichever is greater."""
    low, high = min(first, last), max(first, last)
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (step * factor) >= 3.5)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
