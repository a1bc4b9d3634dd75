"""How thoroughly a gallery's index must look to find what comparing with everything finds, measured on itself.

Queries are made of its own entries: one of them, moved as far and in such a direction as another one lies from its
nearest neighbour. So they are about as far from what they should find as two photos of one thing are, and lie where no
entry lies; entries themselves would be found too easily, since a graph leads to each of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.read.search import SearchSpace
from shitu.gallery.reader import FolderReader
from shitu.gallery.write.writer import FolderWriter

LEAST, MOST = 16, 4096  # of efSearch, nprobe and depth
AT_ONCE = 6  # queries of one photo
MANY_ENTRIES = 50  # are asked for to find some that live


@dataclass(frozen=True)
class Tried:
    """A value of a setting, the share of true neighbours that it found, and the median ms of six queries together."""

    value: int
    recall: float
    milliseconds: float


def tuned(reader: FolderReader, wanted: float, *, neighbours: int = 1, queries: int = 300) -> Iterator[Tried]:
    """Try larger values, each twice the one before, until the recall of the nearest `neighbours` is as wanted.

    None where everything is compared exactly. Raises GalleryError.
    """
    space = reader.searched()
    if space.exact or space.index is None or not space.index.knob:
        return
    asked = queries_like(reader, space, queries)
    truth = [ids[:neighbours] for ids, _ in SearchSpace(space.entries, None).nearest(asked, neighbours)]
    value = max(LEAST, neighbours)
    while True:
        set_knob(space, value)
        times, found = [], []
        for start in range(0, len(asked), AT_ONCE):
            begun = time.perf_counter()
            found += space.nearest(asked[start : start + AT_ONCE], neighbours)
            times.append(time.perf_counter() - begun)
        hits = [np.isin(right, ids[:neighbours]).mean() for right, (ids, _) in zip(truth, found, strict=True)]
        tried = Tried(value, float(np.mean(hits)), float(np.median(times)) * 1e3)
        yield tried
        if tried.recall >= wanted or value >= min(MOST, space.index.most):
            return
        value = min(2 * value, space.index.most)


def set_knob(space: SearchSpace, value: int) -> None:
    """Set what decides how thoroughly the index looks."""
    assert space.index is not None
    knob = space.index.knob
    space.index.tune(*(value if knob == name else None for name in ("efSearch", "nprobe", "depth")))


def queries_like(reader: FolderReader, space: SearchSpace, count: int) -> NDArray[Any]:
    """So many vectors (n, width) such as a photo of something in the gallery could have. Raises GalleryError."""
    store, rng, measure = space.entries, np.random.default_rng(0), space.measure
    numbers = rng.permutation(np.unique(rng.integers(0, max(store.meta.next_id, 1), MANY_ENTRIES * count)))
    ids = np.array([], np.int64)
    for start in range(0, len(numbers), 4 * count):
        ids = np.concatenate([ids, store.located("id", np.sort(numbers[start : start + 4 * count]))[0]])
        if len(ids) >= 2 * count:
            break
    vectors = reader.vectors_of(rng.permutation(ids)[: 2 * count].tolist())
    here, others = vectors[: len(vectors) // 2], vectors[len(vectors) // 2 : len(vectors) // 2 * 2]
    found = [ids[:2] for ids, _ in space.nearest(others, 2)]
    near = reader.vectors_of([int(ids[-1]) for ids in found])
    made = here ^ others ^ near if measure.packed else here + (near - others)
    if not measure.packed:
        lengths = np.linalg.norm(made, axis=1)
        made = made[lengths > 0] / lengths[lengths > 0, None]
    if not len(made):
        raise GalleryError(f"{reader.url} has too few entries to measure anything on")
    return measure.checked(made, store.meta.dimension)


def remember(path: Path, knob: str, value: int) -> None:
    """Write what was found into the gallery; it stays through changes, until an index of another method is made."""
    with FolderWriter(path) as writer:
        writer.set_facts(**{{"efSearch": "ef_search"}.get(knob, knob): value})
