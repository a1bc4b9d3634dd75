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
from shitu.files import make_room
from shitu.gallery.base import Item
from shitu.gallery.read.columns import META_CRC, chunks, item_sum, marks, meta_crc
from shitu.gallery.read.items import ItemDb, Meta
from shitu.gallery.read.schema import ADD_SUM, APPLICATION_ID, SCHEMA, VERSION
from shitu.results import Box


class ItemWriter(ItemDb):
    """An items.db that can be changed, all at once at the end of a transaction."""

    mode: ClassVar[str] = "rw"

    @classmethod
    def create(cls, path: Path | None) -> ItemWriter:
        """A new, empty database at `path`, or in memory."""
        where = path or Path(":memory:")
        connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        with _errors(where):
            for pragma in ("trusted_schema = OFF", "journal_mode = DELETE", "synchronous = EXTRA"):
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; "
                f"BEGIN; {SCHEMA[VERSION]}; COMMIT;"
            )
        return cls(connection, where)

    def copy_to(self, path: Path, ids: Iterable[int], meta: Meta) -> None:
        """A database of these entries, with their rows and crcs, and these facts; durable when this returns."""
        other = ItemWriter.create(path)
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
            if not (before := self.summed):
                self._add_sums()
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
                self.summed = before
            with _errors(self.path):
                raise

    def insert(self, items: Iterable[tuple[Item, int, int]]) -> None:
        """Write (item with its id, row, crc) triples; inside a transaction."""
        rows = (
            (item.id, row, item.label, item.image, item.sha256, _box_text(item.box), crc) for item, row, crc in items
        )
        self._connection.executemany(
            "INSERT INTO item (id, row, label, image, sha256, box, crc, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((*row, item_sum(*row)) for row in rows),
        )

    def _add_sums(self) -> None:
        """A database of version 1 becomes one of ours, within the transaction."""
        self._connection.create_function("item_sum", 7, item_sum, deterministic=True)
        for sql in (
            f"ALTER TABLE item ADD COLUMN {ADD_SUM}",
            "UPDATE item SET sum = item_sum(id, row, label, image, sha256, box, crc)",
            f"PRAGMA user_version = {VERSION}",
        ):
            self._connection.execute(sql)
        self.summed = True

    def delete(self, ids: Iterable[int]) -> int:
        """Delete entries, inside a transaction; returns how many were there."""
        return sum(
            self._connection.execute(f"DELETE FROM item WHERE id IN ({marks(chunk)})", chunk).rowcount
            for chunk in chunks(ids)
        )

    def set_meta(self, meta: Meta) -> None:
        self._set([(each.name, str(getattr(meta, each.name))) for each in fields(meta)])
        self._set([(META_CRC, meta_crc(self._ask("SELECT key, value FROM meta")))])

    def _set(self, pairs: list[tuple[str, str]]) -> None:
        self._connection.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", pairs
        )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: a full or failing disk is the user's to mend."""
    try:
        yield
    except (sqlite3.Error, UnicodeEncodeError) as error:  # the latter: a file name that is no text
        message = f"{path} cannot be written ({error}); nothing was changed"
        if isinstance(error, sqlite3.OperationalError) and "disk" in str(error):
            raise GalleryWriteError(f"{message}. {make_room(path.parent)}") from error
        raise GalleryError(f"{message}: check space and names") from error


def _box_text(box: Box | None) -> str | None:
    return None if box is None else json.dumps([int(edge) for edge in box])
