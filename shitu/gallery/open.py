"""Which kind of gallery a URL means: a plain path is a folder; other kinds register a scheme."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shitu.errors import GalleryError
from shitu.gallery.base import GalleryReader
from shitu.gallery.read.store import settings_in
from shitu.gallery.reader import FolderReader
from shitu.gallery.stores.url import shown

if TYPE_CHECKING:
    from shitu.gallery.change import GalleryWriter


@dataclass(frozen=True)
class Kind:
    """How the galleries of a scheme are opened: called as `open_reader` and `open_writer` are, whole URL first."""

    reader: Callable[..., GalleryReader]
    writer: Callable[..., GalleryWriter]


def _folder_writer(url: str, **options: Any) -> GalleryWriter:
    from shitu.gallery.write.writer import FolderWriter  # who only reads needs none of it

    return FolderWriter(url, **options)


def _database(url: str, **options: Any) -> GalleryReader:
    from shitu.gallery.stores.kinds import reader  # who uses a folder needs none of it

    return reader(url, **options)


def _database_writer(url: str, **options: Any) -> GalleryWriter:
    from shitu.gallery.stores.kinds import writer

    return writer(url, **options)


KINDS = {"": Kind(FolderReader.open, _folder_writer)}
KINDS |= dict.fromkeys(("milvus", "postgresql"), Kind(_database, _database_writer))


def open_reader(
    url: str,
    *,
    efSearch: int | None = None,  # noqa: N803 (the key of the configuration)
    nprobe: int | None = None,
    delimiter: str = "\t",
    load_index: bool = True,
) -> GalleryReader:
    """Open the gallery of an `IndexProcess.index_dir`; what the rest means stands at `FolderReader.open`.

    Raises GalleryError where it is missing, damaged or of another version.
    """
    return _kind(url).reader(url, efSearch=efSearch, nprobe=nprobe, delimiter=delimiter, load_index=load_index)


def open_writer(url: str, *, delimiter: str = "\t") -> GalleryWriter:
    """Who may change the gallery of an `IndexProcess.index_dir`, or make it. Raises GalleryError."""
    return _kind(url).writer(url, delimiter=delimiter)


def settings_of(url: str) -> str:
    """The `Facts.settings` of a gallery, without opening all of it where that can be done. Raises GalleryError."""
    kind = _kind(url)
    return settings_in(Path(url)) if kind is KINDS[""] else kind.reader(url).facts.settings


def _kind(url: str) -> Kind:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", url)
    scheme = found[1].lower() if found else ""
    if scheme not in KINDS:
        known = ", ".join(f"{name}://" for name in KINDS if name) or "none"
        raise GalleryError(f"{shown(url)}: galleries of {scheme}:// are unknown (known: {known}); give a folder's path")
    return KINDS[scheme]
