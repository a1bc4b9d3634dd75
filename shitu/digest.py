"""What files hold, told by their SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO


def sha256_of(*paths: Path) -> str:
    """The SHA-256 of files, one after the other, as hex digits. Raises OSError."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            _feed(digest, file)
    return digest.hexdigest()


def sha256_of_stream(stream: BinaryIO) -> str:
    """The same of what is left of a stream."""
    digest = hashlib.sha256()
    _feed(digest, stream)
    return digest.hexdigest()


def _feed(digest: Any, stream: BinaryIO) -> None:
    while block := stream.read(1 << 20):
        digest.update(block)
