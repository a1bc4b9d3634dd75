"""The score from which on a name is given: chosen for a wanted rate of false accepts, and how sure it is.

Scores here are such that greater is nearer: distances are negated, and -inf stands for no answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shitu.measure import Measure

Floats = NDArray[np.float64]
DRAWS = 1000
SEED = 0
COUNTING = 1e-9  # 0.29 * 100 is 28.999999999999996, and 29 of 100 are meant
_DRAWS_AT_ONCE = 50


@dataclass(frozen=True)
class Cuts:
    """For each of s settings where the threshold must lie: above `lower`, at most at `upper`; (s,) float64 each.

    `lower` is the score of the nearest unknown query that is refused (-inf: none has to be), `upper` the next score
    above it of a query that is accepted: an unknown one, or a known one that is named rightly (inf: there is none).
    `recall` and `false_accepts` are the shares in between the two.
    """

    lower: Floats
    upper: Floats
    recall: Floats
    false_accepts: Floats


def cuts(right: Floats, unknown: Floats, rate: float) -> Cuts:
    """The cuts of the greatest recall at which at most the share `rate` of the unknown queries is named.

    right: (s, k) scores of the known queries that are named rightly, -inf for the others; unknown: (s, u), u > 0.
    """
    allowed = math.floor(rate * unknown.shape[1] + COUNTING)
    lower = -np.partition(-unknown, allowed, axis=1)[:, allowed] if allowed < unknown.shape[1] else -np.inf
    lower = np.broadcast_to(np.asarray(lower, np.float64), (len(right),))
    edge = lower[:, None]
    both = np.concatenate([right, unknown], axis=1)
    upper = np.where(both > edge, both, np.inf).min(axis=1)
    return Cuts(lower, upper, (right > edge).mean(axis=1), (unknown > edge).mean(axis=1))


def reachable(found: Cuts, measure: Measure) -> NDArray[np.bool_]:
    """Where a threshold inside the measure's range keeps the rate: not where unknown queries lie at its very end."""
    return np.asarray(found.lower < measure.limit)


def place(lower: Floats, upper: Floats, measure: Measure) -> Floats:
    """Thresholds midway between the two, away from the edge of either, inside the measure's range.

    Where nothing has to be refused, a little below what is accepted: farther down nothing was seen.
    """
    limit = measure.limit
    upper = np.minimum(upper, limit)
    lower = np.where(np.isneginf(lower), upper - 0.05 * np.abs(upper), np.minimum(lower, limit))
    middle = np.clip((lower + upper) / 2.0, measure.sign * measure.worst, limit)
    return np.asarray(np.ceil(middle) if measure.packed else middle)


def rounded(threshold: float, lower: float, upper: float) -> float:
    """The shortest number in the middle half between the two."""
    gap = (upper - lower) / 4.0
    for digits in range(3, 9):
        short = round(threshold, digits)
        if lower + gap <= short <= upper - gap:
            return short
    return threshold


def shares(right: Floats, unknown: Floats, threshold: Floats | float) -> tuple[Floats, Floats]:
    """Recall and false-accept rate at a threshold; of (s, k) and (s, u) scores, (s,) each."""
    edge = np.reshape(threshold, (-1, 1))
    return (right >= edge).mean(axis=1), (unknown >= edge).mean(axis=1)


@dataclass(frozen=True)
class Intervals:
    """95 % of what other queries of the same kind and number would have given: (low, high) each."""

    threshold: tuple[float, float]
    recall: tuple[float, float]
    false_accepts: tuple[float, float]


def bootstrap(
    right: Floats,
    unknown: Floats,
    rate: float,
    measure: Measure,
    *,
    paired: bool = False,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Intervals:
    """Percentile intervals of one setting; right (k,) and unknown (u,) as for `cuts`.

    paired: right[i] and unknown[i] are of one query, and are drawn together.

    Each draw resamples known and unknown queries twice (Efron and Tibshirani 1993, chapter 13): on the first a
    threshold is chosen, on the second it is measured. So recall and rate vary with the threshold as well as with the
    queries, and 0 of 20 false accepts is not taken for a certain 0.
    """
    random = np.random.default_rng(seed)
    found: list[Floats] = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, draws - start)
        first, second = (_drawn(random, right, unknown, count, paired) for _ in range(2))
        cut = cuts(first[0], first[1], rate)
        threshold = place(cut.lower, cut.upper, measure)
        found.append(np.stack([threshold, *shares(second[0], second[1], threshold)]))
    low, high = np.percentile(np.concatenate(found, axis=1), [2.5, 97.5], axis=1)
    pairs = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return Intervals(pairs[0], pairs[1], pairs[2])


def recall_error(right: Floats, unknown: Floats, rate: float, *, paired: bool = False) -> float:
    """The standard error of the greatest recall at a rate, by the bootstrap; right (k,) and unknown (u,).

    Mostly the threshold's doing: with few unknown queries it hangs on one or two of them.
    """
    random = np.random.default_rng(SEED)
    drawn = [_drawn(random, right, unknown, _DRAWS_AT_ONCE, paired) for _ in range(4)]
    return float(np.concatenate([cuts(first, second, rate).recall for first, second in drawn]).std())


def _drawn(
    random: np.random.Generator, right: Floats, unknown: Floats, count: int, paired: bool
) -> tuple[Floats, Floats]:
    """(count, k) and (count, u), each row as many queries as there are, with replacement."""
    places = random.integers(0, len(right), (count, len(right)))
    others = places if paired else random.integers(0, len(unknown), (count, len(unknown)))
    return right[places], unknown[others]
