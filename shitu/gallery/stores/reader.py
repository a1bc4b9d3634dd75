"""A gallery in a database as it was at one moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block, Facts, GalleryReader, Item, LabelCount
from shitu.gallery.stores.state import Rows, State, storable, sum_of
from shitu.gallery.stores.store import Store
from shitu.results import Match

BUILD = "build one with `shitu build-gallery PHOTOS -g URL`"
SPARE = 16  # more candidates than wanted: an index rounds, and scores are computed anew
ANSWER_BYTES = 16 << 20  # of the vectors that come with one search; Milvus refuses answers of 64 MB


class StoreReader(GalleryReader):
    """A state of a store. Candidates are the store's, scores are computed here, from vectors, in float64."""

    def __init__(self, store: Store, state: State, thorough: int | None) -> None:
        self.store, self.state, self._thorough = store, state, thorough

    @classmethod
    def open(cls, store: Store, *, thorough: int | None = None) -> StoreReader:
        """thorough: efSearch or nprobe, None for what rarely misses. Raises GalleryError where there is no gallery."""
        state = store.head()
        if state is None:
            raise GalleryError(f"there is no gallery {store.url}: {BUILD}")
        return cls(store, state, thorough)

    @property
    def url(self) -> str:
        return self.store.url

    @property
    def facts(self) -> Facts:
        return self.state.facts

    def __len__(self) -> int:
        return self.state.count

    def refreshed(self) -> GalleryReader:
        now = StoreReader.open(self.store, thorough=self._thorough)
        return self if (now.state.table, now.state.version) == (self.state.table, self.state.version) else now

    def close(self) -> None:
        self.store.close()

    # --- searching -------------------------------------------------------------------------------------------------

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        if k < 1:
            raise ValueError(f"k is {k}: it must be 1 or more")
        queries = self.facts.measure.checked(vectors, self.facts.dimension)
        wanted = min(k + SPARE, len(self))
        if not wanted:
            return [[] for _ in queries]
        search = self._nearest if wanted <= self.store.most else self._compared
        at_once = max(1, ANSWER_BYTES // (wanted * self._row_bytes))
        found = (
            rows
            for start in range(0, len(queries), at_once)
            for rows in search(queries[start : start + at_once], wanted)
        )
        return [self._matches(query, rows, k) for query, rows in zip(queries, found, strict=True)]

    @property
    def _row_bytes(self) -> int:
        return self.facts.measure.width(self.facts.dimension) * self.facts.measure.dtype.itemsize

    def _nearest(self, queries: NDArray[Any], k: int) -> list[Rows]:
        return self.store.nearest(self.state, queries, k, self._thorough)

    def _compared(self, queries: NDArray[Any], k: int) -> Iterator[Rows]:
        """By comparing with everything, where the store does not answer with so many."""
        ids: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in queries]
        near: list[NDArray[np.float32]] = [np.empty(0, np.float32) for _ in queries]
        for numbers, vectors in self.blocks():
            for place, scores in enumerate(self.facts.measure.nearness(queries, vectors)):
                all_ids, all_near = np.append(ids[place], numbers), np.append(near[place], scores)
                best = np.lexsort((all_ids, -all_near))[:k]
                ids[place], near[place] = all_ids[best], all_near[best]
        for wanted in ids:
            yield self._together(wanted.tolist())

    def _together(self, ids: Collection[int]) -> Rows:
        parts = list(self.store.fetch(self.state, ids, vectors=True))
        items = [item for part in parts for item in part.items]
        sums = [value for part in parts for value in part.sums]
        return Rows(items, sums, np.concatenate([_vectors(part) for part in parts] or [self._none()]))

    def _none(self) -> NDArray[Any]:
        return np.empty((0, self.facts.measure.width(self.facts.dimension)), self.facts.measure.dtype)

    def _matches(self, query: NDArray[Any], rows: Rows, k: int) -> list[Match]:
        if not rows.items:
            return []
        measure = self.facts.measure
        scores = measure.score(query, _vectors(rows))
        order = np.lexsort((rows.ids, -measure.sign * scores))[:k]
        for place in order:  # what is answered is what was written
            if sum_of(rows.items[place], _vectors(rows)[place]) != rows.sums[place]:
                raise _other_than_written(self.url, rows.items[place].id)
        near = [(rows.items[place], float(scores[place])) for place in order]
        return [Match(item.label, score, item.id, item.image) for item, score in near]

    # --- looking through it ----------------------------------------------------------------------------------------

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        found = set(self.lookup(ids)) if ids is not None else set()
        for column, values in (("label", labels), ("image", images), ("sha256", sha256s)):
            if wanted := {value for value in values or () if storable(value)}:
                found.update(self.store.find(self.state, column, wanted))
        return sorted(found)

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        wanted = {number for number in ids if 0 <= number < 2**63}
        rows = self.store.fetch(self.state, wanted) if wanted else ()
        return {item.id: item for part in rows for item in part.items}

    def items(self) -> Iterator[Item]:
        return (item for part in self.store.rows(self.state) for item in part.items)

    def page(self, *, after: int = -1, limit: int = 100, label: str | None = None, text: str = "") -> list[Item]:
        page: list[Item] = []
        for part in self.store.rows(self.state, after=after, label=label, text=text, at_once=None if text else limit):
            page += part.items[: limit - len(page)]
            if len(page) >= limit:
                break
        return page

    def labels(self, *, text: str = "", after: str = "", limit: int | None = None) -> list[LabelCount]:
        return self.store.labels(self.state, text, after, limit)

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        wanted = list(ids)
        rows = self._together(set(wanted))
        if changed := _changed(rows):
            raise _other_than_written(self.url, changed[0])
        places = {item.id: place for place, item in enumerate(rows.items)}
        if lacking := [number for number in wanted if number not in places]:
            raise GalleryError(f"{self.url} has no entry {lacking[0]}")
        return _vectors(rows)[[places[number] for number in wanted]]

    def blocks(self) -> Iterator[Block]:
        for part in self.store.rows(self.state, vectors=True):
            if changed := _changed(part):
                raise _other_than_written(self.url, changed[0])
            yield part.ids, _vectors(part)

    # --- about it --------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        facts = self.facts
        return {
            "path": self.url,
            "format": self.store.format,
            "entries": len(self),
            "labels": len(self.labels()),
            "dimension": facts.dimension,
            "dist_type": facts.dist_type,
            "index_method": facts.index_method,
            "model_name": facts.model_name or None,
            "fingerprint": facts.fingerprint or None,
            "created": facts.created or None,
            "version": self.state.version,
            **self.store.told(self.state),
        }

    def verify(self) -> list[str]:
        problems, count, last, width = [], 0, -1, self._none().shape[1]
        for part in self.store.rows(self.state, vectors=True):
            if _vectors(part).shape[1] != width:
                return [f"The vectors have {_vectors(part).shape[1]} columns, the gallery wants {width}; {_REPAIR}."]
            if changed := _changed(part):
                problems.append(f"Entry {changed[0]} is not what was written ({len(changed)} such); {_REPAIR}.")
            ids = part.ids
            if ids[0] <= last or (np.diff(ids) <= 0).any():
                problems.append(f"An id is there twice near {ids[0]}; {_REPAIR}.")
            count, last = count + len(ids), int(ids[-1])
        if count != len(self):
            problems.append(f"There are {count:,} entries, {len(self):,} were written; {_REPAIR}.")
        return problems

    def unchecked(self) -> list[str]:
        return self.store.unchecked()


_REPAIR = "remove the entry, or rebuild the gallery from its images"


def _other_than_written(url: str, number: int) -> GalleryError:
    return GalleryError(f"{url}: entry {number} changed since it was written; `shitu gallery verify` tells all such")


def _vectors(rows: Rows) -> NDArray[Any]:
    assert rows.vectors is not None
    return rows.vectors


def _changed(rows: Rows) -> list[int]:
    triples = zip(rows.items, rows.sums, _vectors(rows), strict=True)
    return [item.id for item, written, vector in triples if sum_of(item, vector) != written]
