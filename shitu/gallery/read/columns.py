"""What stands in a column of items.db: as a checksum takes it, as Python has it, and as SQL asks for it."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from shitu.errors import GalleryError
from shitu.gallery.read.schema import REBUILD
from shitu.results import Box

AT_ONCE = 500  # values in one SQL statement; SQLite promises 999
META_CRC = "crc"  # the key of meta whose value is the crc32 of all others


def item_sum(*columns: Any) -> int:
    """The crc32 of what an item says: id, row, label, image, sha256, box and crc, as the database holds them."""
    text = "\0".join("" if column is None else str(column) for column in columns)
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def meta_crc(rows: Iterable[tuple[Any, Any]]) -> str:
    """The crc32 of all facts but itself."""
    lines = sorted(f"{key}={value}" for key, value in rows if key != META_CRC)
    return str(zlib.crc32("\n".join(lines).encode("utf-8", "surrogatepass")))


def box_of(text: Any) -> Box | None:
    if text is None:
        return None
    try:
        left, top, right, bottom = (int(edge) for edge in json.loads(text))
        if any(not -(2**31) <= edge < 2**31 for edge in (left, top, right, bottom)):
            raise ValueError("no pixels of a picture")
        return left, top, right, bottom
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise GalleryError(f"an entry of the gallery has a damaged box {str(text)[:80]!r}; {REBUILD}") from error


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values that SQLite can hold, in pieces: a number beyond 64 bits, or a text that is none, matches nothing."""
    plain = (int(value) if isinstance(value, np.integer) else value for value in values)
    sound = [value for value in plain if _storable(value)]
    for start in range(0, len(sound), AT_ONCE):
        yield sound[start : start + AT_ONCE]


def _storable(value: Any) -> bool:
    return -(2**63) <= value < 2**63 if isinstance(value, int) else not re.search("[\ud800-\udfff]", value)


def marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
