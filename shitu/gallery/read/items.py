"""items.db: what a gallery knows about each of its vectors, and about itself, in one SQLite file.

A database from somewhere else is not trusted: its schema is checked by name, nothing in it is run, every value read is
checked.
"""

from __future__ import annotations

import json
import re
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
from shitu.gallery.base import Facts, Item
from shitu.results import Box

if TYPE_CHECKING:
    from typing_extensions import Self

APPLICATION_ID = 0x53485455  # "SHTU"
VERSION = 1
BUSY_SECONDS = 30
AT_ONCE = 500  # values in one SQL statement; SQLite promises 999
SCHEMA_NAMES = {"meta", "item", "item_label", "item_image", "item_sha256"}
REBUILD = "rebuild it with `shitu build-gallery`"


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
    undo: str = ""  # the file that undoes the last change; "" where none can be undone (write/undo.py)
    added: str = ""  # in a file that undoes: the ids that the change put in (write/undo.py)
    origin: str = ""  # of a gallery that was another program's: its files as they were then (gallery/origin.py)

    @property
    def row_bytes(self) -> int:
        """What one vector occupies in vectors.bin."""
        return self.measure.width(self.dimension) * self.measure.dtype.itemsize

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[Any, Any]]) -> Meta:
        """KeyError or ValueError where something is missing or no number."""
        values = {"settings": ""} | {str(key): str(value) for key, value in rows}  # older galleries have none
        numbers = {field.name for field in fields(cls) if field.type == "int"}
        values = {"origin": "", "undo": "", "added": ""} | values  # galleries of before do not have them
        made: dict[str, Any] = {field.name: values[field.name] for field in fields(cls)}
        made |= {name: int(made[name]) for name in numbers}
        if any(made[name] < 0 for name in numbers) or made["index_rows"] > made["rows"]:
            raise ValueError("a count is impossible")
        return cls(**made)


class ItemDb:
    """An open items.db (or the same tables in memory, for a gallery of another program); what writes is ItemWriter."""

    mode: ClassVar[str] = "ro"

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # a server may search from several threads
        weakref.finalize(self, connection.close)  # with the last reader that uses it
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file and check whose it is; FileNotFoundError, GalleryError."""
        if not path.exists():
            raise FileNotFoundError(path)
        try:
            return cls._connect(path, cls.mode)
        except sqlite3.Error as error:
            if not path.with_name(path.name + "-journal").exists():
                raise GalleryError(f"{path} is damaged or no gallery database ({error}); {REBUILD}") from error
        # A writer died within its commit, and only who may write can roll that back.
        try:
            cls._connect(path, "rw").close()
            return cls._connect(path, cls.mode)
        except sqlite3.Error as error:
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
            _check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
        return cls(connection, path)

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
            return Meta.from_rows(self._ask("SELECT key, value FROM meta"))
        except (KeyError, ValueError, TypeError) as error:
            raise GalleryError(f"{self.path}: its meta table is damaged ({error}); {REBUILD}") from error

    def version(self) -> int:
        """A number that changes when another connection has committed something."""
        return int(self._ask("PRAGMA data_version")[0][0])

    def live(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids (n,) int64, ascending, and the row of each in vectors.bin."""
        found = self._ask("SELECT id, row FROM item ORDER BY id")
        try:
            table = np.array(found, np.int64).reshape(-1, 2)
        except (ValueError, TypeError, OverflowError) as error:
            raise GalleryError(f"{self.path}: an id or row is no number ({error}); {REBUILD}") from error
        return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])

    def snapshot(self) -> tuple[int, Meta, NDArray[np.int64], NDArray[np.int64]]:
        """`version`, `meta` and `live` of one moment, though a writer may commit meanwhile."""
        self._ask("BEGIN")
        try:
            return self.version(), self.meta(), *self.live()
        finally:
            self._ask("COMMIT")

    def crcs(self) -> dict[int, int]:
        """The crc32 of each row in use."""
        return {int(row): int(crc) for row, crc in self._ask("SELECT row, crc FROM item")}

    def count_labels(self) -> int:
        return int(self._ask("SELECT COUNT(DISTINCT label) FROM item")[0][0])

    def integrity(self) -> list[str]:
        """SQLite's own findings; empty when sound."""
        return [str(row[0]) for row in self._ask("PRAGMA integrity_check(20)") if row[0] != "ok"]

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        """The entries of those ids that are there."""
        pages = (self._ask(f"{_SELECT} WHERE id IN ({marks(chunk)})", chunk) for chunk in chunks(ids))
        return {item.id: item for page in pages for item in map(_item, page)}

    def stored(self, ids: Iterable[int]) -> Iterator[tuple[Item, int, int]]:
        """The entries of those ids that are there, each with its row and the crc32 of that row."""
        for chunk in chunks(ids):
            items = self.lookup(chunk)
            for number, row, crc in self._ask(f"SELECT id, row, crc FROM item WHERE id IN ({marks(chunk)})", chunk):
                yield items[number], int(row), int(crc)

    def items(self) -> Iterator[Item]:
        """All entries by id, fetched in pages: an open query would keep writers waiting."""
        last = -1
        while rows := self._ask(f"{_SELECT} WHERE id > ? ORDER BY id LIMIT 1000", (last,)):
            yield from map(_item, rows)
            last = int(rows[-1][0])

    def find(self, column: str, values: Iterable[Any]) -> list[int]:
        """Ids whose `id`, `label`, `image` or `sha256` is one of the values."""
        assert column in ("id", "label", "image", "sha256")
        ids: set[int] = set()
        for chunk in chunks(values):
            sql = f"SELECT id FROM item WHERE {column} IN ({marks(chunk)})"
            ids.update(int(row[0]) for row in self._ask(sql, chunk))
        return sorted(ids)


_SELECT = "SELECT id, label, image, sha256, box FROM item"


def _item(row: tuple[Any, ...]) -> Item:
    number, label, image, sha256, box = row
    return Item(str(label), str(image), str(sha256), _box(box), int(number))


def _box(text: Any) -> Box | None:
    if text is None:
        return None
    try:
        left, top, right, bottom = json.loads(text)
        return int(left), int(top), int(right), int(bottom)
    except (ValueError, TypeError) as error:
        raise GalleryError(f"an entry of the gallery has a damaged box {text!r}; {REBUILD}") from error


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values that SQLite can hold, in pieces: a number beyond 64 bits, or a text that is none, matches nothing."""
    plain = (int(value) if isinstance(value, np.integer) else value for value in values)
    sound = [value for value in plain if _storable(value)]
    for start in range(0, len(sound), AT_ONCE):
        yield sound[start : start + AT_ONCE]


def _storable(value: Any) -> bool:
    return -(2**63) <= value < 2**63 if isinstance(value, int) else not re.search("[\ud800-\udfff]", value)


def marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """GalleryError for a database of another program, a newer version, or one with views or triggers."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise GalleryError(f"{path} is not a gallery database of shitu; {REBUILD}")
    if version != VERSION:
        raise GalleryError(
            f"{path} has version {version}, this shitu reads version {VERSION}: update shitu, or {REBUILD}"
        )
    objects = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%'")
    kinds = {str(name): str(kind) for kind, name in objects}
    if set(kinds) != SCHEMA_NAMES or set(kinds.values()) != {"table", "index"}:
        raise GalleryError(f"{path} has other tables than a gallery has; {REBUILD}")
