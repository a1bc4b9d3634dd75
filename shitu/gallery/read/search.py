"""Nearest live entries: an index that may lag behind, the vectors it does not cover, and entries removed since.

The index is asked for more neighbours than wanted, those that were removed are dropped, and if too few remain it is
asked for four times as many; what the index does not cover is compared one by one. Scores are computed anew from the
stored vectors, so that equal vectors score equally (matrix products round by position) and equal scores can be
ordered by id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shitu.gallery.read.faiss_index import VectorIndex, exact_search
from shitu.gallery.read.items import Meta, Table
from shitu.gallery.read.store import check_crcs
from shitu.measure import Measure

SPARE = 16
SMALL = 10_000  # so few rows are compared in half a millisecond, and a graph may have lost some of them
MOST_FROM_INDEX = 4096  # beyond this, comparing with everything is no slower than a graph walk and misses nothing
ROUNDING = 4e-6  # float32 matrix products of unit vectors agree to about 1e-6

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Entries(Protocol):
    """The gallery that is searched: `vectors` (rows, width), or None where only the index has them."""

    meta: Meta
    vectors: Any

    @property
    def count(self) -> int: ...

    def located(self, column: str, numbers: NDArray[np.int64]) -> Table:
        """The live entries whose `id` or `row` is among the numbers, which ascend; ascending by that."""
        ...

    def likely_rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each id, quicker than `located`; what is told wrongly is not so after `load`."""
        ...

    def load(self) -> None: ...


