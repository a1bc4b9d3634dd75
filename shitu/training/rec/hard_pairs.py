"""What an evaluation's vectors say beyond its metrics: how similar like and unlike are, and the pairs that mislead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shitu.training.rec.retrieval import Embedded, Integers, Pairs, Vectors, similarities

FINE = 400  # bins over all similarities that there can be


@dataclass(frozen=True)
class Nearest:
    """For each query (q,) the gallery row of its label that is nearest, the same of another label, -1 where there is
    none, and how similar they are.
    """

    same: Integers
    same_similarity: Vectors
    other: Integers
    other_similarity: Vectors


@dataclass(frozen=True)
class Spread:
    """How many pairs have which similarity. edges: (FINE + 1,); like, unlike: (FINE,) int64."""

    edges: NDArray[np.float64]
    like: Integers
    unlike: Integers


def compare_all(queries: Embedded, gallery: Embedded, *, block: int = 64) -> tuple[Nearest, Spread]:
    """Every query with every gallery row, but pairs of one label and id; of equals the first row is the nearest."""
    count, pairs = len(queries.vectors), Pairs(gallery.labels, gallery.ids)
    found = Nearest(
        np.full(count, -1), np.full(count, -np.inf, np.float32), np.full(count, -1), np.full(count, -np.inf, np.float32)
    )
    most = (
        max(1e-6, *(float(np.linalg.norm(each.vectors, axis=1).max(initial=0.0)) for each in (queries, gallery))) ** 2
    )
    edges = np.linspace(-most, most, FINE + 1)
    spread = Spread(edges, np.zeros(FINE, np.int64), np.zeros(FINE, np.int64))
    for start in range(0, count, block):
        part = queries.rows(slice(start, start + block))
        for row, similarity in enumerate(similarities(part.vectors, gallery.vectors)):
            same, own = pairs.of(part.labels, part.ids, row)
            bins = np.clip(((similarity + most) / (2 * most) * FINE).astype(np.int64), 0, FINE - 1)
            of_all, of_own, of_same = (np.bincount(each, minlength=FINE) for each in (bins, bins[own], bins[same]))
            np.add(spread.like, of_same, out=spread.like)
            np.add(spread.unlike, of_all - of_own - of_same, out=spread.unlike)
            place = start + row
            if len(same):
                found.same[place] = same[np.argmax(similarity[same])]
                found.same_similarity[place] = similarity[found.same[place]]
            similarity[same], similarity[own] = -np.inf, -np.inf
            best = int(np.argmax(similarity))
            if np.isfinite(similarity[best]):
                found.other[place], found.other_similarity[place] = best, similarity[best]
    return found, spread


def misled(found: Nearest, most: int) -> Integers:
    """Queries, at most `most`, by how much nearer another label is than their own; without either they are left out."""
    both = np.flatnonzero((found.same >= 0) & (found.other >= 0))
    gap = found.other_similarity[both] - found.same_similarity[both]
    order: Integers = both[np.argsort(-gap, kind="stable")]
    return order[:most]


def alike(found: Nearest, most: int, query_index: Integers, gallery_index: Integers, *, one_list: bool) -> Integers:
    """Queries, at most `most`, by how similar the nearest of another label is; of one list a pair comes once."""
    chosen: list[int] = []
    seen: set[tuple[int, int]] = set()
    for row in np.argsort(-found.other_similarity, kind="stable").tolist():
        if len(chosen) == most or found.other[row] < 0:
            break
        pair = int(query_index[row]), int(gallery_index[found.other[row]])
        key = (min(pair), max(pair)) if one_list else pair
        if key not in seen:
            seen.add(key)
            chosen.append(row)
    return np.array(chosen, np.int64)
