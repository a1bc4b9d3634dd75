"""The four changes of a gallery, each durable at one moment: a new generation, append, remove, compact.

All of them run under the write lock. Their order is always: data that nothing refers to yet, fsync, then the one
commit that refers to it.
"""

from __future__ import annotations

import datetime
import logging
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.read.faiss_index import BLOCK_ROWS, VectorIndex
from shitu.gallery.read.index_method import is_flat, width_of
from shitu.gallery.read.items import Item, ItemDb, Meta
from shitu.gallery.read.store import ITEMS, VECTORS, Store, map_vectors
from shitu.gallery.write.generation import (
    commit_generation,
    fill_generation,
    new_generation,
    save_index,
    sweep,
    write_vectors,
)

log = logging.getLogger(__name__)

LEAST_LAG = 1024  # entries that the index file may lack, or hold in vain, before it is written anew
LAG_SHARE = 0.05

IndexLoader = Callable[[], VectorIndex | None]


def checked(vectors: NDArray[Any], dimension: int, dist_type: str) -> NDArray[Any]:
    """The vectors as they are stored, (n, d) float32 or (n, d / 8) uint8; ValueError where they cannot be searched."""
    width, dtype = width_of(dimension, dist_type)
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"vectors have shape {array.shape}, the gallery wants (n, {width}) {dtype.name}")
    if dist_type == "hamming":
        if array.dtype != np.uint8:
            raise ValueError(f"hamming wants packed bits as uint8, not {array.dtype}")
        return np.ascontiguousarray(array)
    array = np.ascontiguousarray(array, np.float32)
    squares = np.einsum("ij,ij->i", array, array)
    bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
    if len(bad):
        raise ValueError(f"vector {bad[0]} is zero or not finite (of {len(bad)} such vectors)")
    return array


