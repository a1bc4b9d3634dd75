"""PaddleDetection's `_BASE_`: a file that is laid over others, which may have such below them, too.

Paths are relative to the file that names them; of several the later wins, and the file over all, as in ppdet's
workspace.py. Of strangers' files nothing else is read: only YAML, in the folder `configs` in which the file lies, or
below the file's own folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from shitu.errors import ConfigError

KEY = "_BASE_"
_MOST = 50  # files in all
_log = logging.getLogger("shitu")


def read_bases(
    file: Path, raw: dict[Any, Any], known: Collection[str], read: Callable[[Path], dict[Any, Any]]
) -> Iterator[tuple[Path, dict[Any, Any]]]:
    """(file, what it says) of all that is below `file`, lowest first; takes `_BASE_` out of `raw`.

    What a base says of keys that are not `known`, such as sections for other networks, is passed over, and told once.
    Raises ConfigError.
    """
    passed: dict[str, None] = {}
    left = [_MOST]

    def counted(base: Path) -> dict[Any, Any]:
        left[0] -= 1
        if left[0] < 0:
            raise ConfigError(f"{file} has more files below it by {KEY}; at most {_MOST} are read")
        return read(base)

    found = list(_below(file, raw, _root(file), (file.resolve(),), counted))
    for _, said in found:
        for key in [key for key in said if key not in known]:
            passed[str(key)] = None
            del said[key]
    if passed:
        _log.info("%s: what the files below it say of %s has no meaning here", file, ", ".join(passed))
    yield from found


def _below(
    file: Path, raw: dict[Any, Any], root: Path, above: tuple[Path, ...], read: Callable[[Path], dict[Any, Any]]
) -> Iterator[tuple[Path, dict[Any, Any]]]:
    named = raw.pop(KEY, None)
    if named is None:
        return
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise ConfigError(f"{KEY} in {file} is {named!r}; a list of paths is wanted, such as ['../runtime.yml']")
    for each in named:
        base = (file.parent / each).resolve()
        if Path(each).is_absolute() or base.suffix not in (".yml", ".yaml") or not base.is_relative_to(root):
            raise ConfigError(
                f"{KEY} in {file} names {each}; a relative path to a .yml or .yaml file is wanted that stays in {root}"
            )
        if base in above:
            raise ConfigError(f"{KEY}: {base} is laid over itself, by {file}; take it out there")
        said = read(base)
        yield from _below(base, said, root, (*above, base), read)
        yield base, said


def _root(file: Path) -> Path:
    """Where bases may lie."""
    folders = file.resolve().parents
    return next((folder for folder in folders if folder.name == "configs"), folders[0])
