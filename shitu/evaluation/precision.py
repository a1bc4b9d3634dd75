"""Average precision over the whole gallery, exact, in blocks of queries against blocks of gallery vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.evaluation.observe import Observation
from shitu.evaluation.settings import Answer
from shitu.gallery import GalleryReader

MOST_ENTRIES = 100_000  # beyond, only when asked for: 10,000 queries against these take minutes
REGIONS_AT_ONCE = 128  # x entries x 4 bytes are in memory at once

Vectors = NDArray[Any]
Nearness = NDArray[np.float32]


class Precision:
    """Average precisions of queries added one by one; `finish` gives them in that order.

    Gallery entries are ranked by their best score over the regions that count, ties by lower id. The vectors of at most
    REGIONS_AT_ONCE regions (or one query's) are kept.
    """

    def __init__(self, gallery: GalleryReader) -> None:
        self._gallery = gallery
        self._codes: dict[str, int] = {}
        ids, labels = [], []
        for item in gallery.items():
            ids.append(item.id)
            labels.append(self._codes.setdefault(item.label, len(self._codes)))
        self._ids, self._labels = np.array(ids, np.int64), np.array(labels, np.int64)
        self._waiting: list[tuple[Vectors, str, frozenset[int]]] = []
        self._found: list[float] = []

    def add(self, seen: Observation, answer: Answer) -> None:
        """One known query."""
        places = {part.bbox: number for number, part in enumerate(seen.parts)}
        rows = seen.vectors[[places[region.bbox] for region in answer.regions]]
        self._waiting.append((rows, seen.query.label, seen.left_out))
        if sum(len(rows) for rows, _, _ in self._waiting) >= REGIONS_AT_ONCE:
            self._work()

    def finish(self) -> list[float]:
        self._work()
        return self._found

    def _work(self) -> None:
        parts = [rows for rows, _, _ in self._waiting if len(rows)]
        scores = nearness(np.concatenate(parts), self._gallery) if parts else np.empty((0, 0))
        start = 0
        for rows, label, left_out in self._waiting:
            own = scores[start : start + len(rows)]
            start += len(rows)
            self._found.append(self._precision(own.max(axis=0), label, left_out) if len(rows) else 0.0)
        self._waiting = []

    def _precision(self, scores: Nearness, label: str, left_out: frozenset[int]) -> float:
        """scores (n,): of all gallery entries; they are changed."""
        positive = self._labels == self._codes[label]
        if left_out:
            gone = np.isin(self._ids, list(left_out))
            scores, positive = np.where(gone, -np.inf, scores), positive & ~gone
        return average_precision(scores, positive)


def average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Mean over the positives of (positives up to this one) / (its rank); equal scores rank by their place.

    scores, positive: (n,), greater is nearer, at least one positive.
    """
    places = np.flatnonzero(positive)
    ascending = np.sort(scores)
    up_to = np.searchsorted(ascending, scores[places], "right")
    tied = up_to - np.searchsorted(ascending, scores[places], "left")
    before = [int((scores[:place] == scores[place]).sum()) if ties > 1 else 0 for place, ties in zip(places, tied)]  # noqa: B905
    ranks = np.sort(len(scores) - up_to + np.array(before) + 1)
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def nearness(queries: Vectors, gallery: GalleryReader) -> Nearness:
    """(q, n) float32 of (q, width) queries with all entries by id: `Measure.nearness`, block by block."""
    measure = gallery.facts.measure
    found = np.empty((len(queries), len(gallery)), np.float32)
    start = 0
    for ids, vectors in gallery.blocks():
        found[:, start : start + len(ids)] = measure.nearness(queries, vectors)
        start += len(ids)
    return found
