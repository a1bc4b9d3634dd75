"""Figures of `shitu evaluate` on random scores: against scikit-learn, and against counting one by one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.evaluation.figures import Confusion, at_threshold, average_precision, confusions, hit, nearness, per_class
from shitu.evaluation.open_set import (
    CURVE_POINTS,
    auroc,
    fpr_at_tpr,
    mean_interval,
    measure_open_set,
    open_set_curve,
    recall_at,
)
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import Answer, Settings
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.measure import measure_of
from shitu.results import Match, Region

metrics = pytest.importorskip("sklearn.metrics")
Floats = NDArray[np.float64]
SEEDS = range(20)
NO_ANSWER = -9.0  # what scikit-learn is given for -inf


def scores(seed: int, *, answered: float = 0.9) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Known scores, which are right, and unknown scores; with ties, and with queries that have no answer."""
    random = np.random.default_rng(seed)
    known = np.round(random.normal(0.6, 0.2, random.integers(1, 60)), 1 + seed % 3)
    unknown = np.round(random.normal(0.4, 0.2, random.integers(1, 60)), 1 + seed % 3)
    known[random.random(len(known)) > answered] = -math.inf
    unknown[random.random(len(unknown)) > answered] = -math.inf
    return known, (random.random(len(known)) < 0.8) & (known > -math.inf), unknown


def labelled(known: Floats, unknown: Floats) -> tuple[NDArray[np.int64], Floats]:
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    return truth, np.maximum(np.concatenate([known, unknown]), NO_ANSWER)


