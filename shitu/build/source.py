"""Where the bytes of a listed image come from; files now, archives and object stores later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from shitu.images.read import open_image


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


def _identity(path: str, status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {os.path.abspath(path)}"
