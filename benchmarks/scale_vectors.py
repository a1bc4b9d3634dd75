"""Vectors that look like the recogniser's, in any number: clusters of the spread and local dimension of real ones.

    shitu predict-rec --npy real.npy PHOTOS ... > real.txt
    python -m benchmarks.scale_vectors real.npy real.txt

compares the real ones (a class is a folder) with as many made. A class is made around a centre drawn with the mean and
covariance of the real classes' centres; its members lie at distances drawn from the real ones, in a subspace of its own
that LOCAL_DIMENSIONS differences between two real photos of one thing span: real directions, and the local dimension
that was measured (by the estimator of Levina and Bickel, 2004, over 10 neighbours).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEMBERS = 20  # photos of one thing
LOCAL_DIMENSIONS = 32
CLASSES_AT_ONCE = 512
MOST_DIRECTIONS = 8192


@dataclass(frozen=True)
class Likeness:
    """What was measured on real vectors: centres (c, d), directions (p, d) of unit length, radii (n,)."""

    mean: np.ndarray
    spread: np.ndarray  # (d, d): times a normal vector, a centre less the mean
    directions: np.ndarray
    radii: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, classes: np.ndarray) -> Likeness:
        rng = np.random.default_rng(0)
        centres, directions, radii = [], [], []
        for each in np.unique(classes):
            members = vectors[classes == each].astype(np.float64)
            if len(members) < 4:
                continue
            centre = members.mean(axis=0)
            centres.append(centre / np.linalg.norm(centre))
            radii.append(np.linalg.norm(members - centre, axis=1) * np.sqrt(len(members) / (len(members) - 1)))
            first, second = rng.permutation(members), rng.permutation(members)
            directions.append(first - second)
        every = np.concatenate(directions)
        norms = np.linalg.norm(every, axis=1)
        every = rng.permutation(every[norms > 0.1] / norms[norms > 0.1, None])[:MOST_DIRECTIONS]
        table = np.array(centres)
        values, axes = np.linalg.eigh(np.cov(table.T))
        spread = axes * np.sqrt(np.maximum(values, 0))
        return cls(table.mean(axis=0), spread, every.astype(np.float32), np.minimum(np.concatenate(radii), 0.98))

    def blocks(self, count: int, seed: int = 0, extra: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`count` unit vectors (n, d) float32, class after class, in blocks, each with (m, d) further members."""
        for number in range(-(-count // (MEMBERS * CLASSES_AT_ONCE))):
            yield self._block(count, number, seed, extra)

    def extras(self, count: int, numbers: set[int], extra: int, seed: int = 0) -> Iterator[np.ndarray]:
        """The further members of some of the blocks."""
        for number in sorted(numbers):
            yield self._block(count, number, seed, extra)[1]

    def _block(self, count: int, number: int, seed: int, extra: int) -> tuple[np.ndarray, np.ndarray]:
        start = number * CLASSES_AT_ONCE
        classes = min(CLASSES_AT_ONCE, -(-count // MEMBERS) - start)
        made = self._classes(np.random.default_rng([seed, number]), classes, MEMBERS + extra)
        inside = made[:, :MEMBERS].reshape(-1, made.shape[2])
        return inside[: count - start * MEMBERS], made[:, MEMBERS:].reshape(-1, made.shape[2])

    def _classes(self, rng: np.random.Generator, classes: int, members: int) -> np.ndarray:
        dimension = len(self.mean)
        centres = self.mean + rng.standard_normal((classes, dimension)) @ self.spread.T
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        picked = self.directions[rng.integers(0, len(self.directions), (classes, LOCAL_DIMENSIONS))]
        away = rng.standard_normal((classes, members, LOCAL_DIMENSIONS), dtype=np.float32) @ picked
        away /= np.linalg.norm(away, axis=2, keepdims=True)
        # One radius for a class, as a thing's photos are alike or not, and a tenth of it between them.
        radii = rng.choice(self.radii, (classes, 1, 1)) * rng.normal(1, 0.1, (classes, members, 1))
        radii = np.clip(radii, 0.05, 0.98).astype(np.float32)
        made = centres[:, None].astype(np.float32) * np.sqrt(1 - radii**2) + radii * away
        return np.asarray(made / np.linalg.norm(made, axis=2, keepdims=True), np.float32)


def describe(vectors: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Cosines to the nearest and tenth neighbour, how often the nearest is of the same class, dimensions."""
    products = vectors @ vectors.T
    np.fill_diagonal(products, -1)
    nearest = np.argpartition(-products, 10, axis=1)[:, :10]
    cosines = np.take_along_axis(products, nearest, 1)
    order = np.argsort(-cosines, axis=1)
    cosines, nearest = np.take_along_axis(cosines, order, 1), np.take_along_axis(nearest, order, 1)
    distances = np.sqrt(np.maximum(2 - 2 * cosines, 1e-12))
    apart = distances[distances[:, 0] > 0.03]
    local = 1 / np.log(apart[:, -1:] / apart[:, :-1]).mean(axis=1)
    values = np.linalg.eigvalsh(np.cov(vectors.T))
    low, middle, high = np.percentile(cosines[:, 0], (10, 50, 90))
    products[np.arange(len(products)), np.arange(len(products))] = np.nan
    return {
        "vectors": len(vectors),
        "classes": len(np.unique(classes)),
        "cosine to the nearest, 10 %": round(float(low), 3),
        "cosine to the nearest, median": round(float(middle), 3),
        "cosine to the nearest, 90 %": round(float(high), 3),
        "cosine to the tenth, median": round(float(np.median(cosines[:, 9])), 3),
        "nearest of the same class": round(float((classes[nearest[:, 0]] == classes).mean()), 3),
        "spread of cosines of any two": round(float(np.nanstd(products)), 3),
        "local dimension": round(float(np.median(local)), 1),
        "dimension of the whole (participation ratio)": round(float(values.sum() ** 2 / (values**2).sum()), 1),
    }


def read_real(npy: Path, names: Path) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.load(npy)
    return vectors, np.array([str(Path(line).parent) for line in names.read_text(encoding="utf-8").splitlines()])


def compared(vectors: np.ndarray, classes: np.ndarray) -> dict[str, dict[str, float]]:
    likeness = Likeness.of(vectors, classes)
    made = np.concatenate([inside for inside, _ in likeness.blocks(len(vectors))])
    return {
        "real": describe(vectors, classes),
        "made": describe(made, np.arange(len(made)) // MEMBERS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npy", type=Path)
    parser.add_argument("names", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(compared(*read_real(arguments.npy, arguments.names)), indent=1))


if __name__ == "__main__":
    main()
