"""A gallery as one HTML page: its vectors in two dimensions, with pictures, and the doubtful entries. Words: map.html.

Two dimensions by principal components: nothing is learned, equal galleries give equal pages, and a million vectors are
read twice, some thousands at a time. (t-SNE and UMAP draw neighbours nearer to each other, and invent groups; who is
whose neighbour is told here by the search itself.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shitu.errors import GalleryError
from shitu.evaluation.report import check_report_path, write_page
from shitu.evaluation.report_pictures import Pictures, Shown, cut, shown
from shitu.gallery import GalleryReader, Item
from shitu.results import Match

THUMBNAIL = 72  # pixels
NEIGHBOURS = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spot:
    """An entry at x, y (0 to 1, y downwards); `other`: its nearest neighbour where that has another label."""

    item: Item
    x: float
    y: float
    hue: int
    picture: Shown
    other: Match | None = None
    other_picture: Shown | None = None


def write_map(gallery: GalleryReader, path: Path, *, image_root: str = "", most: int = 2000) -> tuple[int, int]:
    """Write the page; how many entries it shows, at most `most`, spread evenly by id, and how many are doubtful.

    image_root: where the paths of the entries begin. Raises UsageError, GalleryError, ShituError (full disk).
    """
    check_report_path(path)
    if not len(gallery):
        raise GalleryError(f"{gallery.url} has no entries: there is nothing to show")
    chosen = np.unique(np.linspace(0, len(gallery) - 1, min(most, len(gallery))).astype(np.int64))
    ids, vectors = taken(gallery, chosen)
    places = flat(gallery, vectors)
    neighbours = gallery.search(vectors, NEIGHBOURS)
    items = gallery.lookup({*ids.tolist(), *(match.id for found in neighbours for match in found)})
    pictures = Pictures()

    def small(item: Item) -> Shown:
        whole = pictures.read(os.path.join(image_root, item.image)) if item.image else None
        if whole is None:
            return Shown(path=item.image)
        image = Image.fromarray(np.ascontiguousarray(cut(whole, item.box)))
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=3.0)
        return shown(image, item.label)

    labels = {label: place for place, label in enumerate(sorted({item.label for item in items.values()}))}
    spots = []
    for number, (x, y), found in zip(ids.tolist(), places.tolist(), neighbours, strict=True):
        item = items[number]
        other = doubt(item, found, items)
        beside = small(items[other.id]) if other else None
        hue = int(labels[item.label] * 137.5) % 360  # the golden angle: neighbours in the list differ
        spots.append(Spot(item, x, y, hue, small(item), other, beside))
    doubtful = sorted((spot for spot in spots if spot.other), key=lambda spot: -_nearness(gallery, spot))
    side = int(min(max(800, 60 * len(spots) ** 0.5), 4000))  # pixels
    write_page(path, "map.html", url=gallery.url, spots=spots, doubtful=doubtful, entries=len(gallery), side=side)
    return len(spots), len(doubtful)


def taken(gallery: GalleryReader, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Ids and vectors of the entries in these places."""
    kept: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
    start = 0
    for ids, vectors in gallery.blocks():
        inside = chosen[(chosen >= start) & (chosen < start + len(ids))] - start
        kept.append((ids[inside], np.asarray(vectors)[inside]))
        start += len(ids)
    return np.concatenate([ids for ids, _ in kept]), np.concatenate([vectors for _, vectors in kept])


def flat(gallery: GalleryReader, vectors: NDArray[Any]) -> Floats:
    """(n, 2) places from 0 to 1: the first two principal components of the whole gallery."""
    count, total, products = 0, 0.0, 0.0
    for block in _numbers(gallery, (each for _, each in gallery.blocks())):
        count, total, products = count + len(block), total + block.sum(axis=0), products + block.T @ block
    mean = np.asarray(total, np.float64) / count
    _, axes = np.linalg.eigh(products / count - np.outer(mean, mean))  # ascending
    (own,) = _numbers(gallery, iter([vectors]))
    places = (own - mean) @ axes[:, [-1, -2]] if len(mean) > 1 else np.repeat(own - mean, 2, axis=1)
    places *= np.where(np.abs(places.max(axis=0)) < np.abs(places.min(axis=0)), -1, 1)  # an axis has no direction
    low, high = places.min(axis=0), places.max(axis=0)
    scaled: Floats = (places - low) / np.maximum(high - low, 1e-12)
    return scaled


def _numbers(gallery: GalleryReader, blocks: Iterator[NDArray[Any]]) -> Iterator[Floats]:
    """Vectors as float64; packed bits as 0 and 1."""
    for block in blocks:
        yield (np.unpackbits(block, axis=1) if gallery.facts.measure.packed else block).astype(np.float64)


def doubt(item: Item, found: list[Match], items: dict[int, Item]) -> Match | None:
    """The nearest other picture where it has another label; two things in one photo are not compared."""
    for match in found:
        other = items.get(match.id)
        if (
            other is None
            or match.id == item.id
            or (item.sha256 and other.sha256 == item.sha256 and other.box != item.box)
        ):
            continue
        return match if match.label != item.label else None
    return None


def _nearness(gallery: GalleryReader, spot: Spot) -> float:
    return gallery.facts.measure.sign * spot.other.score if spot.other else 0.0
