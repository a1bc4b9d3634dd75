"""A generation on disk: made beside the current one, put in its place at one moment, and its predecessors deleted.

A change exists from one moment on: the SQLite commit within a generation, the replacing of gallery.json between two.
Whatever a writer leaves behind when it dies before that moment is garbage, which the next writer deletes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.files import replace_file, sync_folder
from shitu.gallery.base import Item
from shitu.gallery.read.faiss_index import VectorIndex
from shitu.gallery.read.items import Meta
from shitu.gallery.read.orphans import orphans
from shitu.gallery.read.store import (
    FORMAT,
    GENERATION,
    INDEX_FILE,
    ITEMS,
    POINTER,
    VERSION,
    crc32_rows,
    current_generation,
)
from shitu.gallery.write.items import ItemWriter
from shitu.gallery.write.make_index import write_index


def new_generation(index_dir: Path) -> Path:
    """Make the folder of the next generation; nothing reads it before `commit_generation`."""
    numbers = [int(found[1]) for path in index_dir.glob("gen-*") if (found := GENERATION.fullmatch(path.name))]
    folder = index_dir / f"gen-{max(numbers, default=0) + 1:06d}"
    folder.mkdir()
    return folder


def write_vectors(path: Path, start: int, blocks: Iterable[NDArray[Any]], row_bytes: int) -> NDArray[np.uint32]:
    """Write vectors from row `start` on, cutting off what an unfinished append left there; returns their crc32s."""
    crcs: list[NDArray[np.uint32]] = [np.empty(0, np.uint32)]
    with path.open("r+b" if start else "wb") as file:
        file.truncate(start * row_bytes)
        file.seek(start * row_bytes)
        for block in blocks:
            file.write(np.ascontiguousarray(block).data)
            crcs.append(crc32_rows(block))
        file.flush()
        os.fsync(file.fileno())
    return np.concatenate(crcs)


def fill_generation(folder: Path, meta: Meta, items: Iterable[Item], crcs: NDArray[np.uint32]) -> None:
    """Write items.db of a generation whose vectors.bin and index are there, and make all of it durable."""
    db = ItemWriter.create(folder / ITEMS)
    try:
        with db.transaction():
            db.insert((item, row, int(crc)) for row, (item, crc) in enumerate(zip(items, crcs, strict=True)))
            db.set_meta(meta)
    finally:
        db.close()
    sync_folder(folder)


def save_index(folder: Path, meta: Meta, index: VectorIndex) -> Meta:
    """Write the next index file, durably; returns the facts that name it. Nothing uses it until they are committed."""
    numbers = [int(f[1]) for path in folder.glob("index-*.faiss") if (f := INDEX_FILE.fullmatch(path.name))]
    name = f"index-{max(numbers, default=0) + 1:06d}.faiss"
    with (folder / name).open("xb") as file:
        digest = write_index(index, file)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return replace(
        meta,
        index_file=name,
        index_sha256=digest,
        index_bytes=size,
        index_count=index.count,
        index_rows=meta.rows,
    )


def commit_generation(index_dir: Path, folder: Path, previous: Path | None = None) -> None:
    """Make `folder` the gallery: this is the moment of the change. Then delete its predecessors, but for `previous`."""
    content = {"format": FORMAT, "version": VERSION, "generation": folder.name}
    if previous is not None:
        content["previous"] = previous.name
    sync_folder(index_dir)
    replace_file(index_dir / POINTER, lambda file: file.write(json.dumps(content).encode()))
    sweep(index_dir)


def sweep(index_dir: Path) -> None:
    """Delete what dead writers left: generations that nothing names, unnamed index files. Under the write lock."""
    try:
        folder = current_generation(index_dir)
    except GalleryError:  # a damaged gallery.json may be mended by hand: delete nothing until a new one stands there
        return
    for path in orphans(index_dir, folder):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
