"""Whether another program has changed its gallery since it became one of ours: both lie in one folder from then on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from shitu.digest import sha256_of
from shitu.errors import GalleryError
from shitu.gallery.foreign import INDEX, PICKLE, YAML, ForeignStore
from shitu.gallery.read.items import Meta

log = logging.getLogger(__name__)
_TOLD: set[str] = set()  # what this process has said


def origin_of(store: ForeignStore) -> str:
    """Size, time and sha256 of each file that the store was read from, for `Meta.origin`. Raises GalleryError."""
    found = {path.name: [*_stamp(path), sha256_of(path)] for path in store.files()}
    if not store.is_current():
        raise GalleryError(f"{store.folder} was changed by another program meanwhile; run the same command again")
    return json.dumps(found)


def changed_since(folder: Path, meta: Meta) -> list[str]:
    """The names of the other program's files that are no longer those that were taken over.

    Only a file whose size or time differs is read. A file that is gone was put away on purpose.
    """
    try:
        recorded: dict[str, Any] = json.loads(meta.origin or "{}")
        known = {name: tuple(recorded[name]) for name in (INDEX, PICKLE, YAML) if name in recorded}
        known = {name: (size, time, digest) for name, (size, time, digest) in known.items()}
    except (ValueError, TypeError):
        return []
    changed = []
    for name, before in known.items():
        path = folder / name
        if path.is_file() and _stamp(path) != before[:2] and sha256_of(path) != before[-1]:
            changed.append(name)
    return changed


def sentence(folder: Path, changed: list[str]) -> str:
    """What that means, and what to do."""
    return (
        f"{' and '.join(changed)} in {folder} changed after shitu took the gallery over: what that program changed "
        f"is not searched. To keep shitu's entries, move {INDEX} and its id_map away; to take over the other program's "
        "anew, move gallery.json and gen-* away (what shitu changed is in these)"
    )


def tell_once(folder: Path, meta: Meta) -> None:
    """A warning, once per process and gallery, where the other program has changed its files."""
    if meta.uid not in _TOLD and (changed := changed_since(folder, meta)):
        _TOLD.add(meta.uid)
        log.warning("%s", sentence(folder, changed))


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes, and time of the last change in nanoseconds."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns
