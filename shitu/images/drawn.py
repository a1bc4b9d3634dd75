"""Pictures that shitu drew itself: found beside the photos, they are no photos."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from shitu.errors import UsageError
from shitu.images.find import find_images

MARK = b"annotated by shitu"  # in a comment before the pixels
log = logging.getLogger("shitu")


def is_drawn(path: str | Path) -> bool:
    """Whether a file carries the mark; one that cannot be read does not, nor what is no file: a pipe never answers."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as stream:
            return MARK in stream.read(4096)
    except OSError:
        return False


def find_photos(inputs: Iterable[str], output_dir: str | None = None) -> Iterator[str]:
    """As find_images; of folders and patterns without pictures that shitu drew, and without what `output_dir` holds.

    A file that is named itself is taken, with a warning, and so is `output_dir` where it is what was named. Raises
    UsageError as find_images, and at the end of an input of which nothing remains.
    """
    found = [(text, find_images([text])) for text in inputs]
    if not found:
        find_images([])
    return chain.from_iterable(
        _named(paths) if os.path.lexists(text) and not os.path.isdir(text) else _others(text, paths, output_dir)
        for text, paths in found
    )


def _named(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if is_drawn(path):
            log.warning("%s: shitu drew boxes and names into it; a gallery is better off with the photo itself", path)
        yield path


def _others(text: str, paths: Iterable[str], output_dir: str | None) -> Iterator[str]:
    own = _below(text, output_dir)
    kept = passed = 0
    for path in paths:
        if (own and os.path.abspath(path).startswith(own)) or is_drawn(path):
            passed += 1
            continue
        kept += 1
        yield path
    if passed:
        log.info("%s: %d of shitu's own pictures passed over", text, passed)
    if passed and not kept:
        raise UsageError(f"{text}: holds only pictures that shitu drew itself; name a folder with photos")


def _below(text: str, output_dir: str | None) -> str:
    """The start of the paths in `output_dir`; "" where it does not lie below the folder or pattern."""
    if not output_dir:
        return ""
    root = text if os.path.isdir(text) else os.path.dirname(re.split(r"[*?\[]", text)[0])
    above, own = (os.path.join(os.path.abspath(path), "") for path in (root, output_dir))
    return own if own.startswith(above) and own != above else ""
