"""items.db: what a gallery knows about each of its vectors, and about itself, in one SQLite file.

A database from somewhere else is not trusted: its schema must be ours to the letter, nothing in it is run, every
value read is checked.

Checksums: of a vector (`crc`), of all that an item says (`sum`, since version 2), of the facts (the key `crc` of
meta). A gallery of version 1 is read without the latter two, and gets them with its next change.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Facts, Item, LabelCount
from shitu.gallery.read.columns import META_CRC, box_of, chunks, item_sum, marks, meta_crc
from shitu.gallery.read.files import check_journal, size_of
from shitu.gallery.read.schema import REBUILD, VERSION, check_schema

if TYPE_CHECKING:
    from typing_extensions import Self

BUSY_SECONDS = 30
_CONTAINS = "(? = '' OR instr(lower(label), lower(?)) > 0)"  # LIKE would take % and _ for its own
Table = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Of entries their ids, the row of each in vectors.bin and the crc32 of that row, (n,) int64 each."""
_NO_TABLE: Table = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
# What galleries of before do not have.
_LATER = dict.fromkeys(("settings", "origin", "undo", "added", "index_made"), "")
_LATER |= dict.fromkeys(("memory_limit", "ef_search", "nprobe", "depth"), "0")


@dataclass(frozen=True)
class Meta(Facts):
    """The facts, and how the folder keeps them. `rows` counts the rows of vectors.bin, removed ones included."""

    next_id: int = 0
    rows: int = 0
    index_file: str = ""  # "" where there is none: Flat, an empty gallery, or too few vectors to learn from
    index_sha256: str = ""
    index_bytes: int = 0
    index_count: int = 0  # vectors in the index file, ids removed since then included
    index_rows: int = 0  # the index covers what lived in the rows before this one; later rows are scanned
    index_learned: int = 0  # vectors that it was trained on
    index_made: str = ""  # the method that it was made by, in faiss's words
    ef_search: int = 0  # how thoroughly it looks, as `shitu gallery tune` found best; 0: as usual
    nprobe: int = 0
    depth: int = 0  # so many of those it names are compared exactly; 0: as usual
    undo: str = ""  # the file that undoes the last change; "" where none can be undone (write/undo.py)
    added: str = ""  # in a file that undoes: the ids that the change put in (write/undo.py)
    origin: str = ""  # of a gallery that was another program's: its files as they were then (gallery/origin.py)

    @property
    def tuned(self) -> tuple[int, int, int]:
        return self.ef_search, self.nprobe, self.depth

    @property
    def row_bytes(self) -> int:
        """What one vector occupies in vectors.bin."""
        return self.measure.width(self.dimension) * self.measure.dtype.itemsize

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[Any, Any]]) -> Meta:
        """KeyError or ValueError where something is missing or no number."""
        values = _LATER | {str(key): str(value) for key, value in rows}
        numbers = {field.name for field in fields(cls) if field.type == "int"}
        made: dict[str, Any] = {field.name: values[field.name] for field in fields(cls)}
        made |= {name: int(made[name]) for name in numbers}
        impossible = any(not 0 <= made[name] < 2**62 for name in numbers) or not 0 < made["dimension"] < 2**24
        if impossible or made["index_rows"] > made["rows"]:
            raise ValueError("a count is impossible")
        return cls(**made)


