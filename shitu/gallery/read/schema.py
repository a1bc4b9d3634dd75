"""The tables of items.db, and whether a database from somewhere else has these and nothing more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shitu.errors import GalleryError

APPLICATION_ID = 0x53485455  # "SHTU"
VERSION = 2
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE item (id INTEGER PRIMARY KEY, row INTEGER NOT NULL UNIQUE, label TEXT NOT NULL, image TEXT NOT NULL,
                   sha256 TEXT NOT NULL, box TEXT, crc INTEGER NOT NULL);
CREATE INDEX item_label ON item (label);
CREATE INDEX item_image ON item (image);
CREATE INDEX item_sha256 ON item (sha256)"""
ADD_SUM = "sum INTEGER NOT NULL DEFAULT 0"
SCHEMA = {1: _TABLES, VERSION: _TABLES.replace("crc INTEGER NOT NULL)", f"crc INTEGER NOT NULL, {ADD_SUM})")}
REBUILD = "rebuild it with `shitu build-gallery`"


def check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """The version; GalleryError for another program's database, a newer version, or one that defines anything else."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise GalleryError(f"{path} is not a gallery database of shitu; {REBUILD}")
    if version not in SCHEMA:
        raise GalleryError(
            f"{path} has version {version}, this shitu reads version {VERSION}: update shitu, or {REBUILD}"
        )
    found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    defined = {(kind, name, " ".join(str(sql).split())) for kind, name, sql in found if sql is not None}
    automatic = {(kind, name) for kind, name, sql in found if sql is None}
    wanted = {(*text.split()[1:3], " ".join(text.split())) for text in SCHEMA[version].split(";")}
    wanted = {(kind.lower(), name, text) for kind, name, text in wanted}
    if defined != wanted or automatic - _AUTOMATIC:
        strange = ", ".join(sorted(str(name)[:40] for _, name, _ in defined - wanted)) or "its indexes"
        raise GalleryError(f"{path} defines other tables or triggers than a gallery has ({strange}); {REBUILD}")
    return int(version)


_AUTOMATIC = {("index", "sqlite_autoindex_item_1"), ("index", "sqlite_autoindex_meta_1")}
