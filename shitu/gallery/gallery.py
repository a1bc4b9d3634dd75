"""The gallery in one folder: vectors, items and index as one object.

Galleries that PaddleClas or PaddleX made are opened in place and become one of ours with their first change.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block, Facts, GalleryReader, Item
from shitu.gallery.read.items import Meta
from shitu.gallery.read.store import BUILD, COMPACT, Store, open_store
from shitu.gallery.view import Tuning, View
from shitu.measure import measure_of
from shitu.results import Match

if TYPE_CHECKING:  # loaded by who changes a gallery, or opens another program's
    from shitu.gallery.change import Changed
    from shitu.gallery.foreign import ForeignStore
    from shitu.gallery.write.writer import FolderWriter


class Gallery(GalleryReader):
    """An open gallery, a `GalleryReader` that can also be changed; all threads of a process may share it.

    Every call works on the gallery of one moment. What this object changes is seen by the calls that begin later, what
    another process changes by the reader that `refreshed` returns.
    """

    def __init__(self, path: Path, view: View, delimiter: str = "\t") -> None:
        self.path, self._view, self._delimiter = path, view, delimiter

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
        return cls(path, _open(path, delimiter, (efSearch, nprobe), load_index=load_index), delimiter)

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
        if vectors.ndim != 2:
            raise ValueError(f"vectors have shape {vectors.shape}, wanted (n, d)")
        dimension = measure_of(dist_type).dimension(vectors.shape[1])
        facts = Facts.new(dimension, dist_type, index_method, fingerprint, model_name)
        with _writer(Path(index_dir)) as writer:
            change = writer.begin(facts)
            change.add(vectors, items)
            change.commit()
            return cls.open(index_dir, load_index=False)

    # --- reading: as GalleryReader says -------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def facts(self) -> Meta:
        return self._store.meta

    @property
    def _store(self) -> Store | ForeignStore:
        return self._view.store

    def __len__(self) -> int:
        return len(self._store.ids)

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        return self._view.search(vectors, k)

    def items(self) -> Iterator[Item]:
        return self._store.db.items()

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        return self._store.db.lookup(ids)

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        db = self._store.db
        requests = (("id", ids), ("label", labels), ("image", images), ("sha256", sha256s))
        return sorted({n for column, values in requests if values for n in db.find(column, values)})

    def vectors(self) -> NDArray[Any]:
        """The live vectors in the order of the ids, read-only: a memory map, or a copy where entries were removed."""
        return self._store.stored_vectors()

    def blocks(self) -> Iterator[Block]:
        return self._store.blocks()

    def refreshed(self) -> Gallery:
        return self if self._store.is_current() else Gallery(self.path, self._renewed(), self._delimiter)

    def _renewed(self) -> View:
        view = self._view
        return _open(self.path, self._delimiter, view.tuning, load_index=view.loaded, before=view)

    def info(self) -> dict[str, Any]:
        from shitu.gallery.inspect import describe

        return describe(self.path, self._store)

    def verify(self) -> list[str]:
        from shitu.gallery.inspect import verify

        return verify(self.path, self._store)

    def close(self) -> None:
        """Free the database at once; without it that happens when nothing uses the gallery any more."""
        self._store.db.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- changing -----------------------------------------------------------------------------------------------------

    def append(self, vectors: NDArray[Any], items: Iterable[Item]) -> list[int]:
        """Add entries; returns their ids. All of them are there afterwards, or none.

        Raises: GalleryError, GalleryBusyError, ValueError (shapes, zero or infinite vectors).
        """
        return list(self._change(np.asarray(vectors), items, ()).ids)

    def remove(self, ids: Iterable[int]) -> int:
        """Remove the entries of those ids; returns how many there were. Raises: GalleryError, GalleryBusyError."""
        return self._change(None, (), ids).removed

    def _change(self, vectors: NDArray[Any] | None, items: Iterable[Item], ids: Iterable[int]) -> Changed:
        with _writer(self.path, self._delimiter, self._store) as writer:
            change = writer.begin()
            if vectors is not None:
                change.add(vectors, items)
            change.remove(ids)
            changed = change.commit()
            self._view = self._renewed()
            return changed

    def compact(self) -> None:
        """Write the gallery anew: what was removed leaves the disk, and the index is rebuilt. Ids stay."""
        with _writer(self.path, self._delimiter, self._store) as writer:
            writer.compact()
            self._view = self._renewed()


def _writer(path: Path, delimiter: str = "\t", known: Store | ForeignStore | None = None) -> FolderWriter:
    from shitu.gallery.write.writer import FolderWriter

    return FolderWriter(path, delimiter=delimiter, known=known)


def _open(path: Path, delimiter: str, tuning: Tuning, *, load_index: bool, before: View | None = None) -> View:
    """Try again when a writer replaces it meanwhile. Raises GalleryError."""
    for _ in range(5):
        store = open_store(path) or _foreign(path, delimiter)
        view = View(store, tuning, before)
        try:
            if load_index:
                view.load_index()
            return view
        except FileNotFoundError as error:
            missing = error
    raise GalleryError(f"the index of the gallery in {path} is missing ({missing}): {COMPACT}") from missing


def _foreign(path: Path, delimiter: str) -> ForeignStore:
    from shitu.gallery.foreign import open_foreign

    store = open_foreign(path, delimiter)
    if store is None:
        raise GalleryError(f"there is no gallery in {path}: {BUILD}")
    return store