def drawn(seed: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 3, count) + (np.arange(count) == 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_auroc_is_scikit_learns(seed: int) -> None:
    known, _, unknown = scores(seed)
    assert auroc(known, unknown) == pytest.approx(metrics.roc_auc_score(*labelled(known, unknown)))
    often = drawn(seed, len(known)), drawn(seed + 1, len(unknown))  # as the bootstrap draws them
    repeated = np.repeat(known, often[0]), np.repeat(unknown, often[1])
    assert auroc(*repeated) == pytest.approx(metrics.roc_auc_score(*labelled(*repeated)))


@pytest.mark.parametrize("seed", SEEDS)
def test_fpr_at_95_tpr_is_scikit_learns(seed: int) -> None:
    known, _, unknown = scores(seed, answered=1.0 if seed % 2 else 0.9)
    false, true, _ = metrics.roc_curve(*labelled(known, unknown), drop_intermediate=False)
    first = false[np.flatnonzero(true >= 0.95 - 1e-12)[0]]
    if (known > -math.inf).mean() < 0.95:
        first = 1.0  # no threshold accepts who has no answer
    assert fpr_at_tpr(known, unknown) == pytest.approx(first)


def recall_by_counting(known: Floats, right: NDArray[np.bool_], unknown: Floats, rate: float) -> float:
    """Try every threshold between the scores."""
    seen = sorted({*known.tolist(), *unknown.tolist()} - {-math.inf})
    best = 0.0
    for threshold in [*seen, (seen[-1] if seen else 0.0) + 1]:
        accepted = sum(one >= threshold for one in unknown)
        if accepted <= rate * len(unknown) + 1e-9:
            best = max(best, sum(ok and one >= threshold for one, ok in zip(known, right, strict=True)) / len(known))
    return best


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("seed", SEEDS)
def test_recall_at_a_false_accept_rate(seed: int, rate: float) -> None:
    known, right, unknown = scores(seed)
    found = recall_at(np.where(right, known, -math.inf), unknown, rate)[1]
    assert found == pytest.approx(recall_by_counting(known, right, unknown, rate))
    told = measure_open_set(known, right, unknown, hidden=False, false_accepts=(rate,)).recall_at[0]
    assert told.recall == found
    threshold = told.threshold
    assert (unknown >= threshold).sum() <= rate * len(unknown) + 1e-9
    assert (right & (known >= threshold)).mean() == pytest.approx(found)
    often = drawn(seed, len(known)), drawn(seed + 1, len(unknown))
    repeated = np.repeat(known, often[0]), np.repeat(right, often[0]), np.repeat(unknown, often[1])
    drawn_recall = recall_at(np.where(repeated[1], repeated[0], -math.inf), repeated[2], rate)[1]
    assert drawn_recall == pytest.approx(recall_by_counting(*repeated, rate))


def test_29_of_100_is_not_28() -> None:
    unknown = np.arange(100.0)
    known = np.array([70.5, 71.5])
    assert recall_at(known, unknown, 0.29)[1] == 1.0, "29 of them are above 70.5"
    assert recall_at(known, unknown, 0.28)[1] == 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_curve_is_what_counting_gives(seed: int) -> None:
    known, right, unknown = scores(seed)
    curve = open_set_curve(known, np.where(right, known, -math.inf), unknown)
    assert set(curve.threshold) == {*known, *unknown} - {-math.inf}
    assert (np.diff(curve.threshold) < 0).all()
    for threshold, false, recall in zip(*curve, strict=True):
        assert false == pytest.approx(sum(one >= threshold for one in unknown) / len(unknown))
        assert recall == pytest.approx(
            sum(ok and one >= threshold for one, ok in zip(known, right, strict=True)) / len(known)
        )


def test_a_long_curve_is_thinned_out_and_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    known, unknown = random.random(5000), random.random(5000)
    curve = open_set_curve(known, known, unknown)
    assert len(curve.threshold) <= CURVE_POINTS
    assert curve.threshold[0] == max(known.max(), unknown.max())
    assert (curve.false_accept_rate[-1], curve.recall[-1]) == (1.0, 1.0)
    assert (curve.false_accept_rate < 0.01).sum() > 50, "the strict end is what is looked at"


def test_the_open_set_figures_come_together() -> None:
    known, right, unknown = scores(3)
    found = measure_open_set(known, right, unknown, hidden=False, false_accepts=(0.1, 0.2))
    assert (found.kind, found.known, found.unknown) == ("listed", len(known), len(unknown))
    assert [at.false_accept_rate for at in found.recall_at] == [0.1, 0.2]
    for at in found.recall_at:
        assert at.recall == pytest.approx(recall_by_counting(known, right, unknown, at.false_accept_rate))
        assert at.low <= at.recall <= at.high
    low, high = found.auroc_interval
    assert low < found.auroc < high
    again = measure_open_set(known, right, unknown, hidden=False, false_accepts=(0.1, 0.2))
    assert again.recall_at == found.recall_at, "the draws are always the same"


def test_hidden_labels_are_drawn_with_their_queries() -> None:
    """Where every query scores just above its own hidden score, pairs that stay together vary less."""
    random = np.random.default_rng(1)
    known = random.random(200)
    right = np.ones(200, np.bool_)
    together = measure_open_set(known, right, known - 1e-9, hidden=True, false_accepts=(0.1,))
    apart = measure_open_set(known, right, known - 1e-9, hidden=False, false_accepts=(0.1,))
    assert together.auroc == apart.auroc
    assert np.ptp(together.auroc_interval) < np.ptp(apart.auroc_interval) / 4


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    """200 queries, 80 % right: one standard deviation is sqrt(0.8 * 0.2 / 200), 0.0283."""
    low, high = mean_interval(np.arange(200) % 5 > 0)
    assert low == pytest.approx(0.8 - 1.96 * 0.0283, abs=0.006)
    assert high == pytest.approx(0.8 + 1.96 * 0.0283, abs=0.006)


# --- average precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_average_precision_is_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, positive = random.random(50), random.random(50) < 0.2
    positive[7] = True
    assert average_precision(values, positive) == pytest.approx(metrics.average_precision_score(positive, values))
    tied = np.round(values, 1)
    order = sorted(range(50), key=lambda n: (-tied[n], n))  # scikit-learn lets ties share a rank
    hits = [sum(positive[order[: rank + 1]]) / (rank + 1) for rank in range(50) if positive[order[rank]]]
    assert average_precision(tied, positive) == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_nearness_is_the_gallerys_own_score(dist_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.gallery.read.store.BLOCK_ROWS", 7)
    random = np.random.default_rng(0)
    if dist_type == "hamming":
        queries, gallery = (random.integers(0, 256, (n, 8)).astype(np.uint8) for n in (5, 30))
    else:
        queries, gallery = (random.normal(size=(n, 16)).astype(np.float32) for n in (5, 30))
    gallery[3] = gallery[20] = queries[0]
    measure, items = measure_of(dist_type), (Item("a", f"{number}") for number in range(30))
    expected = [measure.sign * measure.score(query, gallery) for query in queries]
    made = Gallery.create(tmp_path, gallery, items, index_method="Flat", dist_type=dist_type, fingerprint="")
    found = nearness(queries, made)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert found[0, 3] == found[0, 20], "equal vectors score equally"


# --- shares --------------------------------------------------------------------------------------------------------


def answered(label: str, *labels: str, top: float = 0.9) -> Answer:
    """A query of `label` and the labels of its nearest gallery entries."""
    matches = tuple(Match(name, top - place / 100, place, "") for place, name in enumerate(labels))
    regions = (Region((0, 0, 9, 9), 1.0, matches),) if matches else ()
    query = Query("", "", label, None, 1)
    return Answer(query, True, regions, matches, top if matches else -math.inf, 0.0, labels[:1] == (label,))


ANSWERS = [
    answered("a", "a", "b"),
    answered("a", "b", "b", "b", "a", top=0.6),
    answered("a", "c", "b", "b", "b", "b", "a", top=0.2),
    answered("a", "b", top=0.3),
    answered("b", "b", top=0.4),
    answered("b"),
]
SETTINGS = Settings(0.2, 5, "always", 0.05, 0.5, "IP", 100)


def test_shares_by_hand() -> None:
    assert [hit(one, 1) for one in ANSWERS] == [True, False, False, False, True, False]
    assert [hit(one, 5) for one in ANSWERS] == [True, True, False, False, True, False]
    at = at_threshold(ANSWERS, [0.5, 0.49, -math.inf], SETTINGS)
    assert (at.threshold, at.named_right, at.named_wrong) == (0.5, 1 / 6, 1 / 6)
    assert at.not_named == pytest.approx(4 / 6)
    assert at.unknown_named == pytest.approx(1 / 3)
    assert at_threshold(ANSWERS, [], SETTINGS).unknown_named is None


def test_classes_and_confusions_by_hand() -> None:
    assert confusions(ANSWERS) == (Confusion("a", "b", 2, 0.5), Confusion("a", "c", 1, 0.25))
    worst, best = per_class(ANSWERS, [1, 0.5, 0.25, 0, 1, 0], SETTINGS, {"a": 7, "b": 3})
    assert (worst.label, worst.queries, worst.gallery_entries) == ("a", 4, 7)
    assert (worst.recall1, worst.recall5, worst.ap, worst.named_right) == (0.25, 0.5, 1.75 / 4, 0.25)
    assert (best.label, best.recall1, best.recall5, best.ap, best.named_right) == ("b", 0.5, 0.5, 0.5, 0.0)
    assert per_class(ANSWERS, None, SETTINGS, {"a": 7, "b": 3})[0].ap is None


@pytest.mark.parametrize(
    ("dist_type", "limit", "radius", "accepted"),
    [("IP", 0.5, 9, [0.5, 0.9]), ("L2", 0.5, 9, [-0.5, -0.1]), ("hamming", 0.5, 9, [-9.0, -0.5])],
)
def test_thresholds_of_distances_work_the_other_way(
    dist_type: Any, limit: float, radius: int, accepted: list[float]
) -> None:
    settings = Settings(0.2, 5, "always", 0.05, limit, dist_type, radius)
    assert all(settings.accepts(one) for one in accepted)
    assert not any(settings.accepts(one - 1e-6) for one in accepted[:1])
    assert not settings.accepts(-math.inf)
    assert all(Settings(0.2, 5, "always", 0.05, None, dist_type, radius).accepts(one) for one in (-1e9, 1e9))
