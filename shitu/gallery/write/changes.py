"""What is written at a change: a new generation, or new and deleted entries in the current one.

All of it runs under the write lock. The order is always: data that nothing refers to yet, fsync, then the one commit
that refers to it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Facts, Item
from shitu.gallery.change import Changed
from shitu.gallery.foreign import ForeignStore
from shitu.gallery.read.items import Meta
from shitu.gallery.read.schema import REBUILD
from shitu.gallery.read.store import ITEMS, UNDO_FILE, VECTORS, Store, map_vectors, open_store
from shitu.gallery.write.choose import choose, is_auto
from shitu.gallery.write.generation import (
    commit_generation,
    fill_generation,
    new_generation,
    save_index,
    sweep,
    write_vectors,
)
from shitu.gallery.write.items import ItemWriter
from shitu.gallery.write.make_index import add_to, build_index, is_flat, learns

log = logging.getLogger(__name__)

LEAST_LAG = 1024  # entries that the index file may lack, or hold in vain, before it is written anew
LAG_SHARE = 0.05


def write_generation(
    index_dir: Path,
    meta: Meta,
    blocks: Iterable[NDArray[Any]],
    items: Iterable[Item],
    ids: NDArray[np.int64] | None = None,
    *,
    must_index: bool,
    undoable: bool = False,
) -> int:
    """Write a whole gallery as the next generation and make it the current one; returns the number of entries.

    ids: the ids of the items, ascending; 0, 1, 2 ... when None. must_index: GalleryError where the index method
    cannot learn from so few vectors; otherwise such a gallery is searched without an index. undoable: the generation of
    before stays until the next change (undo.py).
    """
    sweep(index_dir)
    folder = new_generation(index_dir)
    try:
        crcs = write_vectors(folder / VECTORS, 0, blocks, meta.row_bytes)
        ids = np.arange(len(crcs), dtype=np.int64) if ids is None else ids
        meta = replace(meta, rows=len(crcs), next_id=max(meta.next_id, int(ids[-1]) + 1 if len(ids) else 0))
        meta = replace(meta, index_learned=len(crcs), undo="")
        vectors, rows = map_vectors(folder / VECTORS, meta), np.arange(len(ids), dtype=np.int64)
        meta = _built(folder, meta, vectors, rows, ids, must_index=must_index)
        numbered = (replace(item, id=int(number)) for item, number in zip(items, ids, strict=True))
        fill_generation(folder, meta, numbered, crcs)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    commit_generation(index_dir, folder, _sound_generation(index_dir) if undoable else None)
    return len(ids)


def _sound_generation(index_dir: Path) -> Path | None:
    """The current generation, None where there is none that could be opened."""
    with suppress(GalleryError):
        if store := open_store(index_dir):
            store.close()
            return store.folder
    return None


def rewrite(index_dir: Path, store: Store | ForeignStore, *, origin: str | None = None) -> None:
    """Write the live entries, with their ids, as a new generation of ours with a new index.

    origin: whose files they were taken from; None leaves what the gallery says of that.
    """
    meta = store.meta if origin is None else replace(store.meta, origin=origin)
    blocks = (meta.measure.checked(vectors, meta.dimension) for _, vectors in store.blocks())
    try:
        write_generation(index_dir, meta, blocks, store.db.items(), store.ids, must_index=False)
    except ValueError as error:
        raise GalleryError(f"{index_dir}: {error}; `shitu gallery verify` names them, {REBUILD}") from error


def apply(
    store: Store,
    blocks: Iterable[NDArray[Any]],
    items: list[Item],
    unwanted: Iterable[int],
    made_by: Facts | None = None,
) -> Changed:
    """Delete entries from the current generation and add others, in one commit; `made_by` as in `Change.add`."""
    meta, count = store.meta, len(items)
    if made_by is not None and count and not meta.fingerprint:
        meta = replace(meta, fingerprint=made_by.fingerprint, model_name=made_by.model_name)
    gone = np.array(store.db.find("id", unwanted), np.int64)
    if not count and not len(gone):
        return Changed()
    crcs = write_vectors(store.folder / VECTORS, meta.rows, blocks, meta.row_bytes) if count else ()
    ids = np.arange(meta.next_id, meta.next_id + count, dtype=np.int64)
    rows = np.arange(meta.rows, meta.rows + count, dtype=np.int64)
    meta = replace(meta, next_id=meta.next_id + count, rows=meta.rows + count)
    meta = _renewed(store, meta, gone, ids, rows)
    with change(store, meta, gone, ids) as db:
        removed = db.delete(gone.tolist())
        db.insert(
            (replace(item, id=int(number)), int(row), int(crc))
            for item, number, row, crc in zip(items, ids, rows, crcs, strict=True)
        )
    return Changed(range(meta.next_id - count, meta.next_id), removed)


@contextmanager
def change(store: Store, meta: Meta, gone: NDArray[np.int64], added: NDArray[np.int64]) -> Iterator[ItemWriter]:
    """One SQLite transaction that ends with the new facts, and with a file of what it takes out, for `undo`.

    gone: the ids of the store's entries that are taken out; added: of those put in; both ascending. What is then out of
    use is deleted.
    """
    numbers = [int(found[1]) for path in store.folder.glob("undo-*.db") if (found := UNDO_FILE.fullmatch(path.name))]
    meta = replace(meta, undo=f"undo-{max(numbers, default=0) + 1:06d}.db")
    db = ItemWriter.open(store.folder / ITEMS)
    try:
        db.copy_to(store.folder / meta.undo, gone.tolist(), replace(store.meta, added=runs(added)))
        with db.transaction():
            yield db
            db.set_meta(meta)
    finally:
        db.close()
    sweep(store.folder.parent)


def runs(ids: NDArray[np.int64]) -> str:
    """Ascending ids as JSON, [[first, count], ...]."""
    starts = np.flatnonzero(np.diff(ids, prepend=-2) != 1)
    return json.dumps([[int(run[0]), len(run)] for run in np.split(ids, starts[1:]) if len(run)])


def _without_index(meta: Meta) -> Meta:
    none: dict[str, Any] = {"index_bytes": 0, "index_count": 0, "index_rows": 0, "index_learned": 0}
    return replace(meta, index_file="", index_sha256="", index_made="", **none)


def _renewed(
    store: Store, meta: Meta, gone: NDArray[np.int64], new_ids: NDArray[np.int64], new_rows: NDArray[np.int64]
) -> Meta:
    """Write the index file anew where it would lag too far behind what lives; the facts that name it.

    gone: the ids that leave; new_ids, new_rows: those that come. A large gallery's are counted where they are.
    """
    gone_rows, from_row = store.located("id", gone)[1], meta.index_rows
    lacking = store.db.count(from_row) - int((gone_rows >= from_row).sum()) + len(new_ids)
    in_vain = meta.index_count - (store.count - len(gone) + len(new_ids) - lacking)
    limit = max(LEAST_LAG, int(LAG_SHARE * meta.index_count))
    if is_flat(meta.index_method) or (lacking <= limit and in_vain <= limit):
        return meta
    lives = ~np.isin(store.ids, gone)
    ids, rows = np.concatenate([store.ids[lives], new_ids]), np.concatenate([store.rows[lives], new_rows])
    vectors, covered = map_vectors(store.folder / VECTORS, meta), rows < from_row
    index = None
    if in_vain <= limit and meta.index_file:
        index = store.read_index()  # from the file: the one in memory is searched by other threads
    if index is not None and not ((learns(index) or is_auto(meta.index_method)) and len(ids) > 2 * meta.index_learned):
        add_to(index, vectors, rows[~covered], ids[~covered])
        return save_index(store.folder, meta, index)
    return _built(store.folder, replace(meta, index_learned=len(ids)), vectors, rows, ids, must_index=False)


def _built(
    folder: Path,
    meta: Meta,
    vectors: NDArray[Any],
    rows: NDArray[np.int64],
    ids: NDArray[np.int64],
    *,
    must_index: bool,
) -> Meta:
    """Make the index of these rows and write it; the facts that name it, or none where the method wants none."""
    before_made, learned = meta.index_made, meta.index_learned
    meta = replace(_without_index(meta), index_learned=learned)
    try:
        method = meta.index_method
        if is_auto(method):
            choice = choose(len(ids), meta.dimension, meta.measure, meta.memory_limit)
            method = choice.method
            if not is_flat(method):  # exact comparison needs no word
                log.info("index_method auto: %s, since %s", method, choice.why)
        if is_flat(method) or len(ids) == 0:
            return meta
        index = build_index(vectors, rows, ids, method, meta.measure)
    except GalleryError as error:
        if must_index:
            raise
        log.warning("the gallery is searched without an index: %s", error)
        return meta
    if method != before_made:
        meta = replace(meta, ef_search=0, nprobe=0, depth=0)  # what was measured of another index
    return replace(save_index(folder, meta, index), index_made=method)
