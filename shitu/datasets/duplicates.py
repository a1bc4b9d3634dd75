"""Which pictures are the same: by a digest of their pixels, whatever the files are called or packed in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.images.read import Picture

Digests = NDArray[np.uint64]
WORDS = 2  # 128 of SHA-256's bits: among a billion pictures two meet by chance with a probability of 1e-21


def pixel_digest(picture: Picture) -> NDArray[np.uint64]:
    """(2,) uint64 of the shape and the pixels."""
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return first_words(digest.digest())


def first_words(digest: bytes) -> NDArray[np.uint64]:
    """(2,) uint64, the first 128 bits."""
    return np.frombuffer(digest, np.uint64, WORDS)


def group_numbers(digests: Digests) -> NDArray[np.int64]:
    """(n, 2) -> (n,) the same number for the same digest, numbers being 0, 1, 2 ..."""
    if not len(digests):
        return np.empty(0, np.int64)
    order = np.lexsort(digests.T)
    changed = np.any(digests[order[1:]] != digests[order[:-1]], axis=1)
    numbers = np.empty(len(digests), np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(changed)])
    return numbers


def groups_of_several(numbers: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """The places, ascending, of every number that occurs more than once."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(numbers[order]) != 0])) if len(order) else order
    for places in np.split(order, starts[1:]):
        if len(places) > 1:
            yield places
