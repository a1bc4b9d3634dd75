"""The gallery's folder as a reader finds it: which generation is current, and what is in it."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block
from shitu.gallery.read.faiss_index import VectorIndex
from shitu.gallery.read.files import readable, size_of
from shitu.gallery.read.items import ItemDb, Meta, Table
from shitu.gallery.read.schema import REBUILD

FORMAT, VERSION = "shitu-gallery", 1
POINTER = "gallery.json"
ITEMS, VECTORS = "items.db", "vectors.bin"
GENERATION = re.compile(r"gen-(\d{6,})")
UNDO_FILE = re.compile(r"undo-(\d{6,})\.db")
INDEX_FILE = re.compile(r"index-(\d{6,})\.faiss")
LONGEST_POINTER = 1 << 16  # bytes
BLOCK_ROWS = 8192
LOADED = 1 << 18  # of so many entries it is kept in memory where they are: 6 MB, read in half a second
ATTEMPTS = 20  # to open what writers keep replacing
BUILD = "build one with `shitu build-gallery PHOTOS -g FOLDER`"
COMPACT = "make it anew with `shitu gallery compact`"


class Store:
    """One generation, open for reading: its facts, its items, and its vectors as a read-only memory map."""

    format = FORMAT

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where a file is gone (a writer may just have replaced it), GalleryError."""
        self.folder = folder
        self.db = ItemDb.open(folder / ITEMS)
        try:
            self.version, self.meta, self.count, self._loaded = self.db.snapshot(LOADED)
            self.vectors = map_vectors(folder / VECTORS, self.meta)
            self._check()
        except BaseException:
            self.db.close()
            raise

    def _check(self) -> None:
        least_id, most_id, least_row, most_row = self.db.ends() if self._loaded is None else _ends(self._loaded)
        if self.count and (least_row < 0 or most_row >= self.meta.rows):
            raise GalleryError(f"{self.folder}: an entry has no vector (row {most_row}); {REBUILD}")
        if self.count and (least_id < 0 or most_id >= self.meta.next_id):
            raise GalleryError(f"{self.folder}: ids do not agree with the gallery's count; {REBUILD}")

    @property
    def _live(self) -> Table:
        """Where all entries are, which only changes and what goes through all of them need of a large gallery.

        Of that, it is the moment of asking: what a writer has removed since is missing, what it has added is left out.
        """
        if self._loaded is None:
            self._loaded = self.db.live(self.meta.rows)
        return self._loaded

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._live[0]

    @property
    def rows(self) -> NDArray[np.int64]:
        return self._live[1]

    @property
    def crcs(self) -> NDArray[np.int64]:
        return self._live[2]

    def located(self, column: str, numbers: NDArray[np.int64]) -> Table:
        """The entries among these `id`s or `row`s, which ascend, that are there; ascending by that."""
        if self._loaded is None:
            return self.db.located(column, numbers[numbers < self.meta.rows] if column == "row" else numbers)
        return among(self._loaded, column, numbers)

    def likely_rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each id, in a large gallery as if no hole had been closed, so that nothing is looked up for it.

        Ids and rows are given together and only `compact` closes holes; who is told wrong rows calls `load`.
        """
        if self._loaded is None:
            return np.clip(ids + (self.meta.rows - self.meta.next_id), 0, max(self.meta.rows - 1, 0))
        return rows_among(self._loaded, ids)

    def load(self) -> None:
        """Keep in memory where all entries are."""
        self._loaded = self._live

    @property
    def index_path(self) -> Path:
        return self.folder / self.meta.index_file

    @property
    def index_key(self) -> str:
        """Names the index file among those of all generations; "" where there is none."""
        return str(self.index_path) if self.meta.index_file else ""

    def read_index(self, *, mapped: bool = False) -> VectorIndex | None:
        """The index, None where there is none; FileNotFoundError, or GalleryError where it is not what was written.

        mapped: to be searched only.
        """
        meta, path = self.meta, self.index_path
        if not meta.index_file:
            return None
        if not INDEX_FILE.fullmatch(meta.index_file):
            raise GalleryError(f"{self.folder}: {meta.index_file!r} is no name of an index file; {REBUILD}")
        if (size := size_of(path)) != meta.index_bytes:
            raise GalleryError(f"{path} has {size} bytes, {meta.index_bytes} were written: it is damaged; {COMPACT}")
        index = VectorIndex.read(path, COMPACT, mapped=mapped)
        for name, have, wanted in (
            ("vectors", index.count, meta.index_count),
            ("dimensions", index.dimension, meta.dimension),
            ("measure", index.measure.name, meta.dist_type),
        ):
            if have != wanted:
                raise GalleryError(f"{path} has {name} {have} where the gallery says {wanted}; {COMPACT}")
        return index

    def close(self) -> None:
        self.db.close()

    def is_current(self) -> bool:
        """Whether the disk still holds what this store has read; costs a small file and a word from SQLite."""
        return current_generation(self.folder.parent) == self.folder and self.db.version() == self.version

    def stored_vectors(self) -> NDArray[Any]:
        """The live vectors in the order of `ids`, read-only: a memory map, or a copy where entries were removed."""
        rows = self.rows
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return self.vectors[rows[0] : rows[0] + len(rows)]
        chosen = np.ascontiguousarray(self.vectors[rows])
        chosen.flags.writeable = False
        return chosen

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        """Those of the given ids, in that order; GalleryError where one is not there, or not what was written."""
        wanted = np.fromiter(ids, np.int64)
        have, rows, crcs = self.located("id", np.unique(wanted))
        vectors = self.vectors[rows]
        check_crcs(vectors, crcs, have)
        return np.asarray(vectors[places_of(have, wanted)])

    def blocks(self) -> Iterator[Block]:
        """Live ids and their vectors, BLOCK_ROWS at a time; GalleryError where one is not what was written."""
        for start in range(0, len(self.ids), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            vectors = self.vectors[self.rows[part]]
            check_crcs(vectors, self.crcs[part], self.ids[part])
            yield self.ids[part], vectors

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


def map_vectors(path: Path, meta: Meta) -> NDArray[Any]:
    """The committed rows, (rows, width) float32 or uint8, read-only; GalleryError where the file is too short."""
    width, dtype = meta.measure.width(meta.dimension), meta.measure.dtype
    have, wanted = size_of(path), meta.rows * meta.row_bytes
    if have < wanted:
        raise GalleryError(f"{path} has {have} bytes where its {meta.rows} entries need {wanted}; {REBUILD}")
    if meta.rows == 0:
        return np.empty((0, width), dtype)
    return np.memmap(path, dtype, mode="r", shape=(meta.rows, width))


def current_generation(index_dir: Path) -> Path | None:
    """The folder that gallery.json names, None where there is no gallery.json. Raises GalleryError."""
    pointer = index_dir / POINTER
    try:
        with readable(pointer):
            if size_of(pointer) > LONGEST_POINTER:
                raise ValueError(f"it has more than {LONGEST_POINTER} bytes")
            content = json.loads(pointer.read_text(encoding="utf-8"))
        form, version, name = content["format"], content["version"], content["generation"]
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise GalleryError(f"{index_dir} is a file where the gallery's folder is wanted; give another name") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GalleryError(f"{pointer} is damaged ({error}); {REBUILD}") from error
    if form != FORMAT or version != VERSION:
        raise GalleryError(
            f"{pointer} says format {form!r} version {version!r}, this shitu reads {FORMAT!r} version {VERSION}: "
            f"update shitu, or {REBUILD}"
        )
    if not isinstance(name, str) or not GENERATION.fullmatch(name):
        raise GalleryError(f"{pointer} names {name!r}, which is no generation; {REBUILD}")
    return index_dir / name


def settings_in(index_dir: Path) -> str:
    """`Facts.settings` of the gallery in a folder, without its ids; "" where there is none. Raises GalleryError."""
    folder = current_generation(index_dir)
    try:
        return "" if folder is None else ItemDb.open(folder / ITEMS).meta().settings
    except FileNotFoundError:  # a writer may just have replaced it
        return ""


def previous_generation(index_dir: Path) -> Path | None:
    """The folder that gallery.json names as the one before, None where it names none, or that one is not there."""
    try:
        name = json.loads((index_dir / POINTER).read_text(encoding="utf-8"))["previous"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = isinstance(name, str) and GENERATION.fullmatch(name) and (index_dir / name).is_dir()
    return index_dir / name if known else None


def open_store(index_dir: Path) -> Store | None:
    """Open the current generation; None where there is none. Tries again when a writer replaces it meanwhile."""
    for _ in range(ATTEMPTS):
        folder = current_generation(index_dir)
        if folder is None:
            return None
        try:
            with readable(folder):
                return Store(folder)
        except FileNotFoundError as error:
            missing = error
        except GalleryError:  # also what a writer was just deleting looks damaged
            if current_generation(index_dir) == folder:
                raise
    raise GalleryError(f"{folder} is incomplete ({missing}); {REBUILD}") from missing


def places_of(have: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each id stands in the ascending `have`; GalleryError where one does not."""
    places = np.searchsorted(have, wanted)
    there = np.isin(wanted, have)
    if not there.all():
        raise GalleryError(f"the gallery has no entry {wanted[~there][0]}: it may just have been removed")
    return places


