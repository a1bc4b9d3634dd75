"""Recall@k, mAP and mINP from embeddings, exact, in blocks of queries against the whole gallery.

Similarities are products summed in float64 and compared as float32, because float32 matrix products round by position
and would order equal vectors at random; equal similarities go to the lower gallery index. A pair of the same label and
the same id is taken out of the ranking before anything is counted: in PaddleClas it keeps a rank (retrieval.py:89).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shitu.gallery.read.faiss_index import exact_search
from shitu.measure import IP

Vectors = NDArray[np.float32]
Integers = NDArray[np.int64]
GALLERY_ROWS = 8192  # converted to float64 at once
FAISS_QUERIES = 1024  # searched at once; with 64 it takes three times as long (benchmarks/retrieval.py)
SPARE = 16  # neighbours asked for beyond those wanted
ROUNDING = 4e-6  # float32 products of unit vectors agree to about 1e-6, as in gallery/read/search.py


@dataclass(frozen=True)
class Embedded:
    """Rows that belong together. vectors: (n, d) float32, unit vectors or ±1 codes; labels: (n,); ids: (n,) or None;
    index: (n,) which entries of their list they are, or None.
    """

    vectors: Vectors
    labels: Integers
    ids: Integers | None = None
    index: Integers | None = None

    def __post_init__(self) -> None:
        counts = {len(self.vectors), len(self.labels)} | ({len(self.ids)} if self.ids is not None else set())
        if len(counts) != 1 or self.vectors.ndim != 2:
            raise ValueError(f"vectors {self.vectors.shape}, labels {self.labels.shape}: as many of each are wanted")

    def rows(self, chosen: slice) -> Embedded:
        ids, index = (None if each is None else each[chosen] for each in (self.ids, self.index))
        return Embedded(self.vectors[chosen], self.labels[chosen], ids, index)


@dataclass(frozen=True)
class Sums:
    """What slices of the queries add up to; `hits` and `shares` belong to `topk`: queries with a positive among the k
    nearest, and the share of these that are positives. `left_out`: queries without a positive.
    """

    topk: tuple[int, ...]
    hits: tuple[float, ...]
    shares: tuple[float, ...] = ()
    average_precision: float = 0.0
    inverse_penalty: float = 0.0
    queries: float = 0.0
    left_out: float = 0.0

    def as_row(self) -> NDArray[np.float64]:
        """(1, 2 len(topk) + 4) float64, to be gathered from several processes."""
        counts = (self.average_precision, self.inverse_penalty, self.queries, self.left_out)
        shares = self.shares or (0.0,) * len(self.topk)
        return np.array([[*self.hits, *shares, *counts]], np.float64)

    @classmethod
    def of_rows(cls, topk: tuple[int, ...], rows: NDArray[np.float64]) -> Sums:
        """The sum of rows (n, 2 len(topk) + 4)."""
        total, k = rows.sum(axis=0).tolist(), len(topk)
        return cls(topk, tuple(total[:k]), tuple(total[k : 2 * k]), *total[2 * k :])


def metrics_of(sums: Sums) -> dict[str, float]:
    """Means over the queries with a positive: recall<k>, precision<k>, mAP, mINP in 0..1; NaN without such a query."""

    def mean(total: float) -> float:
        return total / sums.queries if sums.queries else float("nan")

    recalls = {f"recall{k}": mean(hits) for k, hits in zip(sums.topk, sums.hits, strict=True)}
    precisions = {f"precision{k}": mean(share) for k, share in zip(sums.topk, sums.shares, strict=True)}
    return {**recalls, **precisions, "mAP": mean(sums.average_precision), "mINP": mean(sums.inverse_penalty)}


def score(
    queries: Embedded, gallery: Embedded, *, topk: tuple[int, ...] = (1, 5), precision: bool = True, block: int = 64
) -> Sums:
    """Compare every query with every gallery row.

    recall@k: share of queries with a row of their label among the k nearest. Average precision: mean over a query's
    positives of (positives up to this one) / (its rank). Inverse negative penalty: positives / rank of the last one.
    `block` queries (x len(gallery) float32) are in memory at once. Without `precision` only recall is worked out, from
    the nearest rows by faiss, which is quicker and needs no such block; both ways agree.
    """
    topk = tuple(dict.fromkeys(topk))
    pairs = Pairs(gallery.labels, gallery.ids)
    total = np.zeros_like(Sums(topk, (0.0,) * len(topk)).as_row())
    step = block if precision else max(block, FAISS_QUERIES)
    for start in range(0, len(queries.vectors), step):
        part = queries.rows(slice(start, start + step))
        for ranks in _all_ranks(part, gallery, pairs) if precision else _first_ranks(part, gallery, pairs, max(topk)):
            total += _query_sums(topk, ranks).as_row()
    return Sums.of_rows(topk, total)


def _query_sums(topk: tuple[int, ...], ranks: Integers | None) -> Sums:
    """`ranks`: those of a query's positives, ascending from 0; None where it has none."""
    if ranks is None:
        return Sums(topk, (0.0,) * len(topk), left_out=1)
    hits = tuple(float(len(ranks) > 0 and ranks[0] < k) for k in topk)
    if not len(ranks):
        return Sums(topk, hits, queries=1)
    shares = tuple(float((ranks < k).sum()) / k for k in topk)
    count = np.arange(1, len(ranks) + 1)
    return Sums(topk, hits, shares, float((count / (ranks + 1)).mean()), float(len(ranks) / (ranks[-1] + 1)), queries=1)


