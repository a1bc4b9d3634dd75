"""The writer of a gallery in a folder: the lock, and changes that are one commit each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Facts
from shitu.gallery.change import Changed, Gathered
from shitu.gallery.foreign import ForeignStore, open_foreign
from shitu.gallery.origin import origin_of
from shitu.gallery.read.items import Meta
from shitu.gallery.read.store import BLOCK_ROWS, BUILD, ITEMS, Store, current_generation, open_store
from shitu.gallery.write.changes import apply, rewrite, write_generation
from shitu.gallery.write.generation import sweep
from shitu.gallery.write.items import ItemWriter
from shitu.gallery.write.lock import write_lock, writing
from shitu.gallery.write.make_index import check_method, is_flat
from shitu.gallery.write.undo import undo


class FolderWriter:
    """Changes the gallery in a folder, which is made where it is not there. One of another program becomes ours.

    delimiter: what separates path and label in PaddleClas's entries. known: the gallery as an open reader has it;
    GalleryError where the folder holds another one now, whose ids mean other entries.
    """

    def __init__(self, path: str | Path, *, delimiter: str = "\t", known: Store | ForeignStore | None = None) -> None:
        self.path, self._delimiter, self._known = Path(path), delimiter, known
        self._held = ExitStack()

    @property
    def staging(self) -> Path:
        return self.path / "building"

    def __enter__(self) -> FolderWriter:
        self._held.enter_context(write_lock(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def begin(self, facts: Facts | None = None) -> FolderChange:
        if facts is None:
            return FolderChange(self.path, self._current())
        check_method(facts.index_method, facts.measure, facts.dimension)
        return FolderChange(self.path, facts)

    def compact(self) -> None:
        with writing(self.path):
            rewrite(self.path, self._current())

    def set_facts(self, **facts: Any) -> None:
        """Change facts of the gallery that say how it is searched, fields of Meta; no entry, and nothing to undo."""
        with writing(self.path):
            store = self._current()
            db = ItemWriter.open(store.folder / ITEMS)
            try:
                with db.transaction():
                    db.set_meta(replace(store.meta, **facts))
            finally:
                db.close()

    def undo(self) -> None:
        with writing(self.path):
            undo(self.path, self._current())

    def _current(self) -> Store:
        """The gallery as it is on disk, ours."""
        with writing(self.path):
            sweep(self.path)
            if isinstance(self._known, Store) and self._known.is_current():
                return self._known
            if current_generation(self.path) is None:
                known = self._known if isinstance(self._known, ForeignStore) else None
                if foreign := known or open_foreign(self.path, self._delimiter):
                    rewrite(self.path, foreign, origin=origin_of(foreign))
            store = open_store(self.path)
        if store is None:
            raise GalleryError(f"there is no gallery in {self.path}: {BUILD}")
        if self._known is not None and store.meta.uid != self._known.meta.uid:
            raise GalleryError(f"{self.path} was built anew since it was opened; open it again")
        return store


class FolderChange(Gathered):
    """What to add and remove; nothing is written before `commit`."""

    def __init__(self, path: Path, base: Store | Facts) -> None:
        super().__init__()
        self._path, self._base = path, base
        facts = base.meta if isinstance(base, Store) else base
        self._measure, self._dimension = facts.measure, facts.dimension

    def commit(self) -> Changed:
        base, items = self._base, chain.from_iterable(self._items)
        with writing(self._path):
            if isinstance(base, Facts):
                return Changed(
                    range(
                        write_generation(
                            self._path, _fresh(base), self._blocks(), items, must_index=True, undoable=True
                        )
                    )
                )
            listed, count = list(items), sum(map(len, self._vectors))
            if len(listed) != count:
                raise ValueError(f"{count} vectors for {len(listed)} items")
            return apply(base, self._blocks(), listed, self._removed, self._made_by)

    def _blocks(self) -> Iterator[NDArray[Any]]:
        """The vectors, checked, in pieces that fit in memory though they may be mapped from a file that does not."""
        for vectors in map(np.asarray, self._vectors):
            for start in range(0, max(len(vectors), 1), BLOCK_ROWS):
                yield self._measure.checked(vectors[start : start + BLOCK_ROWS], self._dimension)


def _fresh(facts: Facts) -> Meta:
    values = {field.name: getattr(facts, field.name) for field in fields(Facts)}
    method = facts.index_method.strip()
    return Meta(**values | {"index_method": "Flat" if is_flat(method) else method})
