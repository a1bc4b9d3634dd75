"""How well scores tell what the gallery knows from what it does not: open-set identification.

Recall at a false-accept rate is the detection-and-identification rate of P. J. Phillips, P. Grother, R. Micheals,
"Evaluation Methods in Face Recognition" (2011), as in M. Günther et al., "Toward Open-Set Face Recognition" (2017):
a known thing counts when it is named rightly and its score reaches a threshold that few unknown things reach. Scores
are (n,) float64, of which the greater is nearer; -inf is no answer, which no threshold accepts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shitu.evaluation.cut import COUNTING, DRAWS, SEED, Floats, cuts, shares

Rows = NDArray[np.int64]
Interval = tuple[float, float]
CONFIDENCE = 0.95
CURVE_POINTS = 200


class RecallAt(NamedTuple):
    """The share of the known that is named rightly at a threshold that `false_accept_rate` of the unknown may reach.

    `threshold`: the lowest score seen that serves; greater is nearer. `low`, `high`: 95 % confidence.
    """

    false_accept_rate: float
    threshold: float
    recall: float
    low: float
    high: float


class Curve(NamedTuple):
    """Points (p,) of the open-set curve, strictest threshold first."""

    threshold: Floats
    false_accept_rate: Floats
    recall: Floats


@dataclass(frozen=True)
class OpenSet:
    """Figures of known against unknown queries.

    `kind`: the unknown are those listed, or the known once more with their labels hidden from the gallery. `auroc`: how
    often a known query scores higher than an unknown one, ties half. `fpr95`: the share of the unknown that a
    threshold accepts which accepts 95 % of the known; 1 where that many have no answer at all.
    """

    kind: Literal["listed", "hidden labels"]
    known: int
    unknown: int
    auroc: float
    auroc_interval: Interval
    fpr95: float
    recall_at: tuple[RecallAt, ...]
    curve: Curve


def measure_open_set(
    known: Floats, right: NDArray[np.bool_], unknown: Floats, *, hidden: bool, false_accepts: Sequence[float]
) -> OpenSet:
    """known, right: (n,) score of each known query and whether it is named rightly; unknown: (m,); n, m > 0.

    hidden: unknown[i] belongs to the query of known[i], so that the two are drawn together for the intervals.
    """
    named = np.where(right, known, -math.inf)

    def figures(drawn: Rows, others: Rows) -> list[float]:
        recalls = [recall_at(named[drawn], unknown[others], rate)[1] for rate in false_accepts]
        return [auroc(known[drawn], unknown[others]), *recalls]

    auroc_interval, *intervals = _intervals(figures, len(known), None if hidden else len(unknown))
    found = []
    for rate, interval in zip(false_accepts, intervals, strict=True):
        refused, recall = recall_at(named, unknown, rate)
        accepted = [score for score in (*known, *unknown) if score > refused]
        found.append(RecallAt(rate, float(min(accepted, default=np.nextafter(refused, math.inf))), recall, *interval))
    return OpenSet(
        kind="hidden labels" if hidden else "listed",
        known=len(known),
        unknown=len(unknown),
        auroc=auroc(known, unknown),
        auroc_interval=auroc_interval,
        fpr95=fpr_at_tpr(known, unknown),
        recall_at=tuple(found),
        curve=open_set_curve(known, named, unknown),
    )


def auroc(known: Floats, unknown: Floats) -> float:
    """The Mann-Whitney statistic: the share of pairs of which the known one scores higher, ties half."""
    ascending = np.sort(unknown)
    wins = np.searchsorted(ascending, known, "left") + np.searchsorted(ascending, known, "right")
    return float(wins.mean() / 2 / len(unknown))


def recall_at(named: Floats, unknown: Floats, rate: float) -> tuple[float, float]:
    """The score that must be surpassed so that at most this share of the unknown is accepted, and the recall then.

    named: (n,) scores of the known that are named rightly, -inf for the others.
    """
    found = cuts(named[None], unknown[None], rate)
    return float(found.lower[0]), float(found.recall[0])


def fpr_at_tpr(known: Floats, unknown: Floats, least: float = 0.95) -> float:
    """The share of the unknown that reach the highest threshold which this share of the known reaches."""
    threshold = np.sort(known)[::-1][math.ceil(least * len(known) - COUNTING) - 1]
    return 1.0 if threshold == -math.inf else float((unknown >= threshold).mean())


def open_set_curve(known: Floats, named: Floats, unknown: Floats) -> Curve:
    """At every score that was seen; of more than CURVE_POINTS those kept lie closer towards the strict end."""
    seen = np.unique(np.concatenate([known, unknown]))
    thresholds = seen[seen > -math.inf][::-1]
    if len(thresholds) > CURVE_POINTS:
        places = np.unique(np.rint(np.geomspace(1, len(thresholds), CURVE_POINTS)).astype(np.int64)) - 1
        thresholds = thresholds[places]
    recall, accepted = shares(named[None], unknown[None], thresholds)
    return Curve(thresholds, accepted, recall)


# --- confidence ----------------------------------------------------------------------------------------------------


def mean_interval(values: NDArray[np.bool_]) -> Interval:
    """95 % confidence of a share of queries, by the percentile bootstrap."""
    return _intervals(lambda drawn, _: [float(values[drawn].mean())], len(values), None)[0]


def _intervals(figures: Callable[[Rows, Rows], list[float]], known: int, unknown: int | None) -> list[Interval]:
    """Percentile bootstrap over queries: DRAWS times as many as there are, drawn with replacement.

    `figures` takes the places of the queries drawn; unknown None: they are the known ones, drawn together.
    """
    random = np.random.default_rng(SEED)
    found = []
    for _ in range(DRAWS):
        drawn = random.integers(0, known, known)
        found.append(figures(drawn, drawn if unknown is None else random.integers(0, unknown, unknown)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
