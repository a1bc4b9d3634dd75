"""Pictures with many real objects: cut-outs of photos on whole photos, and mosaics of photos."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from research.common.cutouts import Image, Rng
from research.common.products import random_crop
from research.common.scene import Scene, transformed
from research.detector.sources import Labelled, Picture, Sources

WINDOW = 140  # pixels of a window's sides at least: photos of shelves are small
SIZES = (0.06, 0.6)  # of an object, in parts of the picture's shorter side


def labelled_photo(rng: Rng, sources: Sources) -> Labelled:
    """A photo with its boxes, 60 % of the time a window of it."""
    kind = rng.random()
    if kind < 0.09:
        image, boxes = _drawn(rng, sources.on_white)
        top, left = (int(side * rng.uniform(0, 0.3)) for side in image.shape[:2])
        image = cv2.copyMakeBorder(image, top, top, left, left, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        boxes = boxes + np.float32([left, top, left, top])
    elif kind < 0.31 and sources.by_hand:
        image, boxes = _drawn(rng, sources.by_hand)
    elif kind < 0.43 and sources.boxed:
        image, boxes = _drawn(rng, sources.boxed)
    else:
        image, boxes = _drawn(rng, sources.ecssd)
    return cropped(rng, image, boxes) if rng.random() < 0.6 else (image, boxes)


def _drawn(rng: Rng, photos: list[Labelled]) -> Labelled:
    return photos[rng.integers(len(photos))]


def cropped(rng: Rng, image: Image, boxes: np.ndarray) -> Labelled:
    """A random window of a labelled photo that cuts no box below 60 % of its area without losing it, nor is all box.

    Windows filled by their object taught the network to answer with the whole picture.
    """
    for _ in range(10):
        h, w = (int(side * rng.uniform(0.45, 1)) for side in image.shape[:2])
        x, y = int(rng.integers(0, image.shape[1] - w + 1)), int(rng.integers(0, image.shape[0] - h + 1))
        inside = np.clip(boxes - [x, y, x, y], 0, [w, h, w, h]).astype(np.float32)
        kept = _area(inside) / np.maximum(_area(boxes), 1)
        fills = _area(inside) > 0.8 * h * w
        if (kept > 0.6).any() and not (fills | (kept > 0.15) & (kept <= 0.6)).any():
            return image[y : y + h, x : x + w], inside[kept > 0.6]
    return image, boxes


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def squash(rng: Rng, image: Image, boxes: np.ndarray, width: int, height: int) -> Labelled:
    """Resize; half of the time with the bicubic interpolation that the pipeline uses, aliasing and all."""
    shrinks = image.shape[0] * image.shape[1] > width * height
    how = cv2.INTER_AREA if shrinks and rng.random() < 0.5 else cv2.INTER_CUBIC
    scale = np.float32([width / image.shape[1], height / image.shape[0]] * 2)
    return cv2.resize(image, (width, height), interpolation=how), boxes * scale


def photo_of_many(rng: Rng, sources: Sources) -> Picture:
    """A photo of many things, 75 % of the time a window of it; what is cut off for the most part counts neither way."""
    image, boxes, crowd, background = sources.many[rng.integers(len(sources.many))]
    if rng.random() < 0.25:
        return Picture(image, boxes, crowd, background)
    h, w = (int(side * np.exp(rng.uniform(np.log(max(0.35, min(1, WINDOW / side))), 0))) for side in image.shape[:2])
    x, y = int(rng.integers(0, image.shape[1] - w + 1)), int(rng.integers(0, image.shape[0] - h + 1))
    inside = np.clip(boxes - [x, y, x, y], 0, [w, h, w, h]).astype(np.float32)
    left = _area(inside) / np.maximum(_area(boxes), 1)
    there = left > 0
    crowd = (crowd | (left < 0.4))[there]
    return Picture(image[y : y + h, x : x + w], inside[there], crowd, background)


def mosaic_of_many(rng: Rng, sources: Sources, size: int) -> Picture:
    """Two, four or six windows of photos of many things side by side."""
    rows, columns = ((2, 2), (2, 2), (1, 2), (2, 1), (2, 3), (3, 2))[rng.integers(6)]
    ys, xs = (_cuts(rng, size, count) for count in (rows, columns))
    image, boxes, crowd, background = np.empty((size, size, 3), np.uint8), [], [], 1.0
    for y0, y1 in pairwise(ys):
        for x0, x1 in pairwise(xs):
            one = photo_of_many(rng, sources)
            image[y0:y1, x0:x1], moved = squash(rng, one.image, one.boxes, x1 - x0, y1 - y0)
            boxes.append(moved + np.float32([x0, y0, x0, y0]))
            crowd.append(one.crowd)
            background = min(background, one.background)
    return Picture(image, np.concatenate(boxes), np.concatenate(crowd), background)


def mosaic(rng: Rng, sources: Sources, size: int) -> Labelled:
    """Four to nine photos side by side: real objects at smaller sizes, several in a picture."""
    rows, columns = ((2, 2), (2, 2), (2, 3), (3, 2), (3, 3))[rng.integers(5)]
    ys, xs = (_cuts(rng, size, count) for count in (rows, columns))
    image, found = np.empty((size, size, 3), np.uint8), []
    for y0, y1 in pairwise(ys):
        for x0, x1 in pairwise(xs):
            part, boxes = squash(rng, *labelled_photo(rng, sources), x1 - x0, y1 - y0)
            image[y0:y1, x0:x1] = part
            found.append(boxes + np.float32([x0, y0, x0, y0]))
    return image, np.concatenate(found)


def _cuts(rng: Rng, size: int, count: int) -> list[int]:
    inner = (np.arange(1, count) + rng.uniform(-0.3, 0.3, count - 1)) / count
    return [0, *(int(size * cut) for cut in inner), size]


def room(rng: Rng, sources: Sources, height: int, width: int) -> Scene:
    """A photo with up to some fifteen cut-outs in it, singly or in groups of neighbours that cover each other.

    Like in a photo of a place, sizes differ widely, and what stands lower is mostly nearer, larger and in front.
    """
    if rng.random() < 0.8:
        photo, boxes = _drawn(rng, sources.ecssd if rng.random() < 0.7 or not sources.boxed else sources.boxed)
        scene = Scene(*squash(rng, photo, boxes, width, height))
        scene.image = scene.image.copy()
    else:
        scene = Scene(random_crop(rng, sources.scenery[rng.integers(len(sources.scenery))], height, width, (0.3, 1)))
    wanted = int(np.exp(rng.uniform(np.log(2), np.log(16))))
    depth = rng.uniform(0, 1.2) if rng.random() < 0.6 else 0.0
    largest = min(SIZES[1], 1.4 / np.sqrt(wanted))
    placed: list[tuple[float, float, float, Image]] = []
    while len(placed) < wanted:
        y = rng.uniform(0.15, 1.0)
        size = np.exp(rng.uniform(np.log(SIZES[0]), np.log(largest))) * np.exp(depth * (y - 0.6))
        placed += _group(rng, sources, rng.uniform(0, 1), y, size)
    placed.sort(key=lambda one: one[1] + rng.normal(0, 0.08))
    for x, y, size, thing in placed:
        zoom = size * min(height, width) / max(thing.shape[:2])
        stretch = rng.uniform(0.9, 1.1)
        angle = rng.normal(0, 5) if rng.random() < 0.8 else rng.uniform(-90, 90)
        cutout = transformed(rng, thing, int(thing.shape[1] * zoom * stretch), int(thing.shape[0] * zoom), angle)
        h, w = cutout.shape[:2]
        scene.paste(cutout, int(x * width - w / 2), int(y * height - h), rng.uniform(0.2, 0.6) * (rng.random() < 0.4))
    return scene


def _group(rng: Rng, sources: Sources, x: float, y: float, size: float) -> list[tuple[float, float, float, Image]]:
    """One object or, one time in three, two to five of one kind or of several side by side, foot on one line."""
    count = 1 if rng.random() < 0.66 else int(rng.integers(2, 6))
    first, alike = _object(rng, sources), rng.random() < 0.5
    found = []
    for _ in range(count):
        cutout = first if alike or not found else _object(rng, sources)
        found.append((x, y + rng.normal(0, 0.01), size * rng.uniform(0.85, 1.15), cutout))
        x += size * cutout.shape[1] / max(cutout.shape[:2]) * rng.uniform(0.5, 1.05)
    return found


def _object(rng: Rng, sources: Sources) -> Image:
    kind = rng.random()
    pool = sources.real if kind < 0.7 else sources.things if kind < 0.85 else sources.products
    return pool[rng.integers(len(pool))]
