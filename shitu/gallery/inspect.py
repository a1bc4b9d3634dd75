"""What there is to say about a gallery, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shitu.digest import sha256_of
from shitu.errors import GalleryError
from shitu.gallery.foreign import ForeignStore
from shitu.gallery.origin import changed_since, sentence
from shitu.gallery.read.orphans import orphans
from shitu.gallery.read.store import BLOCK_ROWS, COMPACT, Store, crc32_rows, current_generation
from shitu.measure import IP

UNIT_TOLERANCE = 1e-3
NAMED = 5  # ids named in one sentence


def describe(path: Path, store: Store | ForeignStore) -> dict[str, Any]:
    """The facts of a gallery, ready for JSON."""
    meta = store.meta
    unindexed = store.db.count(meta.index_rows) if meta.index_file else 0
    return {
        "path": str(path),
        "format": store.format,
        "entries": store.count,
        "labels": store.db.count_labels(),
        "dimension": meta.dimension,
        "dist_type": meta.dist_type,
        "index_method": meta.index_method,
        "index": meta.index_made or None,
        "model_name": meta.model_name or None,
        "fingerprint": meta.fingerprint or None,
        "created": meta.created or None,
        "next_id": meta.next_id,
        "removed": meta.rows - store.count,
        "not_in_index_file": unindexed,
        "bytes": sum(file.stat().st_size for file in store.files()),
    }


def verify(path: Path, store: Store | ForeignStore) -> list[str]:
    """Each problem as a sentence with what to do; empty when the gallery is sound. Reads every byte."""
    if isinstance(store, ForeignStore):
        from shitu.gallery.inspect_foreign import verify_foreign

        return verify_foreign(store)
    problems = [f"{store.db.path}: SQLite says: {finding}." for finding in store.db.integrity()]
    if unlike := store.db.changed():
        problems.append(
            f"{_count(unlike, 'entries')} changed on disk since written (label, image, sha256 or box); rebuild the "
            "gallery from its images."
        )
    problems += _vector_problems(store)
    problems += _index_problems(store)
    if changed := changed_since(path, store.meta):
        problems.append(f"{sentence(path, changed)}.")
    left = orphans(path, current_generation(path))
    problems += [f"{item} belongs to no gallery; {COMPACT} or leave it to the next change." for item in left]
    return problems


def unchecked(store: Store | ForeignStore) -> list[str]:
    """What `verify` could not look at, a sentence each."""
    if isinstance(store, ForeignStore) or store.db.summed:
        return []
    return [
        "Labels, images, sha256s and boxes were not checked: this gallery was written before they had checksums, and "
        "gets them with its next change (such as `shitu gallery compact`)."
    ]


def _vector_problems(store: Store) -> list[str]:
    """Checksums, finiteness and, for IP, unit length of the live vectors, block by block."""
    problems: list[str] = []
    if len(np.unique(store.ids)) != len(store.ids):
        problems.append("an id occurs twice.")
    if len(np.unique(store.rows)) != len(store.rows):
        problems.append("two entries share one vector.")
    changed: list[int] = []
    infinite: list[int] = []
    other_length: list[int] = []
    with tqdm(total=len(store.ids), unit="vector", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(store.ids), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            block, ids = store.vectors[store.rows[part]], store.ids[part]
            changed += ids[crc32_rows(block) != store.crcs[part]].tolist()
            if not store.meta.measure.packed:
                finite = np.isfinite(block).all(axis=1)
                infinite += ids[~finite].tolist()
                norms = np.linalg.norm(block.astype(np.float64), axis=1)
                other_length += ids[finite & (np.abs(norms - 1) > UNIT_TOLERANCE)].tolist()
            bar.update(len(ids))
    if changed:
        problems.append(f"{_count(changed)} changed on disk since written; rebuild the gallery from its images.")
    if infinite:
        problems.append(f"{_count(infinite)} not finite; remove them.")
    if other_length and store.meta.measure is IP:
        problems.append(f"{_count(other_length)} not of unit length, so scores are no cosines; rebuild the gallery.")
    return problems


def _count(ids: list[int], what: str = "vector(s)") -> str:
    shown = ", ".join(map(str, ids[:NAMED])) + (" ..." if len(ids) > NAMED else "")
    return f"{len(ids)} {what} (id {shown})"


def _index_problems(store: Store) -> list[str]:
    """Whether the index file is the one that was written."""
    if not store.meta.index_file:
        return []
    try:
        index = store.read_index()
        digest = sha256_of(store.index_path)
    except FileNotFoundError:
        return [f"{store.index_path} is missing; {COMPACT}."]
    except GalleryError as error:
        return [f"{error}."]
    if digest != store.meta.index_sha256:
        return [f"{store.index_path} is not what was written (its sha256 differs); {COMPACT}."]
    if index is None:
        return []
    covered, inside = store.rows < store.meta.index_rows, np.isin(store.ids, index.ids())
    missing, twice = int((covered & ~inside).sum()), int((~covered & inside).sum())
    problems = [f"{missing} entries are missing from {store.index_path}; {COMPACT}."] if missing else []
    if twice:
        problems.append(f"{twice} entries are in {store.index_path} and said not to be; {COMPACT}.")
    return problems