class ItemDb:
    """An open items.db (or the same tables in memory, for a gallery of another program); what writes is ItemWriter."""

    mode: ClassVar[str] = "ro"

    def __init__(self, connection: sqlite3.Connection, path: Path, version: int = VERSION) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # a server may search from several threads
        weakref.finalize(self, connection.close)  # with the last reader that uses it
        self.path = path
        self.summed = version > 1  # whether the items have checksums

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file and check whose it is; FileNotFoundError, GalleryError."""
        size_of(path)
        check_journal(path)
        try:
            return cls._connect(path, cls.mode)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not path.with_name(path.name + "-journal").exists():
                raise GalleryError(f"{path} is damaged or no gallery database ({error}); {REBUILD}") from error
        # A writer died within its commit, and only who may write can roll that back.
        try:
            cls._connect(path, "rw").close()
            return cls._connect(path, cls.mode)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise GalleryError(
                f"{path} holds a change that was cut off and cannot be undone here ({error}): "
                "open it once where its folder can be written, for example with `shitu gallery info`"
            ) from error

    @classmethod
    def _connect(cls, path: Path, mode: str) -> Self:
        uri = f"{path.absolute().as_uri()}?mode={mode}"  # as_uri quotes what a URI would take for its own: # ? %
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # EXTRA: also the folder is synced, so that a commit cannot come undone once old files are deleted.
            for pragma in ("trusted_schema = OFF", "synchronous = EXTRA", "cell_size_check = ON"):
                connection.execute(f"PRAGMA {pragma}")
            version = check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
        return cls(connection, path, version)

    def close(self) -> None:
        """Not under a running query: SQLite would end the process. Later queries raise GalleryError."""
        with self._lock:
            self._connection.close()

    def _ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise GalleryError(f"{self.path} cannot be read ({error}); {REBUILD}") from error

    def meta(self) -> Meta:
        try:
            rows = self._ask("SELECT key, value FROM meta")
            if (crc := dict(rows).get(META_CRC)) is not None and crc != meta_crc(rows):
                raise ValueError("it is not what was written: its checksum differs")
            return Meta.from_rows(rows)
        except (KeyError, ValueError, TypeError) as error:
            raise GalleryError(f"{self.path}: its meta table is damaged ({error}); {REBUILD}") from error

    def version(self) -> int:
        """A number that changes when another connection has committed something."""
        return int(self._ask("PRAGMA data_version")[0][0])

    def live(self, below: int | None = None) -> Table:
        """Of all entries, or of those in the rows before `below`, by id."""
        which, values = ("", ()) if below is None else ("WHERE row < ? ", (below,))
        return self._table(f"SELECT id, row, crc FROM item {which}ORDER BY id", values)

    def located(self, column: str, numbers: Iterable[int]) -> Table:
        """Of the entries whose `id` or `row` is among the numbers, ascending by that."""
        assert column in ("id", "row")
        tables = [
            self._table(f"SELECT id, row, crc FROM item WHERE {column} IN ({marks(chunk)}) ORDER BY {column}", chunk)
            for chunk in chunks(numbers)
        ]
        ids, rows, crcs = (np.concatenate(parts) for parts in zip(_NO_TABLE, *tables, strict=True))
        return ids, rows, crcs

    def _table(self, sql: str, values: Sequence[Any]) -> Table:
        """Three columns of whole numbers; they go into arrays row by row, since a list of all takes a tenfold of it."""
        try:
            with self._lock:
                table = np.fromiter(self._connection.execute(sql, values), np.dtype((np.int64, 3)))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise GalleryError(f"{self.path} cannot be read ({error}); {REBUILD}") from error
        except (ValueError, TypeError, OverflowError) as error:
            raise GalleryError(f"{self.path}: an id or row is no number ({error}); {REBUILD}") from error
        ids, rows, crcs = table.T.copy()
        return ids, rows, crcs

    def count(self, from_row: int = 0) -> int:
        """How many entries there are in the rows from that one on."""
        every = "SELECT COUNT(*) FROM item"
        return int(self._ask(f"{every} WHERE row >= ?", (from_row,))[0][0] if from_row else self._ask(every)[0][0])

    def ends(self) -> tuple[int, int, int, int]:
        """The least and greatest id and row, all 0 where there are no entries; GalleryError where one is no number."""
        asked = ", ".join(
            f"(SELECT {which}({column}) FROM item)" for column in ("id", "row") for which in ("MIN", "MAX")
        )
        found = self._ask(f"SELECT {asked}")[0]
        if not all(value is None or isinstance(value, int) for value in found):
            raise GalleryError(f"{self.path}: an id or row is no number; {REBUILD}")
        least_id, most_id, least_row, most_row = (value or 0 for value in found)
        return least_id, most_id, least_row, most_row

    def snapshot(self, most: int) -> tuple[int, Meta, int, Table | None]:
        """`version`, `meta`, `count` and, where that is `most` at most, `live` of one moment, whoever commits."""
        self._ask("BEGIN")
        try:
            count = self.count()
            return self.version(), self.meta(), count, self.live() if count <= most else None
        finally:
            self._ask("COMMIT")

    def changed(self) -> list[int]:
        """Ids of the entries that are not what was written; also those whose box is none, where there are no sums."""
        bad, last = [], -(2**63)
        while rows := self._ask(f"{self._select} WHERE id > ? ORDER BY id LIMIT 1000", (last,)):
            for row in rows:
                try:
                    self._item(row)
                except GalleryError:
                    bad.append(int(row[0]))
            last = int(rows[-1][0])
        return bad

    def count_labels(self) -> int:
        return int(self._ask("SELECT COUNT(DISTINCT label) FROM item")[0][0])

    def integrity(self) -> list[str]:
        """SQLite's own findings; empty when sound."""
        return [str(row[0]) for row in self._ask("PRAGMA integrity_check(20)") if row[0] != "ok"]

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        """The entries of those ids that are there."""
        pages = (self._ask(f"{self._select} WHERE id IN ({marks(chunk)})", chunk) for chunk in chunks(ids))
        return {item.id: item for page in pages for item in map(self._item, page)}

    def stored(self, ids: Iterable[int]) -> Iterator[tuple[Item, int, int]]:
        """The entries of those ids that are there, each with its row and the crc32 of that row."""
        for chunk in chunks(ids):
            items = self.lookup(chunk)
            for number, row, crc in self._ask(f"SELECT id, row, crc FROM item WHERE id IN ({marks(chunk)})", chunk):
                yield items[number], int(row), int(crc)

    def items(self) -> Iterator[Item]:
        """All entries by id, fetched in pages: an open query would keep writers waiting."""
        last = -1
        while rows := self._ask(f"{self._select} WHERE id > ? ORDER BY id LIMIT 1000", (last,)):
            yield from map(self._item, rows)
            last = int(rows[-1][0])

    def page(self, after: int, limit: int, label: str | None, text: str) -> list[Item]:
        """The first entries with an id above `after`, of that label (None: of any) and with `text` in their label."""
        sql = f"{self._select} WHERE id > ? AND (? IS NULL OR label = ?) AND {_CONTAINS} ORDER BY id LIMIT ?"
        return [self._item(row) for row in self._ask(sql, (after, label, label, text, text, limit))]

    def labels(self, text: str, after: str, limit: int) -> list[LabelCount]:
        """The first labels behind `after` that contain `text`; a negative limit is none."""
        sql = f"""SELECT label, COUNT(*), MIN(id), MAX(id) FROM item WHERE label > ? AND {_CONTAINS}
                  GROUP BY label ORDER BY label LIMIT ?"""
        return [LabelCount(str(label), *counts) for label, *counts in self._ask(sql, (after, text, text, limit))]

    def find(self, column: str, values: Iterable[Any]) -> list[int]:
        """Ids whose `id`, `label`, `image` or `sha256` is one of the values."""
        assert column in ("id", "label", "image", "sha256")
        ids: set[int] = set()
        for chunk in chunks(values):
            sql = f"SELECT id FROM item WHERE {column} IN ({marks(chunk)})"
            ids.update(int(row[0]) for row in self._ask(sql, chunk))
        return sorted(ids)

    @property
    def _select(self) -> str:
        return f"SELECT id, row, label, image, sha256, box, crc{', sum' if self.summed else ''} FROM item"

    def _item(self, row: tuple[Any, ...]) -> Item:
        """The item of a row of `_select`; GalleryError where it is not what was written."""
        number, _, label, image, sha256, box, _ = row[:7]
        if self.summed and item_sum(*row[:7]) != row[7]:
            raise GalleryError(
                f"{self.path}: entry {number} changed on disk since it was written (its checksum differs): "
                f"`shitu gallery verify` tells all such entries; {REBUILD}"
            )
        return Item(str(label), str(image), str(sha256), box_of(box), int(number))
