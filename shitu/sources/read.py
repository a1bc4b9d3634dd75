"""Sources -> pictures, read ahead: files, folders, patterns, addresses of the web or a store, pages of PDF and TIFF."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain

from shitu.errors import ImageError, UsageError
from shitu.images.find import IMAGE_SUFFIXES, find_images, is_image_name
from shitu.images.read import Picture, decode_image, open_image, read_image
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead
from shitu.object_store import find_stored, is_stored, open_stored

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
    """Web addresses as they stand, the images of stores, of all else what `find` has. Raises UsageError at once."""
    if not any(is_web(text) or is_stored(text) for text in inputs):
        return find(inputs)
    return chain.from_iterable([_find(text, find) for text in inputs])


def _find(text: str, find: Callable[[Sequence[str]], Iterator[str]]) -> Iterable[str]:
    if is_stored(text):
        return find_stored_images(text)
    return [text] if is_web(text) else find([text])


def find_stored_images(url: str) -> list[str]:
    """The images at or below the URL of a store, by their suffix, in the order of names. Raises UsageError."""
    urls = find_stored(url)
    if urls == [url]:
        return urls
    below = len(url.rstrip("/")) + 1
    found = [each for each in urls if is_image_name(each) and not _hidden(each[below:])]
    if not found:
        raise UsageError(f"{url}: no image below this address; names are to end in .jpg, .png or their like")
    return found


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


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
        if is_stored(name) and not os.path.lexists(name):
            with open_stored(name) as stream:
                data = stream.read()
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
