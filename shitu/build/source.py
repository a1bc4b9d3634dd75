"""Where the bytes of a listed image come from: files, or an object store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from shitu.errors import ImageError
from shitu.images.read import open_image
from shitu.object_store import identity_of, open_stored


@dataclass(frozen=True)
class Opened:
    """An image to be read: its `identity` was taken before the first byte was."""

    identity: str
    stream: BinaryIO


class Source(Protocol):
    """Can be pickled, and be used by many threads at a time."""

    def identity(self, path: str) -> str:
        """What changes when the image does, found without reading it; "" where there is none."""
        ...

    def open(self, path: str) -> AbstractContextManager[Opened]:
        """Raises ImageError, also where reading fails."""
        ...


class Files:
    """Images that lie where the list says."""

    def identity(self, path: str) -> str:
        try:
            return _identity(path, os.stat(path))
        except (OSError, ValueError):  # ValueError: a NUL in the path
            return ""

    @contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        with open_image(path) as stream:
            # of the open file, whatever is put in its place while it is read
            yield Opened(_identity(path, os.fstat(stream.fileno())), stream)


@dataclass(frozen=True)
class Stored:
    """Images below one URL that the user named; a list that points elsewhere reads nothing there."""

    root: str

    def identity(self, path: str) -> str:
        return identity_of(path) if self._holds(path) else ""

    @contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        if not self._holds(path):
            raise ImageError(f"{path}: does not lie below {self.root}, and is not read; list what does")
        identity = identity_of(path)
        with open_stored(path) as stream:
            yield Opened(identity, stream)

    def _holds(self, path: str) -> bool:
        root = self.root.rstrip("/") + "/"
        return path.startswith(root) and ".." not in path[len(root) :].split("/")


def _identity(path: str, status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {os.path.abspath(path)}"
