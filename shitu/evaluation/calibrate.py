"""Chooses the score threshold and four more keys of a config for a wanted rate of false accepts.

All queries are looked at once; what each of some hundred settings would answer is worked out in memory. The queries
that choose also measure, so cross-validated figures and bootstrap intervals are given beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shitu.config import Config
from shitu.errors import ShituError, UsageError
from shitu.evaluation.choose_settings import SEARCHED, CrossValidation, Figures, Task, cross_validate
from shitu.evaluation.cut import Intervals, bootstrap, place, reachable, rounded
from shitu.evaluation.evaluate import check_labels
from shitu.evaluation.observe import DetectorUse, Observer
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import Settings
from shitu.evaluation.simulate import Case, cases_of, grid
from shitu.recognise.from_config import Parts


@dataclass(frozen=True)
class Calibration:
    """`before` and `after` are settings of the config; `before_at_rate` has only the threshold moved.

    `unknown_kind`: "listed", or "hidden labels" where each known query stands for an unknown one, too, with its label
    taken out of the gallery. `searched`: the keys that were tried, besides the threshold. `failed`: (image, error).
    """

    false_accept: float
    unknown_kind: str
    known: int
    unknown: int
    simulated: int
    searched: tuple[str, ...]
    before: Settings
    after: Settings
    before_figures: Figures
    before_at_rate: Figures
    after_figures: Figures
    intervals: Intervals
    cross_validation: CrossValidation | None
    warnings: tuple[str, ...]
    config_source: str = ""
    detector: str = ""
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, tuple[Any, Any]]:
        """Key of the config -> (before, after), the threshold first."""
        name = self.before.measure.threshold_key
        keys = {f"IndexProcess.{name}": name, **{f"Global.{key}": key for key in self.searched}}
        return {key: (getattr(self.before, name), getattr(self.after, name)) for key, name in keys.items()}

    @property
    def threshold_interval(self) -> tuple[float, float]:
        """In the gallery's own scores, the smaller first."""
        ends = sorted(self.after.sign * end for end in self.intervals.threshold)
        return ends[0], ends[1]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        crossed = self.cross_validation
        return {
            "config": self.config_source,
            "detector": self.detector,
            "false_accept": self.false_accept,
            "unknown": self.unknown_kind,
            "known_queries": self.known,
            "unknown_queries": self.unknown,
            "failed": len(self.failed),
            "simulated": self.simulated,
            "settings": {key: {"before": old, "after": new} for key, (old, new) in self.values.items()},
            "before": _record(self.before_figures),
            "before_at_rate": _record(self.before_at_rate),
            "after": _record(self.after_figures),
            "intervals": {
                "threshold": _pair(self.threshold_interval),
                "recall": _pair(self.intervals.recall),
                "false_accept_rate": _pair(self.intervals.false_accepts),
            },
            "cross_validation": crossed
            and {"folds": crossed.folds, **_record(crossed.figures), "same_settings": crossed.same},
            "warnings": list(self.warnings),
        }


def _record(figures: Figures) -> dict[str, float]:
    return {"recall": round(figures.recall, 6), "false_accept_rate": round(figures.false_accepts, 6)}


def _pair(ends: tuple[float, float]) -> list[float]:
    return [round(end, 6) for end in ends]


def check_rate(false_accept: float) -> None:
    """UsageError for what is no rate."""
    if not 0 <= false_accept < 1:
        raise UsageError(
            f"--false-accept is {false_accept}; the share of unknown queries that may be named is wanted, at least 0 "
            "and less than 1, such as 0.05"
        )


