"""A gallery as a zip, written as it is read: the gallery of one moment, and the photos that taught it."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from shitu.gallery import open_writer
from shitu.serve.galleries import Served

LIST = "gallery.txt"
_BLOCK = 1 << 20


class _Pipe:
    """What a zip is written into, and taken from, piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def taken(self) -> bytes:
        found, self._parts = b"".join(self._parts), []
        return found


def zipped(gallery: Served, root: Path) -> Iterator[bytes]:
    """NAME/gallery.json and its generation, NAME/photos/..., NAME/gallery.txt (path, label; for an import elsewhere).

    The copy of vectors and entries is made first, on disk, so that nobody waits for a slow reader.
    """
    reader, facts = gallery.reader(), gallery.reader().facts
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=root) as place:
        copy = Path(place) / "copy"
        items = list(reader.items())
        with open_writer(str(copy)) as writer:
            change = writer.begin(facts)
            start = 0
            for ids, vectors in reader.blocks():
                change.add(vectors, items[start : start + len(ids)])
                start += len(ids)
            change.commit()
        yield from _zip(gallery, copy, [(item.sha256, item.label) for item in items])


def _zip(gallery: Served, copy: Path, labels: list[tuple[str, str]]) -> Iterator[bytes]:
    pipe, name = _Pipe(), gallery.name
    photos = {path.name.partition(".")[0]: path for path in gallery.photos.files()}
    with zipfile.ZipFile(cast(BinaryIO, pipe), "w", zipfile.ZIP_STORED) as archive:
        lines = dict.fromkeys((sha256, label) for sha256, label in labels if sha256 in photos)
        listed = [f"{_inside(photos[sha256])}\t{label}\n" for sha256, label in lines]
        archive.writestr(f"{name}/{LIST}", "".join(listed))
        files = [(path, path.relative_to(copy).as_posix()) for path in sorted(copy.rglob("*"))]
        files = [(path, inside) for path, inside in files if path.is_file() and not path.name.startswith(".")]
        wanted = sorted({sha256 for sha256, _ in lines})
        files += [(photos[sha256], _inside(photos[sha256])) for sha256 in wanted]
        for path, inside in files:
            try:
                source = path.open("rb")
            except FileNotFoundError:  # compacted away meanwhile
                continue
            with source, archive.open(zipfile.ZipInfo(f"{name}/{inside}"), "w", force_zip64=True) as member:
                while block := source.read(_BLOCK):
                    member.write(block)
                    yield pipe.taken()
    yield pipe.taken()


def _inside(photo: Path) -> str:
    return "/".join(photo.parts[-3:])
