"""How near two vectors are: IP, L2 and hamming, and everything that depends on which of them it is.

Vectors are (n, d) float32 of unit length for IP and L2, and (n, d / 8) uint8 packed bits for hamming; `dimension` is
d, in components or bits. No other file asks for the name of a measure (tests/test_house.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError

Vectors = NDArray[Any]


class Measure:
    """One way to compare; `IP`, `L2` and `HAMMING` below are all there are.

    sign: times this, a score is greater where it is nearer. best: the score of equal vectors; worst: no score is
    farther. packed: vectors are bits and scores whole numbers. threshold_key: the key of the configuration that says
    how near is near enough; score_name: what a score is called.
    """

    name: str
    sign: float
    best: float
    worst: float = math.inf
    packed = False
    dtype: np.dtype[Any] = np.dtype(np.float32)
    threshold_key = "score_thres"
    score_name: str

    @property
    def limit(self) -> float:
        """The nearness (sign x score) that nothing exceeds."""
        return self.sign * self.best + 0.0  # never -0.0

    def width(self, dimension: int) -> int:
        """Columns of stored vectors. Raises GalleryError where no such vectors can be stored."""
        return dimension

    def dimension(self, width: int) -> int:
        """The dimension of vectors with so many columns."""
        return width

    def checked(self, vectors: Vectors, dimension: int) -> Vectors:
        """The vectors as they are stored, (n, width); ValueError where they cannot be searched."""
        width, array = self.width(dimension), np.asarray(vectors)
        if array.ndim != 2 or array.shape[1] != width:
            raise ValueError(f"vectors have shape {array.shape}, the gallery wants (n, {width}) {self.dtype.name}")
        return self._sound(array)

    def _sound(self, array: Vectors) -> Vectors:
        array = np.ascontiguousarray(array, np.float32)
        squares = np.einsum("ij,ij->i", array, array)
        bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
        if len(bad):
            raise ValueError(f"vector {bad[0]} is zero or not finite (of {len(bad)} such vectors)")
        return array

    def score(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        """Scores (n,) float32 of one query with (n, width); each row's result is independent of the others.

        Products summed in float32 would round by position, and order equal vectors at random.
        """
        raise NotImplementedError

    def nearness(self, queries: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        """sign x score of (q, width) queries with (n, width) vectors, (q, n) float32, summed in float64."""
        raise NotImplementedError

    def rough(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        """sign x score of one query with (n, width), (n,), summed in float32, in any order."""
        raise NotImplementedError

    def cosine(self, score: float, dimension: int) -> float:
        """A score as the cosine it stands for, exactly or by its expectation."""
        raise NotImplementedError

    def accepts(self, score: float, threshold: float) -> bool:
        """Near enough: a similarity of at least, or a distance of at most, the threshold."""
        return self.sign * score >= self.sign * threshold

    def threshold(self, score_thres: float, hamming_radius: float) -> float:
        """The one of the two keys that holds for this measure."""
        return hamming_radius if self.packed else score_thres


class _Cosine(Measure):
    name, sign, best, worst, score_name = "IP", 1.0, 1.0, -1.0, "cosine similarity"

    def score(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        products = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        return np.asarray(products, np.float32)

    def nearness(self, queries: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        return np.asarray(queries.astype(np.float64) @ vectors.astype(np.float64).T, np.float32)

    def rough(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        return np.asarray(vectors @ query)

    def cosine(self, score: float, dimension: int) -> float:
        return score


class _SquaredDistance(Measure):
    name, sign, best, score_name = "L2", -1.0, 0.0, "squared distance"

    def score(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        differences = vectors.astype(np.float64) - query.astype(np.float64)
        return np.asarray((differences**2).sum(axis=1), np.float32)

    def nearness(self, queries: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        ours, theirs = queries.astype(np.float64), vectors.astype(np.float64)
        squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)
        return np.asarray(2 * (ours @ theirs.T) - squares, np.float32)

    def rough(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        differences = vectors - query
        return np.asarray(-np.einsum("ij,ij->i", differences, differences))

    def cosine(self, score: float, dimension: int) -> float:
        return 1.0 - score / 2.0  # of unit vectors


class _Hamming(Measure):
    name, sign, best, score_name = "hamming", -1.0, 0.0, "differing bits"
    packed, dtype, threshold_key = True, np.dtype(np.uint8), "hamming_radius"

    def width(self, dimension: int) -> int:
        if dimension % 8 or dimension <= 0:
            raise GalleryError(
                f"hamming needs a dimension that is a multiple of 8 bits, not {dimension}; use dist_type IP"
            )
        return dimension // 8

    def dimension(self, width: int) -> int:
        return width * 8

    def _sound(self, array: Vectors) -> Vectors:
        if array.dtype != np.uint8:
            raise ValueError(f"hamming wants packed bits as uint8, not {array.dtype}")
        return np.ascontiguousarray(array)

    def score(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        differing = np.unpackbits(np.bitwise_xor(vectors, query, dtype=np.uint8), axis=1)
        return np.asarray(differing.sum(axis=1), np.float32)

    def nearness(self, queries: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        # As -1 and 1, their product is dimension - 2 x differing bits.
        ours, theirs = (np.unpackbits(one, axis=1).astype(np.float64) * 2 - 1 for one in (queries, vectors))
        return np.asarray((ours @ theirs.T - ours.shape[1]) / 2, np.float32)

    def rough(self, query: Vectors, vectors: Vectors) -> NDArray[np.float32]:
        return -self.score(query, vectors)

    def cosine(self, score: float, dimension: int) -> float:
        return 1.0 - 2.0 * score / dimension


IP, L2, HAMMING = _Cosine(), _SquaredDistance(), _Hamming()
_ALL: dict[str, Measure] = {each.name: each for each in (IP, L2, HAMMING)}


def measure_of(dist_type: str) -> Measure:
    """The measure of a configuration's or a gallery's `dist_type`. Raises GalleryError for an unknown one."""
    if dist_type not in _ALL:
        raise GalleryError(f"dist_type {dist_type!r} is unknown: use {', '.join(list(_ALL)[:-1])} or {list(_ALL)[-1]}")
    return _ALL[dist_type]
