"""The place where parts lie: a folder that all machines share, or a URL of an object store."""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shitu.errors import ImageError, ShituError, UsageError
from shitu.files import make_room, replace_file
from shitu.object_store import delete, find_stored, is_stored, open_stored, put

SUFFIX = ".shitu"


@dataclass(frozen=True)
class Parts:
    """Those of one command, in `place`/`key`; what they hold depends on `key`. Can be pickled. Raises ShituError."""

    place: str
    key: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", self.place.removeprefix("file://").rstrip("/"))

    def names(self) -> set[str]:
        """The parts that are there."""
        found: list[str] = []
        with suppress(UsageError, FileNotFoundError):
            found = find_stored(self._url()) if is_stored(self.place) else os.listdir(self._url())
        return {os.path.basename(name).removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)}

    def write(self, name: str, data: bytes) -> None:
        """All of it or nothing, and durably; with a checksum."""
        data = b"%08x\n%s" % (zlib.crc32(data), data)
        if is_stored(self.place):
            put(self._url(name), data)
            return
        path = Path(self._url(name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda file: file.write(data))
        except OSError as error:
            raise ShituError(
                f"{path}: cannot be written: {error.strerror or error}. {make_room(path.parent)}"
            ) from error

    def read(self, name: str) -> bytes:
        """What was written."""
        crc, _, data = self._read(self._url(name)).partition(b"\n")
        if crc != b"%08x" % zlib.crc32(data):
            raise ShituError(f"{self._url(name)}: is damaged; delete it, and run the same command again")
        return data

    def _read(self, url: str) -> bytes:
        try:
            if not is_stored(self.place):
                return Path(url).read_bytes()
            with open_stored(url) as stream:
                return stream.read()
        except (OSError, ImageError) as error:
            raise ShituError(
                f"{url}: was written, and is not to be read here ({error}); --parts has to be a place that all "
                "machines share: a folder on a network disk, or s3://BUCKET/NAME"
            ) from error

    def delete(self, name: str | None = None) -> None:
        """One part, or all of them."""
        if is_stored(self.place):
            delete(self._url(name))
        elif name:
            Path(self._url(name)).unlink(missing_ok=True)
        else:
            shutil.rmtree(self._url(), ignore_errors=True)
            with suppress(OSError):  # others' parts lie there, too
                os.rmdir(self.place)

    def _url(self, name: str | None = None) -> str:
        return "/".join([self.place, self.key, *([name + SUFFIX] if name else [])])
