"""Where the expected file or folder lies in an unpacked archive, or an error that says what was wanted and found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from shitu.datasets.rows import natural_key
from shitu.errors import ConfigError

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
