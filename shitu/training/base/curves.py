"""Pictures of a run: loss, learning rate and retrieval over its steps; and of the search for a learning rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu.training.base.checkpoints import replace_file
from shitu.training.base.log import Record, read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_log = logging.getLogger("shitu")
COLOURS = ("#1f5fa8", "#d9722e", "#3a8f5c", "#8f4a9c", "#7d7d7d")
# Counts that an evaluation reports beside its metrics, and what every record has.
NO_CURVE = {"epoch", "step", "lr", "images_per_s", "data_wait", "gpu_gb", "queries", "left_out", "bad_images"}


def draw_curves(records_path: str | Path, picture_path: str | Path) -> None:
    """Draw metrics.jsonl as a PNG, whole or not at all. Without matplotlib a warning, once; without records nothing.

    Raises ShituError where the picture cannot be written.
    """
    records = read_records(records_path)
    if not records or not _has_matplotlib():
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # no pyplot: it keeps figures, and wants a display
    figure = Figure(figsize=(9, 9), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
    canvas = FigureCanvasAgg(figure)
    _draw(figure, records)
    replace_file(Path(picture_path), canvas.print_png)


@dataclass(frozen=True)
class Found:
    """What `--find-lr` saw at the steps that were made; `smoothed` ends where a loss is no number. All rates are those
    of the steps themselves.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    steepest: float
    tenth: float  # of the rate of the least loss


def draw_rates(found: Found, path: Path) -> Path | None:
    """The curve of `--find-lr` as a PNG, with both rates; None without matplotlib. Raises ShituError as draw_curves."""
    if not _has_matplotlib():
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    _draw_rates(figure.subplots(), found)
    replace_file(path, canvas.print_png)
    return path


def _draw_rates(axes: Axes, found: Found) -> None:
    axes.plot(found.rates, found.losses, color=COLOURS[0], alpha=0.3, linewidth=1, label="loss")
    axes.plot(found.rates[: len(found.smoothed)], found.smoothed, color=COLOURS[0], linewidth=2, label="smoothed")
    for rate, name, colour in (
        (found.tenth, "suggested, a tenth of that of the least loss", COLOURS[1]),
        (found.steepest, "where the loss falls steepest", COLOURS[2]),
    ):
        axes.axvline(rate, color=colour, linestyle="--", label=f"{rate:.2g}: {name}")
    low, high = min(found.smoothed), found.smoothed[0]
    axes.set_xscale("log")
    _tidy(axes, "loss by the learning rate of its step")
    axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    axes.legend(frameon=False, fontsize=9, loc="lower left")


def _draw(figure: Figure, records: list[Record]) -> None:
    loss, rate, metrics = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.5, 3))
    training = [record for record in records if "lr" in record]
    evaluations = [record for record in records if "lr" not in record]
    _draw_losses(loss, training)
    rate.plot(*_points(training, "lr"), color=COLOURS[0], linewidth=2, label="lr")
    for name, colour in zip(_names(evaluations), cycle(COLOURS), strict=False):
        _draw_metric(metrics, name, *_points(evaluations, name), colour)
    for axes, title in ((loss, "loss"), (rate, "learning rate"), (metrics, "evaluation")):
        _tidy(axes, title)
    rate.ticklabel_format(axis="y", scilimits=(-3, 4))
    rate.set_ylim(bottom=0)
    if not metrics.lines:
        metrics.text(0.5, 0.5, "no evaluation yet", transform=metrics.transAxes, ha="center", color=COLOURS[-1])
    metrics.set_xlabel("step")
    _mark_epochs(metrics, records)


def _draw_losses(axes: Axes, records: list[Record]) -> None:
    """The whole loss as it was and smoothed; its parts, where there are several, thin."""
    steps, values = _points(records, "loss")
    axes.plot(steps, values, color=COLOURS[0], alpha=0.3, linewidth=1)
    axes.plot(steps, _smoothed(values), color=COLOURS[0], linewidth=2, label="loss")
    parts = [name for name in _names(records) if name != "loss"]
    for name, colour in zip(parts if len(parts) > 1 else [], cycle(COLOURS[1:]), strict=False):
        steps, values = _points(records, name)
        axes.plot(steps, _smoothed(values), color=colour, linewidth=1, label=name)


def _draw_metric(axes: Axes, name: str, steps: list[int], values: list[float], colour: str) -> None:
    """With the number of the best."""
    axes.plot(steps, values, color=colour, linewidth=2, markersize=4, label=name, marker="o")
    if not all(map(math.isnan, values)):
        best = int(np.nanargmax(values))
        place: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{values[best]:.3f}", (steps[best], values[best]), fontsize=8, color=colour, **place)


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.02, y=0.1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize=9)


def _mark_epochs(axes: Axes, records: list[Record]) -> None:
    """A second axis in epochs below that of the steps, where their ends are known."""
    from matplotlib.ticker import MaxNLocator

    ends = {record["epoch"]: record["step"] for record in records if record.get("epoch")}
    steps = max(ends.values(), default=0) - min(ends.values(), default=0)
    if not steps:
        return
    per_epoch = steps / (len(ends) - 1)
    ways: Any = (lambda step: step / per_epoch, lambda epoch: epoch * per_epoch)
    below = axes.secondary_xaxis(-0.18, functions=ways)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlabel("epoch")


def _names(records: Iterable[Record]) -> list[str]:
    """What has a curve, in the order of appearance."""
    return [name for name in dict.fromkeys(name for record in records for name in record) if name not in NO_CURVE]


def _points(records: Iterable[Record], name: str) -> tuple[list[int], list[float]]:
    """Steps and values; a null (no number) is a gap."""
    found = [(record["step"], record[name]) for record in records if name in record]
    values = [value if isinstance(value, (int, float)) else math.nan for _, value in found]
    return [step for step, _ in found], values


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over about a fiftieth of the run; gaps stay."""
    keep = 1 - 1 / max(1.0, len(values) / 50)
    mean, result = math.nan, []
    for value in values:
        mean = value if math.isnan(mean) else mean if math.isnan(value) else keep * mean + (1 - keep) * value
        result.append(math.nan if math.isnan(value) else mean)
    return result


@cache
def _has_matplotlib() -> bool:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        _log.warning("no curves.png: matplotlib cannot be imported (%s); pip install matplotlib", error)
        return False
    return True