class Pairs:
    """Which gallery rows are a query's positives, and which are taken out for it."""

    def __init__(self, labels: Integers, ids: Integers | None) -> None:
        self._order = np.argsort(labels, kind="stable").astype(np.int64)
        self._labels, self._ids = labels[self._order], ids

    def of(self, labels: Integers, ids: Integers | None, row: int) -> tuple[Integers, Integers]:
        """Positives of the query `row`, and rows taken out; each ascending."""
        first, end = np.searchsorted(self._labels, labels[row]), np.searchsorted(self._labels, labels[row], "right")
        same = self._order[first:end]
        if self._ids is None or ids is None:
            return same, same[:0]
        own = self._ids[same] == ids[row]
        return same[~own], same[own]


def _all_ranks(part: Embedded, gallery: Embedded, pairs: Pairs) -> Iterator[Integers | None]:
    """For each query the ranks of all its positives, ascending from 0, or None."""
    for row, similarity in enumerate(similarities(part.vectors, gallery.vectors)):
        positives, own = pairs.of(part.labels, part.ids, row)
        if not len(positives):
            yield None
            continue
        similarity[own] = -np.inf
        # What is further away than the furthest positive has no say in any rank.
        candidates = np.flatnonzero(similarity >= similarity[positives].min())
        ranking = np.sort(_keys(similarity[candidates], candidates))
        yield np.searchsorted(ranking, np.sort(_keys(similarity[positives], positives)))


def similarities(queries: Vectors, gallery: Vectors) -> Vectors:
    """(q, g) float32, products summed in float64."""
    result = np.empty((len(queries), len(gallery)), np.float32)
    wide = queries.astype(np.float64)
    for start in range(0, len(gallery), GALLERY_ROWS):
        rows = slice(start, start + GALLERY_ROWS)
        result[:, rows] = wide @ gallery[rows].astype(np.float64).T
    return result


def _keys(similarity: Vectors, rows: Integers) -> Integers:
    """One integer for each row that ascends with falling similarity, then with the row's index.

    The bits of a float32 ascend as its value does where it is positive, and descend where it is negative.
    """
    bits = (similarity + np.float32(0)).view(np.int32)  # + 0: there are two zeros
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    return np.asarray((-ordered << 32) | rows, np.int64)


def _first_ranks(part: Embedded, gallery: Embedded, pairs: Pairs, k: int) -> Iterator[Integers | None]:
    """For each query the ranks below k of its positives, or None where it has no positive at all.

    faiss's neighbours are ordered anew by `similarities`; where it may hold back one as near as the k-th, the query is
    compared with everything.
    """
    found = [pairs.of(part.labels, part.ids, row) for row in range(len(part.vectors))]
    fetch = min(len(gallery.vectors), k + max((len(own) for _, own in found), default=0) + SPARE)
    if not fetch:
        yield from (None for _ in found)
        return
    nearest, rows = exact_search(part.vectors, gallery.vectors, fetch, IP)
    for row, (positives, own) in enumerate(found):
        if not len(positives):
            yield None
            continue
        neighbours = np.setdiff1d(rows[row], own)
        similarity = similarities(part.vectors[row : row + 1], gallery.vectors[neighbours])[0]
        keys = np.sort(_keys(similarity, neighbours))[:k]
        kth = np.sort(similarity)[::-1][:k][-1]
        unsure = ROUNDING * max(1.0, abs(float(kth)), float(np.dot(part.vectors[row], part.vectors[row])))
        if fetch < len(gallery.vectors) and nearest[row, -1] + unsure >= kth:
            ranks = next(_all_ranks(part.rows(slice(row, row + 1)), gallery, pairs))
            assert ranks is not None
            yield ranks[ranks < k]
        else:
            yield np.flatnonzero(np.isin(keys & 0xFFFFFFFF, positives))
