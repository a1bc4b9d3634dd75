"""A folder per class -> (path, class name) of every image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from shitu.datasets.boxed_image import clean_label, inner_path, upright_size
from shitu.datasets.rows import Row
from shitu.errors import ImageError, UsageError
from shitu.images.find import find_images
from shitu.images.read_ahead import map_ahead

FILES_AHEAD = 64


def read_folder(root: str | Path, depth: int = 1) -> Iterator[Row | ImageError]:
    """(path relative to `root`, class) in the order of names, or why an image was left out.

    The class is named by the first `depth` folders below `root`, `animals/cat` with 2; what lies deeper belongs to
    the same class. Only the header of each file is read: `shitu dataset check` decodes them whole.
    Raises UsageError if `root` is no folder or holds no image.
    """
    if not os.path.isdir(root):
        raise UsageError(f"{root}: no such folder; give the one that holds a folder per class")
    found = find_images([str(root)])  # raises UsageError if there is none
    return map_ahead(lambda path: _row(str(root), path, depth), found, FILES_AHEAD)


def _row(root: str, path: str, depth: int) -> Row | ImageError:
    try:
        name = inner_path(os.path.relpath(path, root).replace(os.sep, "/"))
        folders = name.split("/")[:-1]
        if len(folders) < depth:
            wanted = "a class folder" if depth == 1 else f"{depth} class folders"
            return ImageError(f"{name}: lies in no class; wanted {wanted} between {root} and the image")
        label = "/".join(clean_label(folder) for folder in folders[:depth])
        upright_size(path)
    except ImageError as error:
        return error
    return Row(name, label)
