"""items.db, made and changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

from shitu.errors import GalleryError, GalleryWriteError
from shitu.gallery.base import Item
from shitu.gallery.read.items import APPLICATION_ID, VERSION, ItemDb, Meta, chunks, marks
from shitu.results import Box

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE item (id INTEGER PRIMARY KEY, row INTEGER NOT NULL UNIQUE, label TEXT NOT NULL, image TEXT NOT NULL,
                   sha256 TEXT NOT NULL, box TEXT, crc INTEGER NOT NULL);
CREATE INDEX item_label ON item (label);
CREATE INDEX item_image ON item (image);
CREATE INDEX item_sha256 ON item (sha256);
"""


class ItemWriter(ItemDb):
    """An items.db that can be changed, all at once at the end of a transaction."""

    mode: ClassVar[str] = "rw"

    @classmethod
    def create(cls, path: Path | None) -> ItemWriter:
        """A new, empty database at `path`, or in memory."""
        connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        for pragma in ("trusted_schema = OFF", "journal_mode = DELETE", "synchronous = EXTRA"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; BEGIN; {SCHEMA} COMMIT;"
        )
        return cls(connection, path or Path(":memory:"))

    def copy_to(self, path: Path, ids: Iterable[int], meta: Meta) -> None:
        """A database of these entries, with their rows and crcs, and these facts; durable when this returns."""
        try:
            other = ItemWriter.create(path)
        except sqlite3.Error as error:
            raise GalleryWriteError(f"{path} cannot be written ({error}); nothing was changed. Make room") from error
        try:
            with other.transaction():
                other.insert(self.stored(ids))
                other.set_meta(meta)
        finally:
            other.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or nothing is. Raises GalleryError where it cannot be written."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "disk" in str(error):
                message = f"{self.path} cannot be written ({error}); nothing was changed. Make room on the disk"
                raise GalleryWriteError(f"{message} and run the same command again") from error
            if isinstance(error, sqlite3.Error | UnicodeEncodeError):  # the latter: a file name that is no text
                raise GalleryError(
                    f"{self.path} cannot be written ({error}); nothing was changed: check space and names"
                ) from error
            raise

    def insert(self, items: Iterable[tuple[Item, int, int]]) -> None:
        """Write (item with its id, row, crc) triples; inside a transaction."""
        self._connection.executemany(
            "INSERT INTO item (id, row, label, image, sha256, box, crc) VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((item.id, row, item.label, item.image, item.sha256, _box_text(item.box), crc) for item, row, crc in items),
        )

    def delete(self, ids: Iterable[int]) -> int:
        """Delete entries, inside a transaction; returns how many were there."""
        return sum(
            self._connection.execute(f"DELETE FROM item WHERE id IN ({marks(chunk)})", chunk).rowcount
            for chunk in chunks(ids)
        )

    def set_meta(self, meta: Meta) -> None:
        self._connection.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            ((each.name, str(getattr(meta, each.name))) for each in fields(meta)),
        )


def _box_text(box: Box | None) -> str | None:
    return None if box is None else json.dumps([int(edge) for edge in box])
