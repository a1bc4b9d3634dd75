"""Sources -> pictures, read ahead: files, folders and patterns, web addresses, the pages of PDF and TIFF files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain

from shitu.errors import ImageError
from shitu.images.find import IMAGE_SUFFIXES, find_images
from shitu.images.read import Picture, decode_image, open_image, read_image
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead

Read = tuple[str, Picture | ImageError]
_ONE_PICTURE = IMAGE_SUFFIXES - {".tif", ".tiff"}
_WITH_PAGES = (b"%PDF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_web(name: str) -> bool:
    """
    >>> is_web("https://example.org/a.jpg"), is_web("ftp://example.org/a.jpg"), is_web("http.jpg")
    (True, False, False)
    """
    return name.lower().startswith(("http://", "https://"))


def find_sources(inputs: Sequence[str], find: Callable[[Sequence[str]], Iterator[str]] = find_images) -> Iterator[str]:
    """Web addresses as they stand, of all else the files that `find` has for them. Raises UsageError at once."""
    if not any(map(is_web, inputs)):
        return find(inputs)
    return chain.from_iterable([[text] if is_web(text) else find([text]) for text in inputs])


def read_sources(names: Iterable[str]) -> Iterator[Read]:
    """(name, picture) in order, the error instead of a picture that cannot be read; a page is called `NAME#page=2`.

    Pages are read when they are wanted, all else ahead. Only what the user named may be a web address: names that come
    from a file or from standard input go to `read_ahead`.
    """
    return chain.from_iterable(map_ahead(read_source, names, PICTURES_AHEAD))


def read_source(name: str) -> Iterable[Read]:
    """The pictures of one source, at least one."""
    try:
        if is_web(name) and not os.path.lexists(name):
            from shitu.sources.web import fetch

            data = fetch(name)
            return _pages(data, name) if data.startswith(_WITH_PAGES) else [(name, decode_image(data, name))]
        return [(name, read_image(name))] if is_one_picture(name) else _pages(name, name)
    except ImageError as error:
        return [(name, error)]


def is_one_picture(path: str) -> bool:
    """Whether a file is one picture, and no document with pages. Raises ImageError where it cannot be read."""
    if os.path.splitext(path)[1].lower() in _ONE_PICTURE:
        return True
    with open_image(path) as stream:
        return not stream.read(4).startswith(_WITH_PAGES)


def _pages(source: str | bytes, name: str) -> Iterable[Read]:
    """Of a file, or of its bytes."""
    from shitu.sources.pdf import pdf_pages
    from shitu.sources.tiff import tiff_pages

    with open_image(source) if isinstance(source, str) else BytesIO(source) as stream:
        is_pdf = stream.read(4) == b"%PDF"
        stream.seek(0)
        return pdf_pages(stream, name) if is_pdf else tiff_pages(stream, name)
