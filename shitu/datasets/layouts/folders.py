"""A folder per class, perhaps below `train`: AliProducts, LogoDet-3K, bird400, food-101, fruits-262 and their kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from shitu.datasets.layouts.find import LayoutError, find, folders_in, listing, relative
from shitu.datasets.rows import Row
from shitu.errors import UsageError
from shitu.images.find import find_images, is_image_name


def read_class_folders(root: Path, *candidates: str, depth: int = 1) -> Iterator[Row]:
    """Every image below the first of `candidates` that holds folders with images; '.' is the folder itself.

    With depth 2 the class is `animals/cat`. Images are known by their suffix; none is opened. Raises LayoutError.
    """
    base = find(root, *candidates, accept=lambda folder: _holds_classes(folder, depth))
    return _rows(root, base, depth)


def _rows(root: Path, base: Path, depth: int) -> Iterator[Row]:
    for label in _classes(base, depth):
        for path in _images(base / label):
            yield Row(os.path.relpath(path, root).replace(os.sep, "/"), label)


def _classes(base: Path, depth: int) -> Iterator[str]:
    for name in folders_in(base):
        if depth == 1:
            yield name
        else:
            yield from (f"{name}/{inner}" for inner in _classes(base / name, depth - 1))


def _images(folder: Path) -> Iterator[str]:
    try:
        yield from filter(is_image_name, find_images([str(folder)]))
    except UsageError:
        return  # a class without an image


def _holds_classes(folder: Path, depth: int) -> bool:
    if not folder.is_dir():
        return False
    return any(any(map(is_image_name, os.listdir(folder / label))) for label in _classes(folder, depth))


def read_flowers(root: Path, split: str) -> Iterator[Row]:
    """104flowers as JPEG folders, `<split>/<class>/<id>.jpeg`; TFRecords are refused with the way to unpack them."""
    try:
        return read_class_folders(root, split, f"jpeg-512x512/{split}", f"jpeg-224x224/{split}")
    except LayoutError as error:
        records = next(root.rglob("*.tfrec"), None) if root.is_dir() else None
        if records is None:
            raise
        raise LayoutError(
            f"{root}: holds TFRecords ({relative(records, root)}); unpack them first, "
            f"`shitu dataset unpack {root} -o FOLDER`, and convert FOLDER"
        ) from error


def read_image_folder(root: Path, *candidates: str) -> Iterator[Row]:
    """As read_class_folders, for sets whose archive differs from copy to copy: `root` itself may hold the classes."""
    try:
        return read_class_folders(root, *candidates, ".")
    except LayoutError as error:
        names = ", ".join(f"{name}/" for name in candidates)
        raise LayoutError(
            f"{root}: wanted a folder per class with images in it, here or in {names}; found {listing(root)}"
        ) from error
