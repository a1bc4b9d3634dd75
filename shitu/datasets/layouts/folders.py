"""Where things lie in an unpacked archive, and sets of a folder per class, perhaps below `train`, as food-101."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from shitu.datasets.rows import Row, natural_key
from shitu.errors import ConfigError, UsageError
from shitu.images.find import find_images, is_image_name

_SHOWN = 8
_DEEP = 4  # archives are often unpacked into a folder of their name


class LayoutError(ConfigError):
    """A folder that does not look like the set; `convert` adds where to get it."""


def find(root: Path, *candidates: str, accept: Callable[[Path], bool]) -> Path:
    """The first of `candidates` below `root`, or below the only folder in it, that `accept` agrees to.

    Raises LayoutError that lists the candidates and what lies in `root`.
    """
    for top in _tops(root):
        for candidate in candidates:
            path = top / candidate
            if accept(path):
                return path
    wanted = " or ".join(f"'{candidate}'" for candidate in candidates)
    raise LayoutError(f"{root}: wanted {wanted}; found {listing(root)}")


def find_folder(root: Path, *candidates: str) -> Path:
    return find(root, *(f"{candidate}/" for candidate in candidates), accept=Path.is_dir)


def find_file(root: Path, *candidates: str) -> Path:
    return find(root, *candidates, accept=Path.is_file)


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, in natural order; hidden ones and `__MACOSX` are passed over."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted((name for name in names if not name.startswith(".") and name != "__MACOSX"), key=natural_key)


def listing(folder: Path) -> str:
    """The first entries of a folder, for a message."""
    try:
        names = sorted(name + "/" * os.path.isdir(folder / name) for name in os.listdir(folder))
    except OSError as error:
        return f"that it cannot be read ({error.strerror})"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) if names else "an empty folder"


def relative(path: Path, root: Path) -> str:
    """`path` below `root` with `/`; empty for the root itself."""
    text = path.relative_to(root).as_posix()
    return "" if text == "." else text


def _tops(root: Path) -> Iterator[Path]:
    for _ in range(_DEEP):
        yield root
        names = folders_in(root) if root.is_dir() else []
        if len(names) != 1:
            return
        root = root / names[0]


def read_class_folders(root: Path, *candidates: str, depth: int = 1) -> Iterator[Row]:
    """Every image below the first of `candidates` that holds folders with images; '.' is the folder itself.

    With depth 2 the class is `animals/cat`. Images are known by their suffix; none is opened. Raises LayoutError.
    """

    def accept(folder: Path) -> bool:
        return folder.is_dir() and any(
            any(map(is_image_name, os.listdir(folder / label))) for label in _classes(folder, depth)
        )

    base = find(root, *candidates, accept=accept)
    return (
        Row(os.path.relpath(path, root).replace(os.sep, "/"), label)
        for label in _classes(base, depth)
        for path in _images(base / label)
    )


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
