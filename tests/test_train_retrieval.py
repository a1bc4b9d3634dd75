"""Recall@k, mAP and mINP against loops that sort everything, with ties, duplicates and pairs taken out."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from shitu.training.rec import retrieval
from shitu.training.rec.retrieval import Embedded, Sums, metrics_of, score

TOPK = (1, 5)
KINDS = ("normal", "duplicates", "codes", "collapsed", "zeros")


def naive(queries: Embedded, gallery: Embedded) -> dict[str, float]:
    """One query after the other, one sort of the whole gallery each."""
    hits, average, penalty, left_out = dict.fromkeys(TOPK, 0), [], [], 0
    for row, vector in enumerate(queries.vectors):
        kept = [
            i
            for i in range(len(gallery.vectors))
            if gallery.ids is None
            or queries.ids is None
            or not (gallery.labels[i] == queries.labels[row] and gallery.ids[i] == queries.ids[row])
        ]
        similarity = np.float32(
            [np.dot(gallery.vectors[i].astype(np.float64), vector.astype(np.float64)) for i in kept]
        )
        ranking = np.argsort(-similarity, kind="stable")
        right = [gallery.labels[kept[i]] == queries.labels[row] for i in ranking]
        ranks = [rank for rank, found in enumerate(right, start=1) if found]
        if not ranks:
            left_out += 1
            continue
        for k in TOPK:
            hits[k] += any(right[:k])
        average.append(np.mean([count / rank for count, rank in enumerate(ranks, start=1)]))
        penalty.append(len(ranks) / ranks[-1])
    count = len(average)
    recalls = (
        {f"recall{k}": hits[k] / count for k in TOPK} if count else dict.fromkeys(("recall1", "recall5"), math.nan)
    )
    means = {"mAP": float(np.mean(average)), "mINP": float(np.mean(penalty))} if count else {}
    return {**recalls, **means, "queries": count, "left_out": left_out}


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(kind: str, count: int, rng: np.random.Generator, *, ids: bool, classes: int = 7) -> Embedded:
    pool = unit(np.random.default_rng(1).normal(size=(30, 24)))  # the same for queries and gallery
    vectors = {
        "normal": lambda: unit(rng.normal(size=(count, 24))),
        "duplicates": lambda: pool[rng.integers(0, 30, count)],
        "codes": lambda: rng.choice(np.float32([-1, 1]), size=(count, 24)),
        "collapsed": lambda: np.repeat(pool[:1], count, axis=0),
        "zeros": lambda: pool[rng.integers(0, 30, count)] * rng.integers(0, 2, (count, 1)).astype(np.float32),
    }[kind]()
    labels = rng.integers(0, classes, count)
    return Embedded(vectors, labels, rng.integers(0, 6, count) if ids else None)


@pytest.mark.parametrize(("kind", "ids"), list(product(KINDS, (False, True))))
def test_both_ways_agree_with_the_loops(kind: str, ids: bool) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        queries = made(kind, int(rng.integers(1, 25)), rng, ids=ids)
        gallery = made(kind, int(rng.integers(1, 300)), rng, ids=ids, classes=int(rng.integers(1, 20)))
        wanted = naive(queries, gallery)
        exact = score(queries, gallery, topk=TOPK, block=7)
        quick = score(queries, gallery, topk=TOPK, block=7, precision=False)
        found = {**metrics_of(exact), "queries": exact.queries, "left_out": exact.left_out}
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-12, nan_ok=True)
        assert (quick.hits, quick.queries, quick.left_out) == (exact.hits, exact.queries, exact.left_out)
        assert quick.shares == exact.shares


def test_by_hand() -> None:
    """Ranking of the one query: wrong, right, (its own image, taken out), wrong, right."""
    gallery = Embedded(
        np.float32([[1, 0], [0.9, 0], [0.8, 0], [0.7, 0], [0.6, 0]]),
        np.array([2, 1, 1, 2, 1]),
        np.array([0, 1, 9, 3, 4]),
    )
    query = Embedded(np.float32([[1, 0]]), np.array([1]), np.array([9]))
    found = metrics_of(score(query, gallery, topk=(1, 2)))
    precisions = {"precision1": 0, "precision2": 1 / 2}
    assert found == pytest.approx({"recall1": 0, "recall2": 1, **precisions, "mAP": (1 / 2 + 2 / 4) / 2, "mINP": 2 / 4})


def test_a_pair_taken_out_keeps_no_rank() -> None:
    """PaddleClas leaves it in the ranking with similarity 0, ahead of everything negative."""
    gallery = Embedded(np.float32([[1], [-0.5]]), np.array([1, 1]), np.array([7, 8]))
    query = Embedded(np.float32([[1]]), np.array([1]), np.array([7]))
    for precision in (True, False):
        assert score(query, gallery, topk=(1,), precision=precision).hits == (1.0,)


@pytest.mark.parametrize("label_of_first", [0, 1])
def test_equal_similarities_go_to_the_lower_index(label_of_first: int) -> None:
    gallery = Embedded(np.float32([[0.6, 0.8]] * 2), np.array([label_of_first, 1 - label_of_first]))
    query = Embedded(np.float32([[0.6, 0.8]]), np.array([1]))
    for precision in (True, False):
        assert score(query, gallery, topk=(1,), precision=precision).hits == (float(label_of_first),)


def test_the_two_zeros_are_equal() -> None:
    """Similarities of -1e-60 and 1e-60 become -0.0 and 0.0 as float32."""
    gallery = Embedded(np.float32([[-1e-30], [1e-30]]), np.array([1, 0]))
    query = Embedded(np.float32([[1e-30]]), np.array([1]))
    assert score(query, gallery, topk=(1,)).hits == (1.0,)


def test_equal_vectors_are_equal_wherever_they_stand() -> None:
    """float32 matrix products round by position: of 999 copies, the last ones differed."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit(rng.normal(size=(1, 515))), 999, axis=0)
    queries = Embedded(unit(rng.normal(size=(33, 515))), np.ones(33, np.int64))
    gallery = Embedded(vectors, (np.arange(999) == 0).astype(np.int64))
    for precision in (True, False):
        assert score(queries, gallery, topk=(1,), block=33, precision=precision).hits == (33.0,)


