"""A folder of photos -> entries of a gallery, without a list: labels from folders, or from the names of files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator

from shitu.build.list_file import Entry
from shitu.errors import UsageError
from shitu.images.drawn import find_photos
from shitu.object_store import is_stored
from shitu.sources.read import find_stored_images

FOLDERS, NAMES = "from-folders", "from-names"
log = logging.getLogger("shitu")
# What counts the pictures of a thing: `tea (2).jpg`, `tea_2.jpg`, `tea-02.jpg`.
_COUNT = re.compile(r"(?<=.)(?: ?\(\d+\)|[_-]\d+)$")


def read_photos(folder: str, labels: str | None, output_dir: str | None = None) -> list[Entry]:
    """An entry for each image below `folder`, its `image` relative to that; in the order of names.

    folder: may be the URL of one in an object store.
    labels: FOLDERS, the first folder below names the thing; NAMES, the file does; None: FOLDERS where there are such.
    Raises UsageError where there is no image, or none of them lies in a folder and FOLDERS is wanted.
    """
    paths = _below(folder, output_dir)
    inside = [path for path in paths if os.sep in path]
    if labels == NAMES or (labels is None and not inside):
        return list(_entries(folder, ((path, thing_of(path)) for path in paths)))
    if not inside:
        raise UsageError(
            f"{folder}: its pictures lie in no folders, one for each thing; make these, or: --labels {NAMES}"
        )
    if len(inside) < len(paths):
        beside = next(path for path in paths if os.sep not in path)
        log.warning(
            "%d of %d pictures passed over, since they lie in no folder of a thing: %s%s",
            len(paths) - len(inside),
            len(paths),
            os.path.join(folder, beside),
            " ..." if len(paths) - len(inside) > 1 else "",
        )
    return list(_entries(folder, ((path, path.split(os.sep)[0]) for path in inside)))


def _below(folder: str, output_dir: str | None) -> list[str]:
    if is_stored(folder):
        root = folder.rstrip("/") + "/"
        return [url.removeprefix(root) for url in find_stored_images(folder)]
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no such folder; give the one that holds a folder of pictures for each thing")
    return [os.path.relpath(path, folder) for path in find_photos([folder], output_dir)]


def thing_of(path: str) -> str:
    """The label that a file's name gives.

    >>> thing_of("Green tea.jpg"), thing_of("a/cola_2.png"), thing_of("cola (3).jpg"), thing_of("7up.jpg")
    ('Green tea', 'cola', 'cola', '7up')
    """
    return _COUNT.sub("", os.path.splitext(os.path.basename(path))[0])


def _entries(folder: str, pairs: Iterator[tuple[str, str]]) -> Iterator[Entry]:
    for number, (image, label) in enumerate(pairs, start=1):
        yield Entry(image, os.path.join(folder, image), label, number)
