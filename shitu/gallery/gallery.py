"""The gallery: vectors, items and index as one object, kept in one folder.

It is searched and changed through `Gallery` only. Galleries that PaddleClas or PaddleX made are opened in place and
become one of ours with their first change.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.foreign import ForeignStore, open_foreign
from shitu.gallery.inspect import describe, verify
from shitu.gallery.read.faiss_index import VectorIndex
from shitu.gallery.read.items import Item, Meta
from shitu.gallery.read.search import SearchSpace
from shitu.gallery.read.store import COMPACT, Store, current_generation, open_store
from shitu.gallery.write import changes as gallery_write
from shitu.gallery.write.generation import sweep
from shitu.gallery.write.lock import write_lock, writing
from shitu.results import Match

log = logging.getLogger(__name__)
BUILD = "build one with `shitu build-gallery -c CONFIG`"


class Gallery:
    """An open gallery. What another process changes after `open` is not seen, and harms nothing."""

    def __init__(
        self, path: Path, store: Store | ForeignStore, *, ef_search: int | None = None, nprobe: int | None = None
    ) -> None:
        self.path = path
        self._store = store
        self._tuning = (ef_search, nprobe)
        self._index: VectorIndex | None = None
        self._index_key = ""
        self._warned = False
        self._space: SearchSpace | None = None

    @classmethod
    def open(
        cls,
        index_dir: str | os.PathLike[str],
        *,
        efSearch: int | None = None,  # noqa: N803 (the key of the configuration)
        nprobe: int | None = None,
        delimiter: str = "\t",
        load_index: bool = True,
    ) -> Gallery:
        """Open a gallery of ours, of PaddleClas (vector.index, id_map.pkl) or of PaddleX (vector.index, id_map.yaml).

        efSearch, nprobe: how thoroughly HNSW and IVF look; None for values that rarely miss.
        delimiter: what separates path and label in PaddleClas's entries.
        load_index: False puts reading the index off until the first search (append and remove need none).
        Raises: GalleryError where it is missing, damaged or of another version.
        """
        path = Path(index_dir)
        for _ in range(5):
            store = open_store(path) or open_foreign(path, delimiter)
            if store is None:
                raise GalleryError(f"there is no gallery in {path}: {BUILD}")
            gallery = cls(path, store, ef_search=efSearch, nprobe=nprobe)
            try:
                if load_index:
                    gallery._load_index()
                return gallery
            except FileNotFoundError as error:  # a writer may just have replaced it
                store.db.close()
                missing = error
        raise GalleryError(f"the index of the gallery in {path} is missing ({missing}): {COMPACT}") from missing

    @classmethod
    def create(
        cls,
        index_dir: str | os.PathLike[str],
        vectors: NDArray[Any],
        items: Iterable[Item],
        *,
        index_method: str,
        dist_type: str,
        fingerprint: str,
        model_name: str = "",
    ) -> Gallery:
        """Make a gallery of (n, d) float32 unit vectors, or (n, d / 8) uint8 codes, and their items, in that order.

        Replaces a gallery that is there, at one moment; until then that one stays whole. The vectors may be a memory
        map larger than memory. Ids count from 0.
        Raises: GalleryError (index method, full disk), GalleryBusyError, ValueError (zero or infinite vectors).
        """
        path = Path(index_dir)
        with write_lock(path), writing(path):
            meta = gallery_write.fresh_meta(vectors, index_method, dist_type, fingerprint, model_name)
            blocks = gallery_write.blocks_of(vectors, meta.dimension, dist_type)
            gallery_write.write_generation(path, meta, blocks, items, must_index=True)
            return cls.open(path, load_index=False)

    @property
    def meta(self) -> Meta:
        return self._store.meta

    @property
    def dimension(self) -> int:
        return self.meta.dimension

    @property
    def dist_type(self) -> str:
        return self.meta.dist_type

    @property
    def index_method(self) -> str:
        return self.meta.index_method

    @property
    def fingerprint(self) -> str:
        return self.meta.fingerprint

    def __len__(self) -> int:
        return len(self._store.ids)

    def close(self) -> None:
        self._store.db.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def check_fits(self, *, fingerprint: str, dimension: int, dist_type: str) -> None:
        """GalleryError where vectors of this model cannot be compared with the gallery's."""
        meta = self.meta
        made_by = f", made by model {meta.model_name}," if meta.model_name else ""
        pairs = (("dimension", dimension, meta.dimension), ("dist_type", dist_type, meta.dist_type))
        for name, wanted, have in pairs:
            if wanted != have:
                raise GalleryError(
                    f"the gallery {self.path}{made_by} has {name} {have}, the model and configuration have {wanted}: "
                    f"rebuild it with `shitu build-gallery`, or use the model and {name} it was made with"
                )
        if meta.fingerprint and fingerprint and meta.fingerprint != fingerprint:
            advice = f"use model {meta.model_name}" if meta.model_name else "use the model it was made with"
            raise GalleryError(
                f"the gallery {self.path} was made by another model or preprocessing (its fingerprint is "
                f"{meta.fingerprint}, the model's {fingerprint}): rebuild it with `shitu build-gallery`, or {advice}"
            )
        if not meta.fingerprint and not self._warned:
            self._warned = True
            log.warning("%s does not say which model made it; with another model its labels mean nothing", self.path)

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        """The k nearest entries of each query, nearest first, ties by lower id; fewer if the gallery is smaller.

        vectors: (n, d) float32 unit vectors, or (n, d / 8) uint8 codes. Raises: ValueError for other shapes and for
        zero or infinite vectors.
        """
        if k < 1:
            raise ValueError(f"k is {k}: it must be 1 or more")
        queries = gallery_write.checked(vectors, self.dimension, self.dist_type)
        found = self._search_space().nearest(queries, k)
        known = self._store.db.lookup({int(number) for ids, _ in found for number in ids[:k]})
        return [self._matches(ids, scores, k, known) for ids, scores in found]

    def _matches(
        self, ids: NDArray[np.int64], scores: NDArray[np.float32], k: int, known: dict[int, Item]
    ) -> list[Match]:
        if any(int(number) not in known for number in ids[:k]):  # removed by another process since we opened
            known = known | self._store.db.lookup(ids.tolist())
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        matches = [
            Match(known[number].label, value, number, known[number].image) for number, value in pairs if number in known
        ]
        return matches[:k]

    def _search_space(self) -> SearchSpace:
        self._load_index()
        if self._space is None:
            store = self._store
            self._space = SearchSpace(
                self.dist_type, store.ids, store.rows, store.vectors, self._index, self.meta.index_rows
            )
        return self._space

    def _load_index(self) -> VectorIndex | None:
        """The index that the current facts name, read once; None where there is none."""
        if self._index_key != self._store.index_key:
            self._index, self._space = self._store.read_index(), None
            self._index_key = self._store.index_key
            if self._index is not None:
                self._index.tune(*self._tuning)
        return self._index

    def append(self, vectors: NDArray[Any], items: Iterable[Item]) -> list[int]:
        """Add entries; returns their ids. All of them are there afterwards, or none.

        Raises: GalleryError, GalleryBusyError, ValueError (shapes, zero or infinite vectors).
        """
        with self._changing() as store:
            return gallery_write.append(store, self._load_index, np.asarray(vectors), list(items))

    def remove(self, ids: Iterable[int]) -> int:
        """Remove the entries of those ids; returns how many there were. Raises: GalleryError, GalleryBusyError."""
        with self._changing() as store:
            return gallery_write.remove(store, self._load_index, ids)

    def compact(self) -> None:
        """Write the gallery anew: what was removed leaves the disk, and the index is rebuilt. Ids stay."""
        with self._changing() as store:
            gallery_write.compact(self.path, store)

    @contextmanager
    def _changing(self) -> Iterator[Store]:
        """The write lock, and the gallery as it is on disk, ours; afterwards this object is up to date again."""
        with write_lock(self.path), writing(self.path):
            sweep(self.path)
            store = self._current()
            try:
                yield store
            except BaseException:
                self._index_key = "unknown"  # a change that failed may have added to the index in memory
                raise
            finally:
                self._reopen()

    def _current(self) -> Store:
        """Our own store as it is on disk now; a gallery of another program becomes one of ours first."""
        foreign = isinstance(self._store, ForeignStore)
        if foreign and current_generation(self.path) is None:
            blocks = gallery_write.blocks_of(self.vectors(), self.dimension, self.dist_type)
            items, ids = self.items(), self._store.ids
            gallery_write.write_generation(self.path, self.meta, blocks, items, ids, must_index=False)
        if isinstance(self._store, ForeignStore) or not self._store.is_current(self.path):
            return self._reopen()
        return self._store

    def _reopen(self) -> Store:
        """Take up what is on disk now; GalleryError where that is another gallery, whose ids mean other entries."""
        store = open_store(self.path)
        if store is None or store.meta.uid != self.meta.uid:
            raise GalleryError(f"{self.path} was built anew since it was opened; open it again")
        self._store.db.close()
        self._store, self._space = store, None
        return store

    def items(self) -> Iterator[Item]:
        """All entries, by id."""
        return self._store.db.items()

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        """The entries of those ids that are there."""
        return self._store.db.lookup(ids)

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        """Ids, ascending, of the entries that match any of the requests."""
        requests = (("id", ids), ("label", labels), ("image", images), ("sha256", sha256s))
        return sorted({n for column, values in requests if values for n in self._store.db.find(column, values)})

    def has(self, sha256: str) -> tuple[str, ...]:
        """The labels under which an image file of this content is there; empty when it is not."""
        if not sha256:
            return ()
        ids = self._store.db.find("sha256", [sha256])
        return tuple(sorted({item.label for item in self._store.db.lookup(ids).values()}))

    def vectors(self) -> NDArray[Any]:
        """The live vectors in the order of the ids, read-only: a memory map, or a copy where entries were removed."""
        store = self._store
        if store.vectors is None:
            return store.stored_vectors()
        rows = store.rows
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return store.vectors[rows[0] : rows[0] + len(rows)]
        chosen = np.ascontiguousarray(store.vectors[rows])
        chosen.flags.writeable = False
        return chosen

    def verify(self) -> list[str]:
        """What is wrong with the gallery, a sentence each; empty when it is sound. Reads everything."""
        return verify(self.path, self._store)

    def info(self) -> dict[str, Any]:
        """What there is to say about the gallery, ready for JSON."""
        return describe(self.path, self._store)