def among(table: Table, column: str, numbers: NDArray[np.int64]) -> Table:
    """Of the table those whose `id` or `row` is among the numbers, which ascend; ascending by that."""
    ids, rows, crcs = table
    have = ids if column == "id" else rows
    unsorted = column == "row" and bool((have[1:] < have[:-1]).any())
    order = np.argsort(have, kind="stable") if unsorted else None
    if not len(have):
        return table
    places = np.minimum(np.searchsorted(have, numbers, sorter=order), len(have) - 1)
    places = places if order is None else order[places]
    places = places[have[places] == numbers]
    return ids[places], rows[places], crcs[places]


def rows_among(table: Table, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each id, and any for an id that is not there."""
    places = np.minimum(np.searchsorted(table[0], ids), len(table[0]) - 1)
    return np.asarray(table[1][places])


def _ends(table: Table) -> tuple[int, int, int, int]:
    ids, rows, _ = table
    return (int(ids[0]), int(ids[-1]), int(rows.min()), int(rows.max())) if len(ids) else (0, 0, 0, 0)


def check_crcs(vectors: NDArray[Any], crcs: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
    """GalleryError where a vector is not the one that was written."""
    changed = ids[crc32_rows(vectors) != crcs]
    if len(changed):
        raise GalleryError(
            f"the vector of entry {changed[0]} changed on disk since it was written: `shitu gallery verify` tells all "
            f"such entries; remove them, or {REBUILD}"
        )


def crc32_rows(vectors: NDArray[Any]) -> NDArray[np.uint32]:
    """The crc32 of each row's bytes, (n,) uint32."""
    content = np.ascontiguousarray(vectors).reshape(-1).view(np.uint8).data
    width = len(content) // max(len(vectors), 1)
    starts = range(0, len(content), width or 1)
    return np.fromiter((zlib.crc32(content[start : start + width]) for start in starts), np.uint32, len(vectors))
