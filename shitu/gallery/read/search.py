"""Nearest live entries: an index that may lag behind, the vectors it does not cover, and entries removed since.

The index is asked for more neighbours than wanted, those that were removed are dropped, and if too few remain it is
asked for four times as many; what the index does not cover is compared one by one. Scores are computed anew from the
stored vectors, so that equal vectors score equally (matrix products round by position) and equal scores can be
ordered by id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.gallery.read.faiss_index import VectorIndex, exact_search
from shitu.gallery.read.store import check_crcs
from shitu.measure import Measure

SPARE = 16
SMALL = 10_000  # so few rows are compared in half a millisecond, and a graph may have lost some of them
MOST_FROM_INDEX = 4096  # beyond this, comparing with everything is no slower than a graph walk and misses nothing
ROUNDING = 4e-6  # float32 matrix products of unit vectors agree to about 1e-6

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True)
class SearchSpace:
    """What a search runs over.

    ids: (n,) int64 live ids, ascending; rows: (n,) the row of each in `vectors`; vectors: (rows, width) or None where
    only the index has them; tail: the first row that the index does not cover (ignored without an index); crcs: (n,)
    the crc32 of each live vector, which is checked when it is read for a score.
    """

    measure: Measure
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    vectors: NDArray[Any] | None
    index: VectorIndex | None
    tail: int = 0
    crcs: NDArray[np.int64] | None = None

    def nearest(self, queries: NDArray[Any], k: int) -> list[Found]:
        """For each query, ids and scores of the live entries found, nearest first, ties by lower id.

        At least min(k, n) of them, mostly more: the caller cuts.
        """
        want = min(k, len(self.ids))
        results: list[Found] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        pending = np.arange(len(queries) if want > 0 else 0)
        fetch = 2 * want + SPARE
        while len(pending):
            scan = self.vectors is not None and self._scanning(fetch, len(self.vectors))
            sources = [self._scan(queries[pending], fetch, 0)] if scan else self._both(queries[pending], fetch)
            unfinished = []
            for place, number in enumerate(pending):
                parts = [self._live(queries[number], *source.of(place)) for source in sources]
                results[number] = found = self._merge(parts)
                full = [source.more and not source.dry[place] for source in sources]
                if not self._complete(queries[number], found, parts, full, want):
                    unfinished.append(number)
            exhausted = not any(source.more for source in sources)
            if exhausted and (scan or self.vectors is None):
                break
            # An index that has nothing more to give, and still too little, is replaced by a scan.
            fetch = MOST_FROM_INDEX + 1 if exhausted and not scan else fetch * 4
            pending = np.array(unfinished, np.int64)
        return results

    def _scanning(self, fetch: int, rows: int) -> bool:
        return self.index is None or rows <= SMALL or fetch > MOST_FROM_INDEX

    def _both(self, queries: NDArray[Any], fetch: int) -> list[_Source]:
        assert self.index is not None
        sources = []
        if self.index.count:
            count = min(fetch, self.index.count)
            scores, ids = self.index.search(queries, count)
            # A graph or the lists looked at ran dry where faiss says -1.
            sources.append(_Source(scores, ids, count < self.index.count, ids[:, -1] < 0))
        if self.vectors is not None and self.tail < len(self.vectors):
            sources.append(self._scan(queries, fetch, self.tail))
        return sources

    def _scan(self, queries: NDArray[Any], fetch: int, start: int) -> _Source:
        assert self.vectors is not None
        part = self.vectors[start:]
        count = min(fetch, len(part))
        scores, rows = exact_search(queries, part, count, self.measure)
        ids = self._row_ids[rows + start]
        return _Source(scores, ids, count < len(part), np.zeros(len(queries), np.bool_))

    @cached_property
    def _row_ids(self) -> NDArray[np.int64]:
        """The id of each row, -1 where it was removed."""
        assert self.vectors is not None
        row_ids = np.full(len(self.vectors), -1, np.int64)
        row_ids[self.rows] = self.ids
        return row_ids

    def _live(self, query: NDArray[Any], scores: NDArray[np.float32], ids: NDArray[np.int64]) -> Found:
        """Drop what is no entry (any more), and score the rest from the stored vectors."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        alive = self.ids[places] == ids
        if self.vectors is not None:
            found = places[alive]
            vectors = self.vectors[self.rows[found]]
            if self.crcs is not None:
                check_crcs(vectors, self.crcs[found], self.ids[found])
            scores = self.measure.score(query, vectors)
        else:
            scores = scores[alive]
        return ids[alive], scores

    def _merge(self, parts: list[Found]) -> Found:
        ids = np.concatenate([part[0] for part in parts])
        scores = np.concatenate([part[1] for part in parts])
        order = np.lexsort((ids, -self.measure.sign * scores))
        ids, scores = ids[order], scores[order]
        # One entry from two sources, where an old gallery's count of what the index covers is wrong, votes once.
        first = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
        return ids[first], scores[first]

    def _complete(self, query: NDArray[Any], found: Found, parts: list[Found], full: list[bool], want: int) -> bool:
        """Whether no source can hold back an entry as near as the last one wanted (a tie with a lower id)."""
        if len(found[0]) < want:
            return False
        sign = -self.measure.sign  # the smaller is the nearer here
        last = sign * float(found[1][want - 1])
        unsure = ROUNDING * max(1.0, abs(last), float(np.dot(query, query)))
        margin = 0.5 if self.measure.packed else unsure
        return all(
            not more or (len(part[0]) > 0 and float((sign * part[1]).max()) > last + margin)
            for part, more in zip(parts, full, strict=True)
        )


@dataclass(frozen=True)
class _Source:
    """What one search returned: scores and ids (n, fetch), -1 for no live entry.

    `more`: whether it was asked for less than there is; `dry` (n,): the queries to which it has nothing to add.
    """

    scores: NDArray[np.float32]
    ids: NDArray[np.int64]
    more: bool
    dry: NDArray[np.bool_]

    def of(self, place: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self.scores[place], self.ids[place]