@dataclass(frozen=True)
class SearchSpace:
    """What a search runs over: entries, and an index that covers those in the rows before `meta.index_rows`."""

    entries: Entries
    index: VectorIndex | None

    @property
    def measure(self) -> Measure:
        return self.entries.meta.measure

    @property
    def vectors(self) -> NDArray[Any] | None:
        found = self.entries.vectors
        return None if found is None else np.asarray(found)  # a memmap takes three times as long to be indexed

    @property
    def exact(self) -> bool:
        """Whether every search compares with everything."""
        return self.vectors is not None and (self.index is None or len(self.vectors) <= SMALL)

    def nearest(self, queries: NDArray[Any], k: int) -> list[Found]:
        """For each query, ids and scores of the live entries found, nearest first, ties by lower id.

        At least min(k, n) of them, mostly more: the caller cuts.
        """
        want = min(k, self.entries.count)
        results: list[Found] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        pending = np.arange(len(queries) if want > 0 else 0)
        fetch = keep = 2 * want + SPARE
        while len(pending):
            scan = self.vectors is not None and (self.exact or fetch > MOST_FROM_INDEX)
            sources = [self._scan(queries[pending], fetch, 0)] if scan else self._both(queries[pending], fetch)
            scored = [self._scored(queries[pending], source, keep) for source in sources]
            unfinished = []
            for place, number in enumerate(pending):
                parts = [each[place] for each in scored]
                results[number] = found = self._merge(parts)
                held = [source.held_back(place, -self.measure.sign) for source in sources]
                if not self._complete(queries[number], found, parts, held, want):
                    unfinished.append(number)
            exhausted = not any(source.more for source in sources)
            if exhausted and (scan or self.vectors is None):
                break
            # An index that has nothing more to give, and still too little, is replaced by a scan.
            fetch = MOST_FROM_INDEX + 1 if exhausted and not scan else fetch * 4
            keep *= 4
            pending = np.array(unfinished, np.int64)
        return results

    def _both(self, queries: NDArray[Any], fetch: int) -> list[_Source]:
        assert self.index is not None
        sources, tail = [], self.entries.meta.index_rows
        if self.index.count:
            count = min(max(fetch, self.index.depth), self.index.count)
            scores, ids = self.index.search(queries, count)
            # A graph or the lists looked at ran dry where faiss says -1.
            sources.append(_Source("id", scores, ids, count < self.index.count, ids[:, -1] < 0))
        if self.vectors is not None and tail < len(self.vectors):
            sources.append(self._scan(queries, fetch, tail))
        return sources

    def _scan(self, queries: NDArray[Any], fetch: int, start: int) -> _Source:
        assert self.vectors is not None
        part = self.vectors[start:]
        count = min(fetch, len(part))
        scores, rows = exact_search(queries, part, count, self.measure)
        rows = np.where(rows < 0, -1, rows + start)
        return _Source("row", scores, rows, count < len(part), np.zeros(len(queries), np.bool_))

    def _scored(self, queries: NDArray[Any], source: _Source, keep: int) -> list[Found]:
        """Of each query what is an entry (still), scored from the stored vectors, in any order.

        An index that knows vectors only roughly is asked for many. Of these the `keep` nearest by a product of float32,
        and all that could be as near as the last of them, are looked up, checked and scored exactly.
        """
        numbers = [each[each >= 0] for each in source.numbers]
        trimmed = self.vectors is not None and source.numbers.shape[1] > keep
        if trimmed:
            guessed = [self._rows(source.column, each) for each in numbers]
            numbers = [self._nearest(*each, keep) for each in zip(queries, numbers, guessed, strict=True)]
        used = np.unique(np.concatenate(numbers))
        ids, rows, crcs = self.entries.located(source.column, used)
        if trimmed and source.column == "id" and not np.array_equal(rows, self.entries.likely_rows(ids)):
            self.entries.load()
            return self._scored(queries, source, keep)
        have = ids if source.column == "id" else rows
        chosen = [_places(have, each) for each in numbers]
        if self.vectors is None:
            order = [np.argsort(each, kind="stable") for each in source.numbers]
            scores = [
                row[by][np.searchsorted(row_ids[by], have[each])]
                for row, row_ids, by, each in zip(source.scores, source.numbers, order, chosen, strict=True)
            ]
            return [(ids[each], score) for each, score in zip(chosen, scores, strict=True)]
        vectors = self.vectors[rows]
        check_crcs(vectors, crcs, ids)
        return [
            (ids[each], self.measure.score(query, vectors[each])) for query, each in zip(queries, chosen, strict=True)
        ]

    def _rows(self, column: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return numbers if column == "row" else self.entries.likely_rows(numbers)

    def _nearest(
        self, query: NDArray[Any], numbers: NDArray[np.int64], rows: NDArray[np.int64], keep: int
    ) -> NDArray[np.int64]:
        """Those of the numbers whose vectors are nearest to the query: `keep`, and more where they could be as near."""
        if len(numbers) <= keep:
            return numbers
        assert self.vectors is not None
        near = self.measure.rough(query, self.vectors[rows])
        least = float(np.partition(near, len(near) - keep)[len(near) - keep])
        return np.asarray(numbers[near >= least - ROUNDING * max(1.0, abs(least), float(np.dot(query, query)))])

    def _merge(self, parts: list[Found]) -> Found:
        ids = np.concatenate([part[0] for part in parts])
        scores = np.concatenate([part[1] for part in parts])
        order = np.lexsort((ids, -self.measure.sign * scores))
        ids, scores = ids[order], scores[order]
        # One entry from two sources, where an old gallery's count of what the index covers is wrong, votes once.
        first = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
        return ids[first], scores[first]

    def _complete(
        self, query: NDArray[Any], found: Found, parts: list[Found], held: list[float | None], want: int
    ) -> bool:
        """Whether no source can hold back an entry as near as the last one wanted (a tie with a lower id)."""
        if len(found[0]) < want:
            return False
        sign = -self.measure.sign  # the smaller is the nearer here
        last = sign * float(found[1][want - 1])
        unsure = ROUNDING * max(1.0, abs(last), float(np.dot(query, query)))
        margin = 0.5 if self.measure.packed else unsure
        return all(
            least is None or max([least, *(sign * part[1]).tolist()]) > last + margin
            for part, least in zip(parts, held, strict=True)
        )


def _places(have: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where those of the wanted that are there stand in `have`, which ascends."""
    if not len(have):
        return np.empty(0, np.int64)
    places = np.minimum(np.searchsorted(have, wanted), len(have) - 1)
    return np.asarray(places[have[places] == wanted])


@dataclass(frozen=True)
class _Source:
    """What one search returned: scores and ids or rows, as `column` says, (n, fetch), -1 where there are no more.

    `more`: whether it was asked for less than there is; `dry` (n,): the queries to which it has nothing to add.
    """

    column: str
    scores: NDArray[np.float32]
    numbers: NDArray[np.int64]
    more: bool
    dry: NDArray[np.bool_]

    def held_back(self, place: int, sign: float) -> float | None:
        """How near (sign x score) the nearest may be that it did not tell; None where it told all.

        A scan's scores are right, so that also what has been removed since bounds the rest; an index's may not be.
        """
        if not self.more or self.dry[place]:
            return None
        return sign * float(self.scores[place, -1]) if self.column == "row" else -np.inf
