"""Entries of a gallery that say the same twice, and those that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shitu.gallery.base import GalleryReader, Item
from shitu.results import Match

NEIGHBOURS = 16  # looked at of each entry; of more copies than that, some are left for the next time


@dataclass(frozen=True)
class Duplicate:
    """`item` is as good as `of`, an entry with a lower id: of the same file and box, or as near as `cosine`.

    contradicts: the two have different labels, so that one of them is wrong and neither is one too many.
    """

    item: Item
    of: Item
    cosine: float
    same_file: bool

    @property
    def contradicts(self) -> bool:
        return self.item.label != self.of.label


def find_duplicates(gallery: GalleryReader, cosine: float) -> Iterator[Duplicate]:
    """By id, each entry that is a duplicate of one that stays, or contradicts one; some thousands in memory at a time.

    cosine: from which on two vectors count as the same picture; hamming and L2 as the cosines that they stand for.
    Raises GalleryError.
    """
    facts, removed = gallery.facts, set[int]()
    for ids, vectors in gallery.blocks():
        found = gallery.search(vectors, NEIGHBOURS)
        items = gallery.lookup({match.id for matches in found for match in matches} | set(ids.tolist()))
        for number, matches in zip(ids.tolist(), found, strict=True):
            near = ((match, facts.measure.cosine(match.score, facts.dimension)) for match in matches)
            pairs = [_pair(items, number, match, value, cosine) for match, value in near if match.id not in removed]
            kept = [pair for pair in pairs if pair is not None]
            best = min(kept, key=lambda pair: (pair.contradicts, not pair.same_file, -pair.cosine), default=None)
            if best is not None:
                if not best.contradicts:
                    removed.add(number)
                yield best


def _pair(items: dict[int, Item], number: int, match: Match, value: float, cosine: float) -> Duplicate | None:
    if match.id >= number or match.id not in items or number not in items:
        return None
    item, of = items[number], items[match.id]
    same_file = bool(item.sha256) and item.sha256 == of.sha256 and item.box == of.box
    one_photo = item.sha256 == of.sha256 and item.box != of.box  # two things in one photo
    near = value >= cosine and not (item.sha256 and one_photo)
    return Duplicate(item, of, round(float(np.clip(value, -1, 1)), 6), same_file) if same_file or near else None
