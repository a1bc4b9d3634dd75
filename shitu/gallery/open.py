"""Which kind of gallery a URL means: a plain path is a folder; other kinds register a scheme."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from shitu.errors import GalleryError
from shitu.gallery.base import GalleryReader, GalleryWriter
from shitu.gallery.gallery import Gallery
from shitu.gallery.write.writer import FolderWriter


class GalleryKind(Protocol):
    """How one scheme opens its galleries; keys of the configuration that mean nothing to it are passed over."""

    def reader(
        self, url: str, *, ef_search: int | None, nprobe: int | None, delimiter: str, load_index: bool
    ) -> GalleryReader: ...

    def writer(self, url: str, *, delimiter: str) -> GalleryWriter: ...


class Folder:
    """The kind without a scheme."""

    def reader(
        self, url: str, *, ef_search: int | None, nprobe: int | None, delimiter: str, load_index: bool
    ) -> GalleryReader:
        return Gallery.open(url, efSearch=ef_search, nprobe=nprobe, delimiter=delimiter, load_index=load_index)

    def writer(self, url: str, *, delimiter: str) -> GalleryWriter:
        return FolderWriter(Path(url), delimiter=delimiter)


KINDS: dict[str, GalleryKind] = {"": Folder()}


def open_reader(
    url: str,
    *,
    ef_search: int | None = None,
    nprobe: int | None = None,
    delimiter: str = "\t",
    load_index: bool = True,
) -> GalleryReader:
    """Open the gallery of an `IndexProcess.index_dir`; what the rest means stands at `Gallery.open`.

    Raises GalleryError where it is missing, damaged or of another version.
    """
    return _kind(url).reader(url, ef_search=ef_search, nprobe=nprobe, delimiter=delimiter, load_index=load_index)


def open_writer(url: str, *, delimiter: str = "\t") -> GalleryWriter:
    """Who may change the gallery of an `IndexProcess.index_dir`, or make it. Raises GalleryError."""
    return _kind(url).writer(url, delimiter=delimiter)


def _kind(url: str) -> GalleryKind:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", url)
    scheme = found[1].lower() if found else ""
    if scheme not in KINDS:
        known = ", ".join(f"{name}://" for name in KINDS if name) or "none"
        raise GalleryError(f"{url}: galleries of {scheme}:// are unknown (known: {known}); give a folder's path")
    return KINDS[scheme]