def blocks_of(
    vectors: NDArray[Any], dimension: int, dist_type: str, rows: NDArray[np.int64] | None = None
) -> Iterator[NDArray[Any]]:
    """`vectors` (or `vectors[rows]`) checked, in pieces that fit in memory."""
    for start in range(0, len(vectors) if rows is None else len(rows), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        yield checked(vectors[part] if rows is None else vectors[rows[part]], dimension, dist_type)


def fresh_meta(vectors: NDArray[Any], index_method: str, dist_type: str, fingerprint: str, model_name: str) -> Meta:
    """The facts of a new gallery of (n, width) vectors."""
    if vectors.ndim != 2:
        raise ValueError(f"vectors have shape {vectors.shape}, wanted (n, d)")
    dimension = vectors.shape[1] * (8 if dist_type == "hamming" else 1)
    width_of(dimension, dist_type)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    method = "Flat" if is_flat(index_method) else index_method.strip()
    return Meta(dimension, dist_type, method, fingerprint, model_name, uuid.uuid4().hex, now)


def write_generation(
    index_dir: Path,
    meta: Meta,
    blocks: Iterable[NDArray[Any]],
    items: Iterable[Item],
    ids: NDArray[np.int64] | None = None,
    *,
    must_index: bool,
) -> None:
    """Write a whole gallery as the next generation and make it the current one.

    ids: the ids of the items, ascending; 0, 1, 2 ... when None. must_index: GalleryError where the index method
    cannot learn from so few vectors; otherwise such a gallery is searched without an index.
    """
    sweep(index_dir)
    folder = new_generation(index_dir)
    try:
        row_bytes = _row_bytes(meta)
        crcs = write_vectors(folder / VECTORS, 0, blocks, row_bytes)
        ids = np.arange(len(crcs), dtype=np.int64) if ids is None else ids
        meta = replace(meta, rows=len(crcs), next_id=max(meta.next_id, int(ids[-1]) + 1 if len(ids) else 0))
        meta = replace(_without_index(meta), index_learned=len(crcs))
        vectors = map_vectors(folder / VECTORS, meta)
        index = _build(meta, vectors, np.arange(len(ids), dtype=np.int64), ids, must_index=must_index)
        numbered = (replace(item, id=int(number)) for item, number in zip(items, ids, strict=True))
        fill_generation(folder, meta, numbered, crcs, index)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    commit_generation(index_dir, folder)


def append(store: Store, load_index: IndexLoader, vectors: NDArray[Any], items: list[Item]) -> list[int]:
    """Add vectors and items to the current generation; returns their ids."""
    meta = store.meta
    if len(vectors) != len(items):
        raise ValueError(f"{len(vectors)} vectors for {len(items)} items")
    blocks = blocks_of(vectors, meta.dimension, meta.dist_type)
    crcs = write_vectors(store.folder / VECTORS, meta.rows, blocks, _row_bytes(meta))
    ids = np.arange(meta.next_id, meta.next_id + len(items), dtype=np.int64)
    rows = np.arange(meta.rows, meta.rows + len(items), dtype=np.int64)
    meta = replace(meta, next_id=meta.next_id + len(items), rows=meta.rows + len(items))
    live = np.concatenate([store.ids, ids]), np.concatenate([store.rows, rows])
    meta = _renewed(store, meta, *live, load_index)
    with _change(store, meta) as db:
        db.insert(
            (replace(item, id=int(number)), int(row), int(crc))
            for item, number, row, crc in zip(items, ids, rows, crcs, strict=True)
        )
    return [int(number) for number in ids]


def remove(store: Store, load_index: IndexLoader, ids: Iterable[int]) -> int:
    """Delete the entries of those ids; returns how many there were."""
    unwanted = np.unique(np.array([number for number in ids if 0 <= number < 2**63], np.int64))
    stay = ~np.isin(store.ids, unwanted)
    if stay.all():
        return 0
    meta = _renewed(store, store.meta, store.ids[stay], store.rows[stay], load_index)
    with _change(store, meta) as db:
        return db.delete(store.ids[~stay].tolist())


def compact(index_dir: Path, store: Store) -> None:
    """Write the live entries, with their ids, as a new generation with a new index."""
    meta = store.meta
    blocks = blocks_of(store.vectors, meta.dimension, meta.dist_type, store.rows)
    write_generation(index_dir, meta, blocks, store.db.items(), store.ids, must_index=False)


@contextmanager
def _change(store: Store, meta: Meta) -> Iterator[ItemDb]:
    """One SQLite transaction that ends with the new facts; afterwards an index file out of use is deleted."""
    db = ItemDb.open(store.folder / ITEMS, write=True)
    try:
        with db.transaction():
            yield db
            db.set_meta(meta)
    finally:
        db.close()
    if store.meta.index_file not in ("", meta.index_file):
        with suppress(OSError):
            store.index_path.unlink()


def _row_bytes(meta: Meta) -> int:
    width, dtype = width_of(meta.dimension, meta.dist_type)
    return width * dtype.itemsize


def _without_index(meta: Meta) -> Meta:
    return replace(meta, index_file="", index_sha256="", index_bytes=0, index_count=0, index_rows=0, index_learned=0)


def _renewed(
    store: Store, meta: Meta, ids: NDArray[np.int64], rows: NDArray[np.int64], load_index: IndexLoader
) -> Meta:
    """Write the index file anew where it lags too far behind the live `ids` and `rows`; the facts that name it."""
    covered = rows < meta.index_rows
    lacking, in_vain = int((~covered).sum()), meta.index_count - int(covered.sum())
    limit = max(LEAST_LAG, int(LAG_SHARE * meta.index_count))
    if is_flat(meta.index_method) or (lacking <= limit and in_vain <= limit):
        return meta
    vectors = map_vectors(store.folder / VECTORS, meta)
    index = None
    if in_vain <= limit and meta.index_file:
        index = load_index()
    if index is not None and not (index.learns and len(ids) > 2 * meta.index_learned):
        index.add(vectors, rows[~covered], ids[~covered])
    else:
        index = _build(meta, vectors, rows, ids, must_index=False)
        meta = replace(meta, index_learned=len(ids))
    return _without_index(meta) if index is None else save_index(store.folder, meta, index)


def _build(
    meta: Meta, vectors: NDArray[Any], rows: NDArray[np.int64], ids: NDArray[np.int64], *, must_index: bool
) -> VectorIndex | None:
    if is_flat(meta.index_method) or len(ids) == 0:
        return None
    try:
        return VectorIndex.build(vectors, rows, ids, meta.index_method, meta.dist_type)
    except GalleryError as error:
        if must_index:
            raise
        log.warning("the gallery is searched without an index: %s", error)
        return None
