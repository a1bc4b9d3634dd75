"""The last change taken back: entries put in again or taken out, or the generation of before made the current one.

Neither copies a vector: those of removed entries stay in vectors.bin until `compact`, so a change within a generation
leaves a small database of the entries that it took out (changes.py), and `new` leaves the generation that it replaced.
Either is kept until the next change. An undo is such a change, so that a second one takes it back.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.read.items import ItemDb, Meta
from shitu.gallery.read.store import ITEMS, UNDO_FILE, VECTORS, Store, map_vectors, previous_generation
from shitu.gallery.write.changes import change
from shitu.gallery.write.generation import commit_generation, save_index
from shitu.gallery.write.items import ItemWriter
from shitu.gallery.write.make_index import add_to


def undo(index_dir: Path, store: Store) -> None:
    """Take back the last change of the gallery that `store` is. Raises GalleryError where nothing can be undone."""
    try:
        if store.meta.undo:
            _undo_change(store)
        elif previous := previous_generation(index_dir):
            _undo_generation(index_dir, store, previous)
        else:
            raise GalleryError(
                f"{index_dir}: there is nothing to undo; an append, a removal or a build can be undone until the next "
                "change or `shitu gallery compact`"
            )
    except FileNotFoundError as error:
        raise GalleryError(f"{index_dir}: what undoes the last change is gone ({error.filename})") from error


def _undo_change(store: Store) -> None:
    if not UNDO_FILE.fullmatch(store.meta.undo):
        raise GalleryError(f"{store.folder}: {store.meta.undo!r} is no name of a file that undoes")
    kept = ItemDb.open(store.folder / store.meta.undo)
    try:
        before, (ids, rows, *_) = kept.meta(), kept.live()
        _check(store, before, ids, rows)
        lives = ~np.isin(store.ids, _added(before, store))
        gone = store.ids[~lives]
        live = np.concatenate([store.ids[lives], ids]), np.concatenate([store.rows[lives], rows])
        order = np.argsort(live[0])
        meta = replace(store.meta, fingerprint=before.fingerprint, model_name=before.model_name)
        if len(ids) and before.index_file != meta.index_file:  # it was written anew, and without them
            meta = _reindexed(store, meta, live[0][order], live[1][order])
        with change(store, meta, gone, ids) as db:
            db.delete(gone.tolist())
            db.insert(kept.stored(ids.tolist()))
    finally:
        kept.close()


def _check(store: Store, before: Meta, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """GalleryError where these entries cannot be those that a change of this gallery took out."""
    meta = store.meta
    sound = before.uid == meta.uid and before.next_id <= meta.next_id and before.dimension == meta.dimension
    if len(ids):
        sound = sound and min(ids[0], rows.min()) >= 0 and ids[-1] < before.next_id and rows.max() < meta.rows
    if not sound or np.isin(ids, store.ids).any() or np.isin(rows, store.rows).any():
        raise GalleryError(f"{store.folder / meta.undo} does not belong to this gallery: nothing was undone")


def _added(before: Meta, store: Store) -> NDArray[np.int64]:
    """The ids that the change put in; GalleryError where the file does not say."""
    try:
        found = [(int(first), int(count)) for first, count in json.loads(before.added)]
        if any(count < 1 for _, count in found) or sum(count for _, count in found) > store.meta.rows:
            raise ValueError("not as many as there are")
        ids = [np.arange(first, first + count, dtype=np.int64) for first, count in found]
        return np.concatenate([np.empty(0, np.int64), *ids])
    except (ValueError, TypeError, OverflowError) as error:
        raise GalleryError(f"{store.folder / store.meta.undo} does not say what to take out ({error})") from error


def _reindexed(store: Store, meta: Meta, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> Meta:
    """The index with all live entries that it lacks, written; the facts that name it."""
    index = store.read_index()
    if index is None:
        return meta
    lacking = ~np.isin(ids, index.ids())
    add_to(index, map_vectors(store.folder / VECTORS, meta), rows[lacking], ids[lacking])
    return save_index(store.folder, meta, index)


def _undo_generation(index_dir: Path, store: Store, previous: Path) -> None:
    before = Store(previous)  # readable, or GalleryError
    before.close()
    db = ItemWriter.open(previous / ITEMS)
    try:
        with db.transaction():
            db.set_meta(replace(before.meta, undo=""))  # what comes next undoes this, not what was before
    finally:
        db.close()
    commit_generation(index_dir, previous, store.folder)
