"""The gallery in a folder as it was at one moment, searched by many threads at a time.

It never changes: what a writer changes is taken up by another reader (`refreshed`). One that nobody uses any more
closes its database, so that none is ever closed under a running query.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block, GalleryReader, Item, LabelCount
from shitu.gallery.read.faiss_index import VectorIndex
from shitu.gallery.read.files import readable
from shitu.gallery.read.items import Meta
from shitu.gallery.read.search import SearchSpace
from shitu.gallery.read.store import ATTEMPTS, BUILD, COMPACT, Store, open_store
from shitu.results import Match

if TYPE_CHECKING:
    from shitu.gallery.foreign import ForeignStore


class FolderReader(GalleryReader):
    """A store and its index, which is read at the first search, or taken from `before` where the file is the same."""

    def __init__(
        self, path: Path, store: Store | ForeignStore, options: dict[str, Any], before: FolderReader | None = None
    ) -> None:
        self.path, self.store, self._options = path, store, options
        self._lock = threading.Lock()
        self._space: SearchSpace | None = None
        self._before = before if before is not None and before._space is not None else None

    @classmethod
    def open(
        cls,
        index_dir: str | os.PathLike[str],
        *,
        efSearch: int | None = None,  # noqa: N803 (the key of the configuration)
        nprobe: int | None = None,
        delimiter: str = "\t",
        load_index: bool = True,
        before: FolderReader | None = None,
    ) -> FolderReader:
        """Open a gallery of ours, of PaddleClas (vector.index, id_map.pkl) or of PaddleX (vector.index, id_map.yaml).

        efSearch, nprobe: how thoroughly HNSW and IVF look; None for values that rarely miss.
        delimiter: what separates path and label in PaddleClas's entries.
        load_index: False puts reading the index off until the first search.
        before: a reader of an earlier moment, whose index serves on where it is the same file.
        Raises: GalleryError where it is missing, damaged or of another version.
        """
        path, options = Path(index_dir), {"efSearch": efSearch, "nprobe": nprobe, "delimiter": delimiter}
        for _ in range(ATTEMPTS):  # again where a writer replaces it meanwhile
            reader = cls(path, open_store(path) or _foreign(path, delimiter), options, before)
            try:
                if load_index:
                    with readable(path):
                        reader.searched()
                if reader.facts.origin:
                    _tell_of_origin(reader)
                return reader
            except FileNotFoundError as error:
                missing: Exception = error
            except GalleryError as error:
                if reader.store.is_current():
                    raise
                missing = error
        raise GalleryError(f"the index of the gallery in {path} is missing ({missing}): {COMPACT}") from missing

    def refreshed(self) -> FolderReader:
        return self if self.store.is_current() else self.renewed()

    def renewed(self) -> FolderReader:
        """Another reader, of what is on disk now."""
        return FolderReader.open(self.path, **self._options, load_index=self._space is not None, before=self)

    def searched(self) -> SearchSpace:
        """What a search runs over; FileNotFoundError where a writer has just replaced the index, GalleryError."""
        with self._lock:
            if self._space is None:
                self._space = SearchSpace(self.store, self._index())
                self._before = None
            return self._space

    def _index(self) -> VectorIndex | None:
        before, meta = self._before, self.store.meta
        if before is not None and before._space is not None and before.store.index_key == self.store.index_key:
            index, known = before._space.index, before.store.meta.tuned == meta.tuned
        else:
            index, known = self.store.read_index(mapped=True), False
        if index is not None and not known:
            ef_search, nprobe, depth = (value or None for value in meta.tuned)
            index.tune(self._options["efSearch"] or ef_search, self._options["nprobe"] or nprobe, depth)
        return index

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        if k < 1:
            raise ValueError(f"k is {k}: it must be 1 or more")
        queries = self.facts.measure.checked(vectors, self.facts.dimension)
        try:
            found = self.searched().nearest(queries, k)
        except FileNotFoundError as error:
            raise GalleryError(f"the gallery was changed before its index was read ({error}); open it again") from error
        known = self.lookup({int(number) for ids, _ in found for number in ids[:k]})
        return [self._matches(ids, scores, k, known) for ids, scores in found]

    def _matches(
        self, ids: NDArray[np.int64], scores: NDArray[np.float32], k: int, known: dict[int, Item]
    ) -> list[Match]:
        if any(int(number) not in known for number in ids[:k]):  # removed by another process since we opened
            known = known | self.lookup(ids.tolist())
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        matches = [
            Match(known[number].label, value, number, known[number].image) for number, value in pairs if number in known
        ]
        return matches[:k]

    # --- the rest of GalleryReader, from the store --------------------------------------------------------------------

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def facts(self) -> Meta:
        return self.store.meta

    def __len__(self) -> int:
        return self.store.count

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        wanted = (("id", ids), ("label", labels), ("image", images), ("sha256", sha256s))
        return sorted({n for column, values in wanted if values for n in self.store.db.find(column, values)})

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        return self.store.db.lookup(ids)

    def items(self) -> Iterator[Item]:
        return self.store.db.items()

    def page(self, *, after: int = -1, limit: int = 100, label: str | None = None, text: str = "") -> list[Item]:
        return self.store.db.page(after, limit, label, text)

    def labels(self, *, text: str = "", after: str = "", limit: int | None = None) -> list[LabelCount]:
        return self.store.db.labels(text, after, -1 if limit is None else limit)

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        return self.store.vectors_of(ids)

    def blocks(self) -> Iterator[Block]:
        return self.store.blocks()

    def info(self) -> dict[str, Any]:
        from shitu.gallery.inspect import describe

        return describe(self.path, self.store)

    def verify(self) -> list[str]:
        from shitu.gallery.inspect import verify

        reader: FolderReader = self
        for _ in range(ATTEMPTS):
            try:
                problems = verify(reader.path, reader.store)
            except (GalleryError, FileNotFoundError):
                if reader.store.is_current():
                    raise
                problems = [f"{self.path} is being replaced all the time; try again."]
            if not problems or reader.store.is_current():
                break
            reader = reader.renewed()  # a writer has just deleted what was missed
        return problems

    def unchecked(self) -> list[str]:
        from shitu.gallery.inspect import unchecked

        return unchecked(self.store)

    def close(self) -> None:
        """Free the database at once; without it that happens when nothing uses the reader any more."""
        self.store.close()


def _tell_of_origin(reader: FolderReader) -> None:
    from shitu.gallery.origin import tell_once

    tell_once(reader.path, reader.facts)


def _foreign(path: Path, delimiter: str) -> ForeignStore:
    from shitu.gallery.foreign import open_foreign

    store = open_foreign(path, delimiter)
    if store is None:
        raise GalleryError(f"there is no gallery in {path}: {BUILD}")
    return store
