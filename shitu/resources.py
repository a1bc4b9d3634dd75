"""Where the bundled models, configs and the demo lie: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def bundled(name: str) -> Path:
    """The path of `models`, `configs` or `demo`, wherever this copy of shitu keeps them."""
    installed = _PACKAGE / "_bundled" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def at_hand(path: str) -> str:
    """`path`, or what shitu brings under it (`demo/...`, `configs/...`) where nothing is there: after `pip install`."""
    first, _, below = os.path.normpath(path).partition(os.sep)
    if first not in ("demo", "configs") or os.path.lexists(path):
        return path
    found = bundled(first) / below
    return str(found) if found.exists() else path


def user_cache() -> Path:
    """The cache folder of the user for shitu."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "shitu"
