"""The pages of a TIFF file, one by one, each decoded as the file's first picture is."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shitu.errors import ImageError
from shitu.images.read import Picture, decode_image, read_stream

MAX_PAGES = 1000
MAX_BYTES = 256 << 20  # of a file with several pages, which is kept in memory while they are read
_SUBFILE_TYPE, _REDUCED = 254, 1


@dataclass(frozen=True)
class _Layout:
    """How a kind of TIFF writes: byte order, where the offset of the first directory stands, the fields' formats."""

    order: str
    first: int
    offset: str
    count: str
    entry: int  # bytes

    def read(self, stream: BinaryIO, where: int, form: str) -> int:
        """Raises struct.error where the file ends before."""
        stream.seek(where)
        return int(struct.unpack(self.order + form, stream.read(struct.calcsize(self.order + form)))[0])


def tiff_pages(stream: BinaryIO, name: str) -> Iterable[tuple[str, Picture | ImageError]]:
    """(`NAME#page=1`, picture) of every page, without previews; (name, picture) where there is but one.

    The pictures are decoded when they are wanted. Raises ImageError where the one picture cannot be read.
    """
    layout = _layout(stream)
    pages = _directories(stream, layout)
    stream.seek(0)
    if len(pages) < 2:
        return [(name, read_stream(stream, name))]
    data = bytearray(stream.read(MAX_BYTES + 1))
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name}: {len(pages)} pages in more than {MAX_BYTES >> 20} MB; split the file")
    return _decoded(data, name, layout, pages)


def _decoded(
    data: bytearray, name: str, layout: _Layout, pages: list[int]
) -> Iterator[tuple[str, Picture | ImageError]]:
    for number, page in enumerate(pages[:MAX_PAGES], start=1):
        label = f"{name}#page={number}"
        # as a file whose first directory is this one
        data[layout.first : layout.first + struct.calcsize(layout.order + layout.offset)] = struct.pack(
            layout.order + layout.offset, page
        )
        try:
            yield label, decode_image(bytes(data), label)
        except ImageError as error:
            yield label, error
    if len(pages) > MAX_PAGES:
        yield name, ImageError(f"{name}: more than {MAX_PAGES} pages; the others are left out; split the file")


def _layout(stream: BinaryIO) -> _Layout:
    head = stream.read(4)
    order = "<" if head.startswith(b"II") else ">"
    return _Layout(order, 8, "Q", "Q", 20) if b"+" in head else _Layout(order, 4, "I", "H", 12)


def _directories(stream: BinaryIO, layout: _Layout) -> list[int]:
    """Where the directories of the pages lie, at most one more than MAX_PAGES; fewer where the chain is broken."""
    seen: set[int] = set()
    pages: list[int] = []
    try:
        here = layout.read(stream, layout.first, layout.offset)
        while here and here not in seen and len(seen) < 2 * MAX_PAGES and len(pages) <= MAX_PAGES:
            seen.add(here)
            count = layout.read(stream, here, layout.count)
            start = here + struct.calcsize(layout.order + layout.count)
            if not _is_reduced(stream, layout, start, count):
                pages.append(here)
            here = layout.read(stream, start + count * layout.entry, layout.offset)
    except (struct.error, OverflowError, ValueError, OSError):
        pass
    return pages


def _is_reduced(stream: BinaryIO, layout: _Layout, start: int, count: int) -> bool:
    """Whether the directory is that of a preview; its fields are sorted, so that the type is one of the first."""
    for number in range(min(count, 2)):
        where = start + number * layout.entry
        if layout.read(stream, where, "H") == _SUBFILE_TYPE:
            return bool(
                layout.read(stream, where + layout.entry - struct.calcsize("=" + layout.offset), "I") & _REDUCED
            )
    return False
