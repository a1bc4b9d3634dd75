"""Who changes a gallery in a database: rows of a version that nobody sees yet, then the one commit that shows it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery.base import Facts, Item
from shitu.gallery.change import Change, Changed, Gathered
from shitu.gallery.stores.reader import BUILD
from shitu.gallery.stores.state import LONGEST, State, storable, sum_of
from shitu.gallery.stores.store import Store

log = logging.getLogger(__name__)
BLOCK_BYTES = 16 << 20  # of vectors written at a time


class StoreWriter:
    """Changes the gallery in a store, which is made where it is not there."""

    def __init__(self, store: Store, staging: Path) -> None:
        self.store, self._staging = store, staging
        self._held = ExitStack()

    @property
    def staging(self) -> Path:
        return self._staging

    def __enter__(self) -> StoreWriter:
        self._held.enter_context(self.store.writing())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def begin(self, facts: Facts | None = None) -> Change:
        return StoreChange(self.store, self._current() if facts is None else facts)

    def undo(self) -> None:
        state = self._current()
        if state.previous is None:
            raise GalleryError(
                f"{self.store.url}: there is nothing to undo; an append, a removal or a build can be undone until the "
                "next change or `shitu gallery compact`"
            )
        with self.store.transaction():
            self.store.publish(state.undone(), state)

    def compact(self) -> None:
        state = self._current()
        with self.store.transaction():
            state = settled(self.store, state, replace(state, previous=None))
        self.store.purge(state, others=True)
        self.store.compact(state)

    def _current(self) -> State:
        state = self.store.head()
        if state is None:
            raise GalleryError(f"there is no gallery {self.store.url}: {BUILD}")
        return state


def settled(store: Store, state: State, wanted: State) -> State:
    """`wanted` as the gallery in place of `state`, and nothing left of what goes beyond its version."""
    if wanted != state:
        store.publish(wanted, state)
    store.sweep(wanted)
    return wanted


class StoreChange(Gathered):
    """What to add and remove; nothing is written before `commit`."""

    def __init__(self, store: Store, base: State | Facts) -> None:
        super().__init__()
        self._store, self._base = store, base
        self._facts = base.facts if isinstance(base, State) else base

    def remove(self, ids: Iterable[int]) -> None:
        super().remove(number for number in ids if 0 <= number < 2**63)

    def commit(self) -> Changed:
        store, base = self._store, self._base
        with store.transaction():
            if isinstance(base, Facts):
                before = store.head()
                state = store.make(_plain(base))
            else:
                before = state = self._unburdened(base)
            state, changed = self._written(state)
            if before is state and not changed.removed and not changed.ids:
                return changed
            if before is None or before.table != state.table:
                store.finish(state)
            store.publish(state.after(before), before)
        try:
            store.purge(state.after(before), others=before is None or before.table != state.table)
        except GalleryError as error:  # the change is made; what is out of use waits for the next one
            log.warning("%s", error)
        return changed

    def _unburdened(self, base: State) -> State:
        """The state without a version of after an undo, which the next number would show again."""
        if self._store.head() != base:
            raise GalleryBusyError(
                f"{self._store.url} was changed by another writer meanwhile; run the same command again"
            )
        redo = base.previous
        later = redo is not None and redo.table == base.table and redo.version > base.version
        return settled(self._store, base, replace(base, previous=None) if later else base)

    def _written(self, state: State) -> tuple[State, Changed]:
        store, number = self._store, state.latest + 1
        gone = sorted({item.id for part in store.fetch(state, self._removed) for item in part.items})
        store.hide(state, gone, number)
        ids: list[int] = []
        added = 0
        for vectors, items in self._pieces(state):
            numbers, fresh, next_id = store.numbered(state, items, vectors, self._removed)
            ids += numbers
            new = [place for place, is_new in enumerate(fresh) if is_new]
            rows = [replace(items[place], id=numbers[place]) for place in new]
            kept = vectors[new]
            store.insert(state, number, rows, kept, [sum_of(*pair) for pair in zip(rows, kept, strict=True)])
            added += len(new)
            state = replace(state, next_id=next_id)
        facts, by = state.facts, self._made_by
        if by is not None and ids and not facts.fingerprint:
            facts = replace(facts, fingerprint=by.fingerprint, model_name=by.model_name)
        count = state.count + added - len(gone)
        changed = Changed(ids, len(gone))
        if not ids and not gone and isinstance(self._base, State):
            return state, changed
        return replace(state, facts=facts, count=count, version=number, latest=number), changed

    def _pieces(self, state: State) -> Iterator[tuple[NDArray[Any], list[Item]]]:
        """Checked vectors with their items, BLOCK_BYTES at a time. Raises ValueError where there are more of one."""
        measure, items = state.facts.measure, chain.from_iterable(self._items)
        row = measure.width(state.facts.dimension) * measure.dtype.itemsize
        for vectors in map(np.asarray, self._vectors):
            at_once = max(1, BLOCK_BYTES // row)
            for start in range(0, len(vectors), at_once):
                checked = measure.checked(vectors[start : start + at_once], state.facts.dimension)
                piece = list(islice(items, len(checked)))
                if len(piece) != len(checked):
                    raise ValueError(f"{sum(map(len, self._vectors))} vectors, and fewer items")
                yield checked, [_storable(item) for item in piece]
        if next(items, None) is not None:
            raise ValueError(f"{sum(map(len, self._vectors))} vectors, and more items")


def _plain(facts: Facts) -> Facts:
    """Without what a folder adds to the facts."""
    return Facts(**{field.name: getattr(facts, field.name) for field in fields(Facts)})


def _storable(item: Item) -> Item:
    for text in (item.label, item.image, item.sha256):
        if not storable(text):
            raise GalleryError(
                f"{text[:80]!r} cannot be kept in a database: wanted UTF-8 without NUL, at most {LONGEST:,} bytes; "
                "rename it, or keep the gallery in a folder"
            )
    return item
