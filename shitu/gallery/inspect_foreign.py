"""What is wrong with a gallery of PaddleClas or PaddleX, and what nobody can tell of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from shitu.errors import GalleryError
from shitu.gallery.foreign import ForeignStore
from shitu.measure import IP

log = logging.getLogger(__name__)

UNIT_TOLERANCE = 1e-3
NAMED = 5  # ids named in one sentence
PROGRAMS = {"paddleclas": "PaddleClas", "paddlex": "PaddleX"}


def verify_foreign(store: ForeignStore) -> list[str]:
    """Each problem as a sentence; says as a message what could not be checked. Opening has compared index and ids."""
    program, untold = PROGRAMS[store.format], []
    problems = [f"{_count(ids)} {what}" for what, ids in _labels(store) if ids]
    try:
        problems += _vectors(store)
    except GalleryError:
        untold.append("its vectors, which the index keeps compressed")
    untold += ["whether a vector or a label is the one that was written", "which model made it"]
    log.info("Not checked, since %s records nothing to check by: %s.", program, "; ".join(untold))
    return problems


def _labels(store: ForeignStore) -> Iterator[tuple[str, list[int]]]:
    empty = [item.id for item in store.db.items() if not item.label.strip()]
    yield "without a label; remove them, or name them in the id_map.", empty


def _vectors(store: ForeignStore) -> list[str]:
    """Finiteness and, for IP, unit length, block by block. Raises GalleryError where there are none to be had."""
    infinite: list[int] = []
    other_length: list[int] = []
    for ids, block in store.blocks():
        if not store.meta.measure.packed:
            norms = np.linalg.norm(block.astype(np.float64), axis=1)
            finite = np.isfinite(norms)
            infinite += ids[~finite].tolist()
            other_length += ids[finite & (np.abs(norms - 1) > UNIT_TOLERANCE)].tolist()
    problems = []
    if infinite:
        problems.append(f"{_count(infinite)} with NaN or infinite vectors, which are never found; build it anew.")
    if other_length and store.meta.measure is IP:
        problems.append(
            f"{_count(other_length)} with vectors that are not of unit length, so that their scores are no cosines; "
            "build it anew."
        )
    return problems


def _count(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:NAMED])) + (" ..." if len(ids) > NAMED else "")
    return f"{len(ids)} entr{'y' if len(ids) == 1 else 'ies'} (id {shown})"
