"""One moment of a gallery, ready to be searched by many threads at a time: it never changes.

What a writer changes is taken up by another view (`Gallery.refreshed`). A view that nobody uses any more closes its
database, so that none is ever closed under a running query.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Item
from shitu.gallery.read.faiss_index import VectorIndex
from shitu.gallery.read.search import SearchSpace
from shitu.gallery.read.store import Store
from shitu.results import Match

if TYPE_CHECKING:
    from shitu.gallery.foreign import ForeignStore

Tuning = tuple[int | None, int | None]


class View:
    """A store and its index, which is read at the first search, or taken from `before` where the file is the same.

    tuning: efSearch and nprobe, None for values that rarely miss.
    """

    def __init__(self, store: Store | ForeignStore, tuning: Tuning, before: View | None = None) -> None:
        self.store, self.tuning = store, tuning
        self._lock = threading.Lock()
        self._space: SearchSpace | None = None
        self._before = before if before is not None and before.loaded else None

    def load_index(self) -> SearchSpace:
        """What a search runs over; FileNotFoundError where a writer has just replaced the index, GalleryError."""
        with self._lock:
            if self._space is None:
                store, index = self.store, self._index()
                self._space = SearchSpace(
                    store.meta.measure, store.ids, store.rows, store.vectors, index, store.meta.index_rows
                )
                self._before = None
            return self._space

    def _index(self) -> VectorIndex | None:
        before = self._before
        if before is not None and before._space is not None and before.store.index_key == self.store.index_key:
            return before._space.index
        index = self.store.read_index()
        if index is not None:
            index.tune(*self.tuning)
        return index

    @property
    def loaded(self) -> bool:
        return self._space is not None

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        """As `GalleryReader.search`."""
        if k < 1:
            raise ValueError(f"k is {k}: it must be 1 or more")
        meta = self.store.meta
        queries = meta.measure.checked(vectors, meta.dimension)
        try:
            found = self.load_index().nearest(queries, k)
        except FileNotFoundError as error:
            raise GalleryError(f"the gallery was changed before its index was read ({error}); open it again") from error
        known = self.store.db.lookup({int(number) for ids, _ in found for number in ids[:k]})
        return [self._matches(ids, scores, k, known) for ids, scores in found]

    def _matches(
        self, ids: NDArray[np.int64], scores: NDArray[np.float32], k: int, known: dict[int, Item]
    ) -> list[Match]:
        if any(int(number) not in known for number in ids[:k]):  # removed by another process since we opened
            known = known | self.store.db.lookup(ids.tolist())
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        matches = [
            Match(known[number].label, value, number, known[number].image) for number, value in pairs if number in known
        ]
        return matches[:k]
