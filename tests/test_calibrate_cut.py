"""The threshold for a wanted rate of false accepts, against trying all of them; intervals, against a known quantile."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from shitu.evaluation.cut import Floats, bootstrap, cuts, place, reachable, recall_error, rounded, shares
from shitu.measure import IP, L2, measure_of


def best_recall(right: Floats, unknown: Floats, rate: float) -> tuple[float, float]:
    """By trying every threshold that could matter: recall, and the least rate at which it is reached."""
    edges = [*sorted({score for score in [*right, *unknown] if score > -math.inf}), math.inf]
    found = [(float(np.mean(right >= edge)), -float(np.mean(unknown >= edge))) for edge in edges]
    recall, accepted = max(one for one in found if -one[1] <= rate)
    return recall, -accepted


def scores(random: np.random.Generator, shape: tuple[int, ...], dist_type: str) -> Floats:
    """With ties and with queries that have no answer; greater is nearer."""
    found = random.integers(0, 21, shape) / 20.0
    drawn = {"IP": found, "L2": found - 1.5, "hamming": 20 * found - 30}[dist_type]
    return np.where(random.random(shape) < 0.1, -np.inf, drawn)


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.3, 0.5, 0.95])
def test_cuts_are_the_best_there_are(dist_type: str, rate: float) -> None:
    random = np.random.default_rng(7)
    for _ in range(60):
        right = scores(random, (3, random.integers(1, 12)), dist_type)
        unknown = scores(random, (3, random.integers(1, 25)), dist_type)
        found = cuts(right, unknown, rate)
        placed = place(found.lower, found.upper, measure_of(dist_type))
        realised = shares(right, unknown, placed)
        for row in range(3):
            recall, accepted = best_recall(right[row], unknown[row], rate)
            assert found.recall[row] == pytest.approx(recall)
            if reachable(found, measure_of(dist_type))[row]:
                assert realised[0][row] == pytest.approx(recall), "the threshold does what the cut says"
                assert accepted - 1e-12 <= realised[1][row] <= rate
            else:
                assert found.lower[row] == 1.0


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_thresholds_stay_inside_the_range_and_off_the_edges(dist_type: str) -> None:
    random = np.random.default_rng(8)
    right, unknown = scores(random, (200, 6), dist_type), scores(random, (200, 9), dist_type)
    found = cuts(right, unknown, 0.2)
    placed = place(found.lower, found.upper, measure_of(dist_type))
    good = reachable(found, measure_of(dist_type))
    assert (placed[good] > found.lower[good]).all()
    assert (placed <= found.upper).all()
    assert (placed <= (1.0 if dist_type == "IP" else 0.0)).all()
    if dist_type == "hamming":
        assert (placed == np.rint(placed)).all()
    else:
        both = good & np.isfinite(found.lower) & np.isfinite(found.upper)
        np.testing.assert_allclose(placed[both], (found.lower[both] + found.upper[both]) / 2)
        if dist_type == "IP":
            assert (placed >= -1.0).all()


def test_a_table_by_hand() -> None:
    """10 unknown, 2 of 10 may be named: 0.5 is the nearest that is refused, 0.6 the next that counts."""
    right = np.array([[0.9, 0.6, 0.55, -np.inf, 0.4]])
    unknown = np.array([[0.95, 0.7, 0.5, 0.5, 0.45, 0.3, 0.2, 0.1, -np.inf, -np.inf]])
    found = cuts(right, unknown, 0.2)
    assert (found.lower[0], found.upper[0], found.recall[0], found.false_accepts[0]) == (0.5, 0.55, 0.6, 0.2)
    assert place(found.lower, found.upper, IP)[0] == pytest.approx(0.525)
    assert cuts(right, unknown, 0.29999999999999999).false_accepts[0] == 0.2, "both at 0.5 would be 4 of 10"
    assert cuts(right, unknown, 0.4).false_accepts[0] == 0.4
    assert cuts(right, unknown, 0.8).lower[0] == -np.inf, "those without answer need no threshold"


def test_nothing_to_refuse_and_nothing_to_accept() -> None:
    none, some = np.array([[-np.inf, -np.inf]]), np.array([[0.5, 0.8]])
    found = cuts(some, none, 0.1)
    assert place(found.lower, found.upper, IP)[0] == pytest.approx(0.4875), "a little below what was accepted"
    found = cuts(none, some, 0.1)
    assert place(found.lower, found.upper, IP)[0] == pytest.approx(0.9), "between what is refused and the end"
    found = cuts(none - 0, none, 0.1)
    assert np.isfinite(place(found.lower, found.upper, L2)).all()


@pytest.mark.parametrize(
    ("lower", "upper", "wanted"),
    [(0.5, 0.6, 0.55), (0.5123, 0.5131, 0.5127), (0.51231, 0.51239, 0.51235), (0.2, 0.2 + 1e-12, 0.2 + 5e-13)],
)
def test_rounded_is_short_and_central(lower: float, upper: float, wanted: float) -> None:
    found = rounded((lower + upper) / 2, lower, upper)
    assert found == pytest.approx(wanted, abs=1e-13)
    assert lower < found < upper


def test_intervals_hold_what_they_promise() -> None:
    """Unknown scores are standard normal, so the threshold for a rate of 0.1 is the 90 % quantile, 1.2816.

    In 200 repetitions 95 % +- 1.5 % (a standard error) of the intervals should hold it. The percentile bootstrap of a
    quantile of 200 keeps a little less than it promises; seeded, so this is one number.
    """
    random, inside, true = np.random.default_rng(0), 0, NormalDist().inv_cdf(0.9)
    recall_true = 1 - NormalDist(2.5, 1).cdf(true)
    recalls = 0
    for _ in range(200):
        right, unknown = random.normal(2.5, 1, 200) / 10, random.normal(0, 1, 200) / 10
        found = bootstrap(right, unknown, 0.1, IP, draws=400)
        inside += found.threshold[0] <= true / 10 <= found.threshold[1]
        recalls += found.recall[0] <= recall_true <= found.recall[1]
        assert found.false_accepts[0] <= 0.1 <= found.false_accepts[1]
    assert 184 <= inside <= 196
    assert recalls >= 184, "what is recalled at the true threshold"


def test_intervals_are_seeded_and_do_not_take_few_for_certain() -> None:
    unknown = np.linspace(0.1, 0.6, 19)
    right = np.linspace(0.4, 0.9, 40)
    found = bootstrap(right, unknown, 0.05, IP)
    assert found == bootstrap(right, unknown, 0.05, IP)
    assert found.false_accepts[1] > 0.05, "none of 19 is named, and yet the rate may be higher than wanted"
    paired = bootstrap(unknown, unknown, 0.05, IP, paired=True)
    assert paired.recall == paired.false_accepts, "drawn together they are the same queries"


def test_the_error_of_a_recall() -> None:
    """All unknown alike: a share's error, sqrt(p (1 - p) / n). One of them far up: it is drawn, or all is recalled."""
    right = np.array([0.9] * 80 + [-np.inf] * 20)
    assert recall_error(right, np.full(20, 0.1), 0.0) == pytest.approx(0.04, rel=0.15)
    one = np.array([0.95] + [0.1] * 19)
    # The one is drawn with a chance of 1 - (1 - 1 / 20) ** 20 = 0.64, and then no threshold below it keeps the rate.
    assert recall_error(right, one, 0.0) == pytest.approx(0.8 * math.sqrt(0.64 * 0.36), rel=0.1)
