"""How thoroughly a gallery's index must look to find what comparing with everything finds, measured on itself.

Queries are some of its own entries, each of which must find its neighbours, not itself: those lie as a new photo's do.
(Entries moved by the difference of two others were tried: they lie so near to one entry that it is found too easily.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.read.search import SearchSpace
from shitu.gallery.reader import FolderReader
from shitu.gallery.write.writer import FolderWriter

LEAST, MOST = 16, 4096  # of efSearch, nprobe and depth
AT_ONCE = 6  # queries of one photo
MANY_TIMES = 20


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
    numbers = some_ids(space, queries)
    asked = reader.vectors_of(numbers.tolist())
    own = [np.array([number]) for number in numbers]
    every = SearchSpace(space.entries, None).nearest(asked, neighbours + 1)
    truth = [np.setdiff1d(ids, one, assume_unique=True)[:neighbours] for (ids, _), one in zip(every, own, strict=True)]
    value = max(LEAST, neighbours)
    while True:
        set_knob(space, value)
        times, found = [], []
        for start in range(0, len(asked), AT_ONCE):
            begun = time.perf_counter()
            found += space.nearest(asked[start : start + AT_ONCE], neighbours + 1)
            times.append(time.perf_counter() - begun)
        hits = [np.isin(right, ids[: neighbours + 1]).mean() for right, (ids, _) in zip(truth, found, strict=True)]
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


def some_ids(space: SearchSpace, count: int) -> NDArray[np.int64]:
    """So many ids of entries at random, or as many as there are; GalleryError where two are wanting."""
    store, rng, ids = space.entries, np.random.default_rng(0), np.array([], np.int64)
    for _ in range(MANY_TIMES):  # many may have been removed
        ids = np.union1d(ids, store.located("id", np.unique(rng.integers(0, store.meta.next_id, 4 * count)))[0])
        if len(ids) >= count:
            break
    if len(ids) < 2:
        raise GalleryError("the gallery has too few entries to measure anything on")
    return np.asarray(rng.permutation(ids)[:count])


def remember(path: Path, knob: str, value: int) -> None:
    """Write what was found into the gallery; it stays through changes, until an index of another method is made."""
    with FolderWriter(path) as writer:
        writer.set_facts(**{{"efSearch": "ef_search"}.get(knob, knob): value})