def test_faiss_may_keep_any_of_equal_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the last ones, so that the first, which come first in the ranking, are not among those fetched."""

    def last_of_equals(queries: np.ndarray, gallery: np.ndarray, k: int, _: str) -> tuple[np.ndarray, np.ndarray]:
        similarity = np.float32(queries.astype(np.float64) @ gallery.astype(np.float64).T)
        order = len(gallery) - 1 - np.argsort(-similarity[:, ::-1], axis=1, kind="stable")[:, :k]
        return np.take_along_axis(similarity, order, axis=1), order

    monkeypatch.setattr(retrieval, "exact_search", last_of_equals)
    rng = np.random.default_rng(0)
    for kind in ("duplicates", "codes", "collapsed"):
        queries, gallery = made(kind, 40, rng, ids=True), made(kind, 400, rng, ids=True)
        quick = score(queries, gallery, precision=False)
        assert quick.hits == score(queries, gallery).hits


def test_a_query_that_finds_nothing_but_itself_is_left_out() -> None:
    side = Embedded(np.eye(3, dtype=np.float32), np.array([0, 1, 2]), np.arange(3))
    for precision in (True, False):
        sums = score(side, side, precision=precision)
        assert (sums.queries, sums.left_out) == (0, 3)
        assert all(math.isnan(value) for value in metrics_of(sums).values())


@pytest.mark.parametrize("precision", [True, False])
def test_empty(precision: bool) -> None:
    some = Embedded(np.eye(2, dtype=np.float32), np.array([0, 1]))
    none = Embedded(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    assert score(none, some, precision=precision).queries == 0
    assert score(some, none, precision=precision).left_out == 2
    assert score(some, some, topk=(100,), precision=precision).hits == (2.0,)  # more than there are


@pytest.mark.parametrize("precision", [True, False])
def test_shares_of_the_queries_add_up(precision: bool) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = made("duplicates", 50, rng, ids=True), made("duplicates", 80, rng, ids=True)
    whole = score(queries, gallery, precision=precision)
    shares = [score(queries.rows(slice(start, start + 13)), gallery, precision=precision) for start in range(0, 50, 13)]
    total = Sums.of_rows(whole.topk, np.concatenate([share.as_row() for share in shares]))
    assert metrics_of(total) == pytest.approx(metrics_of(whole), rel=1e-12)
    assert total.left_out == whole.left_out


def test_no_more_than_a_block_is_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    compare = retrieval.similarities
    monkeypatch.setattr(retrieval, "similarities", lambda q, g: (seen.append(len(q)), compare(q, g))[1])
    rng = np.random.default_rng(0)
    score(made("normal", 130, rng, ids=False), made("normal", 20, rng, ids=False), block=64)
    assert seen == [64, 64, 2]


def test_a_gallery_longer_than_what_is_converted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = made("duplicates", 20, rng, ids=False), made("duplicates", 200, rng, ids=False)
    whole = score(queries, gallery)
    monkeypatch.setattr(retrieval, "GALLERY_ROWS", 33)
    assert score(queries, gallery) == whole


def test_rows_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="as many of each"):
        Embedded(np.zeros((3, 2), np.float32), np.zeros(2, np.int64))