def calibrate(
    config: Config,
    queries: Sequence[Query],
    *,
    false_accept: float = 0.05,
    leave_one_out: bool = False,
    detector: DetectorUse = "on",
    progress: Callable[[int], object] = lambda count: None,
    parts: Callable[[Config], Parts] | None = None,
) -> Calibration:
    """Look at the queries once, then choose; `detector`, `leave_one_out` and `parts` as for `Observer`.

    Raises UsageError where the queries cannot say what is wanted, ShituError where all of them failed, and what
    SystemPredictor raises.
    """
    check_rate(false_accept)
    observer = Observer(config, detector=detector, leave_one_out=leave_one_out, depth=1, parts=parts)
    present = Settings.from_config(observer.config)
    check_labels(observer, queries)
    cases, failed = cases_of(observer.observe(queries, progress), present)
    if not cases:
        raise ShituError(
            f"all {len(queries)} queries failed, the first: {failed[0][1]}. Mend the list, or --image-root"
        )
    chosen = calibrate_cases(cases, present, false_accept)
    same_file = 0 if leave_one_out else sum(case.in_gallery for case in cases)
    warning = f"{same_file} of the queries are gallery images themselves; --leave-one-out takes them out of the gallery"
    return replace(
        chosen,
        config_source=config.source,
        detector=detector,
        failed=tuple(failed),
        warnings=(*chosen.warnings, *([warning] if same_file else [])),
    )


def calibrate_cases(cases: Sequence[Case], present: Settings, false_accept: float) -> Calibration:
    """The same for what was seen already."""
    tried = grid(present, cases)
    task = Task.of(cases, tried, present, false_accept)
    best, found = task.choose()
    cut = (found.lower[best : best + 1], found.upper[best : best + 1])
    after = _with_threshold(tried[best], float(place(*cut, present.measure)[0]), float(cut[0][0]), float(cut[1][0]))
    now = tried.index(present)
    old, new = (one.sign * float(one.accept_at or 0.0) for one in (present, after))
    crossed = cross_validate(task, best)
    return Calibration(
        false_accept=false_accept,
        unknown_kind="hidden labels" if task.hidden else "listed",
        known=task.right.shape[1],
        unknown=task.unknown.shape[1],
        simulated=len(tried),
        searched=tuple(key for key in SEARCHED if len({getattr(one, key) for one in tried}) > 1),
        before=present,
        after=after,
        before_figures=task.figures(now, old),
        before_at_rate=task.figures(now, float(place(found.lower, found.upper, present.measure)[now])),
        after_figures=task.figures(best, new),
        intervals=bootstrap(task.right[best], task.unknown[best], false_accept, present.measure, paired=task.hidden),
        cross_validation=crossed,
        warnings=tuple(_warnings(task, reachable(found, present.measure)[best], found.recall[best] > 0, crossed)),
    )


def _with_threshold(settings: Settings, threshold: float, lower: float, upper: float) -> Settings:
    """In the gallery's own scores; `threshold` is a score of which the greater is nearer."""
    measure = settings.measure
    if measure.packed:
        return replace(settings, hamming_radius=round(measure.sign * threshold))
    upper = min(upper, measure.limit)
    short = rounded(threshold, lower if math.isfinite(lower) else 2 * threshold - upper, upper)
    return replace(settings, score_thres=measure.sign * short + 0.0)


def _warnings(task: Task, kept: bool, right: bool, crossed: CrossValidation | None) -> Iterator[str]:
    unknown, rate = task.unknown.shape[1], task.rate
    if task.hidden:
        yield (
            "no query is unknown to the gallery; each known one was asked again with its label hidden. Photos of "
            "things that are really unknown tell more"
        )
    if rate == 0 and kept:
        yield (
            f"none of {unknown} unknown queries is named, but no number of queries can tell a rate of 0: with 95 % "
            f"confidence it is below {min(3 / unknown, 1):.2g}"
        )
    elif unknown * rate < 1 - 1e-9 and kept:
        yield (
            f"{unknown} unknown queries cannot tell a false-accept rate of {rate:g}: at least "
            f"{math.ceil(1 / rate - 1e-9)} are needed; none of them is named now"
        )
    if not kept:
        yield (
            f"a false-accept rate of {rate:g} cannot be reached: some unknown queries equal a gallery image; look for "
            "wrong labels in the list or the gallery"
        )
    elif not right:
        yield "no known query is named rightly at this rate; `shitu evaluate` tells which names are given"
    if crossed is not None and 2 * crossed.same < crossed.folds:
        yield (
            f"{crossed.same} of {crossed.folds} cross-validation folds chose these settings: more queries are needed "
            "to tell them from others"
        )
    if crossed is None:
        yield "no cross-validation: at least two photos of known and two labels of unknown things are needed"
