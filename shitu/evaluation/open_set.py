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

Floats = NDArray[np.float64]
Interval = tuple[float, float]
DRAWS, SEED, CONFIDENCE = 1000, 0, 0.95
CURVE_POINTS = 200
COUNTING = 1e-9  # 0.29 * 100 is 28.999999999999996, and 29 of 100 are meant


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
    known: Floats,
    right: NDArray[np.bool_],
    unknown: Floats,
    *,
    hidden: bool,
    false_accepts: Sequence[float],
) -> OpenSet:
    """known, right: (n,) score of each known query and whether it is named rightly; unknown: (m,); n, m > 0.

    hidden: unknown[i] belongs to the query of known[i], so that the two are drawn together for the intervals.
    """
    pairs, ranks = Pairs(known, unknown), Accepted(known, right, unknown)
    one, other = np.ones(len(known)), np.ones(len(unknown))
    statistics: list[Callable[[Floats, Floats], float]] = [pairs.auroc]
    statistics += [lambda w, v, rate=rate: ranks.recall(rate, w, v) for rate in false_accepts]  # type: ignore[misc]
    intervals = _intervals(statistics, len(known), None if hidden else len(unknown))
    return OpenSet(
        kind="hidden labels" if hidden else "listed",
        known=len(known),
        unknown=len(unknown),
        auroc=pairs.auroc(one, other),
        auroc_interval=intervals[0],
        fpr95=fpr_at_tpr(known, unknown),
        recall_at=tuple(
            RecallAt(rate, ranks.threshold(rate), ranks.recall(rate, one, other), *interval)
            for rate, interval in zip(false_accepts, intervals[1:], strict=True)
        ),
        curve=open_set_curve(known, right, unknown),
    )


class Pairs:
    """AUROC (the Mann-Whitney statistic) for any weights of the queries."""

    def __init__(self, known: Floats, unknown: Floats) -> None:
        self._order = np.argsort(unknown, kind="stable")
        ascending = unknown[self._order]
        self._below = np.searchsorted(ascending, known, "left")
        self._up_to = np.searchsorted(ascending, known, "right")

    def auroc(self, known_weights: Floats, unknown_weights: Floats) -> float:
        sums = np.concatenate([[0.0], np.cumsum(unknown_weights[self._order])])
        wins = (sums[self._below] + sums[self._up_to]) / 2
        return float((known_weights * wins).sum() / (known_weights.sum() * unknown_weights.sum()))


class Accepted:
    """Recall at a false-accept rate, for any weights of the queries."""

    def __init__(self, known: Floats, right: NDArray[np.bool_], unknown: Floats) -> None:
        self._scores = np.concatenate([known, unknown])
        self._right = np.flatnonzero(right)[np.argsort(known[right], kind="stable")]
        self._right_scores = known[self._right]
        self._order = np.argsort(-unknown, kind="stable")
        self._unknown = unknown[self._order]  # best first

    def highest_refused(self, rate: float, unknown_weights: Floats) -> float:
        """The score that must be surpassed so that at most this share of the unknown is accepted."""
        accepted = np.cumsum(unknown_weights[self._order])
        place = int(np.searchsorted(accepted, math.floor(rate * accepted[-1] + COUNTING), "right"))
        return float(self._unknown[place]) if place < len(self._unknown) else -math.inf

    def recall(self, rate: float, known_weights: Floats, unknown_weights: Floats) -> float:
        refused = self.highest_refused(rate, unknown_weights)
        first = int(np.searchsorted(self._right_scores, refused, "right"))
        return float(known_weights[self._right[first:]].sum() / known_weights.sum())

    def threshold(self, rate: float) -> float:
        """The lowest score seen that is accepted at this rate; a little above all where none is."""
        refused = self.highest_refused(rate, np.ones(len(self._unknown)))
        accepted = self._scores[self._scores > refused]
        return float(accepted.min() if len(accepted) else np.nextafter(refused, math.inf))


def fpr_at_tpr(known: Floats, unknown: Floats, least: float = 0.95) -> float:
    """The share of the unknown that reach the highest threshold which this share of the known reaches."""
    threshold = np.sort(known)[::-1][math.ceil(least * len(known) - COUNTING) - 1]
    return 1.0 if threshold == -math.inf else float((unknown >= threshold).mean())


def open_set_curve(known: Floats, right: NDArray[np.bool_], unknown: Floats) -> Curve:
    """At every score that was seen; of more than CURVE_POINTS those kept lie closer towards the strict end."""
    seen = np.unique(np.concatenate([known, unknown]))
    thresholds = seen[seen > -math.inf][::-1]
    if len(thresholds) > CURVE_POINTS:
        places = np.unique(np.rint(np.geomspace(1, len(thresholds), CURVE_POINTS)).astype(np.int64)) - 1
        thresholds = thresholds[places]
    return Curve(thresholds, _share_from(unknown, thresholds), _share_from(known, thresholds, right))


def _share_from(scores: Floats, thresholds: Floats, chosen: NDArray[np.bool_] | None = None) -> Floats:
    """For each threshold the share of all scores that reach it and are `chosen`."""
    counted = np.sort(scores if chosen is None else scores[chosen])
    shares: Floats = (len(counted) - np.searchsorted(counted, thresholds, "left")) / len(scores)
    return shares


# --- confidence ----------------------------------------------------------------------------------------------------


def mean_interval(values: NDArray[np.bool_]) -> Interval:
    """95 % confidence of a share of queries, by the percentile bootstrap."""
    numbers = values.astype(np.float64)
    (interval,) = _intervals([lambda w, _: float((w * numbers).sum() / w.sum())], len(values), None)
    return interval


def _intervals(
    statistics: Sequence[Callable[[Floats, Floats], float]], known: int, unknown: int | None
) -> list[Interval]:
    """Percentile bootstrap over queries: DRAWS times as many as there are, drawn with replacement.

    A statistic takes how often each query was drawn; unknown None: they are the known ones, drawn together.
    """
    random = np.random.default_rng(SEED)
    found = np.empty((DRAWS, len(statistics)))
    for draw in range(DRAWS):
        weights = _drawn(random, known)
        others = weights if unknown is None else _drawn(random, unknown)
        found[draw] = [statistic(weights, others) for statistic in statistics]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _drawn(random: np.random.Generator, count: int) -> Floats:
    return np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
