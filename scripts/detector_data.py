"""Training pictures for the mainbody detector: labelled photos, mosaics of them, and composites made on the fly.

Scenes are drawn in an aspect ratio of their own and then squashed to a square, as the pipeline squashes photos.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import torch
from detector_cutouts import Image, Rng
from detector_products import gradient, random_crop
from detector_scene import Scene, hold, levels, transformed
from detector_sources import Sources
from torch.utils.data import IterableDataset

SIZES = (288, 320, 352)
ECSSD_PHOTOS = 700


def background(rng: Rng, sources: Sources, height: int, width: int) -> Image:
    kind = rng.random()
    if kind < 0.2:
        return patchwork(rng, sources, height, width)
    if kind < 0.5:
        photo = random_crop(rng, sources.scenery[rng.integers(len(sources.scenery))], height, width, (0.15, 1))
        blur = int(rng.integers(2, 14)) * 2 + 1
        return cv2.blur(photo, (blur, blur))
    if kind < 0.68:
        return gradient(rng, height, width)
    image = np.empty((height, width, 3), np.float32)
    image[:] = rng.integers(20, 256, 3)
    for cells in (2, 6, 20, 60):  # coarse to fine noise: walls, stone, cloth, grain
        noise = rng.normal(0, rng.uniform(0, 22), (cells, max(1, int(cells * rng.uniform(0.2, 2))), 1))
        image += cv2.resize(noise.astype(np.float32), (width, height))[..., None]
    if rng.random() < 0.4:  # planks, tiles
        step = int(rng.integers(15, 90))
        image[::step] *= 0.7
        if rng.random() < 0.5:
            image[:, ::step] *= 0.7
    return np.clip(image, 0, 255).astype(np.uint8)


def patchwork(rng: Rng, sources: Sources, height: int, width: int) -> Image:
    """Clutter: many small bits of photos, more or less out of focus."""
    image = np.empty((height, width, 3), np.uint8)
    rows, columns = rng.integers(2, 7, 2)
    ys, xs = np.linspace(0, height, rows + 1).astype(int), np.linspace(0, width, columns + 1).astype(int)
    for y0, y1 in pairwise(ys):
        for x0, x1 in pairwise(xs):
            photo = sources.scenery[rng.integers(len(sources.scenery))]
            image[y0:y1, x0:x1] = random_crop(rng, photo, y1 - y0, x1 - x0, (0.15, 0.5))
    blur = int(rng.integers(1, 8))
    return cv2.blur(image, (blur, blur))


def scatter(rng: Rng, scene: Scene, sources: Sources, count: int, products: float = 0.45) -> None:
    """Paste objects of random kinds; the more there are, the smaller. Most stay clear of the others."""
    height, width = scene.image.shape[:2]
    scale = rng.uniform(0.35 if count > 1 else 0.5, 1.0) / np.sqrt(count)
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(count):
        pool = sources.products if rng.random() < products else sources.things
        cutout = pool[rng.integers(len(pool))]
        zoom = min(height, width) * np.clip(scale * rng.uniform(0.6, 1.4), 0.09, 0.95) / max(cutout.shape[:2])
        angle = rng.normal(0, 8) if rng.random() < 0.75 else rng.uniform(-180, 180)
        cutout = transformed(
            rng, cutout, int(cutout.shape[1] * zoom * rng.uniform(0.85, 1.15)), int(cutout.shape[0] * zoom), angle
        )
        h, w = cutout.shape[:2]
        for _ in range(8):
            x = int(rng.uniform(-0.25 * w, width - 0.75 * w))
            y = int(rng.uniform(-0.25 * h, height - 0.75 * h))
            overlap = max((_shared((x, y, x + w, y + h), other) for other in taken), default=0)
            if overlap < 0.25:
                break
        taken.append((x, y, x + w, y + h))
        scene.paste(cutout, x, y, rng.uniform(0.2, 0.7) if rng.random() < 0.5 else 0)


def _shared(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Overlap in parts of the smaller of the two boxes."""
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return overlap / max(1, smaller)


def shelf(rng: Rng, sources: Sources, height: int, width: int) -> Scene:
    """Boards with products closely side by side, often several of the same kind, as in a shop."""
    wall = background(rng, sources, height, width)
    scene = Scene(np.clip(wall * rng.uniform(0.35, 1), 0, 255).astype(np.uint8))
    boards = int(rng.integers(1, 4))
    pitch = height // boards
    colour = rng.integers(60, 256, 3)
    for row in range(boards):
        floor = pitch * (row + 1) - int(pitch * rng.uniform(0.02, 0.12))
        scene.image[floor : floor + int(pitch * rng.uniform(0.03, 0.15)) + 2] = colour
        x, product, repeats = int(rng.uniform(-0.3, 0.1) * pitch), None, 0
        tall = pitch * rng.uniform(0.55, 0.92)
        while x < width:
            if repeats == 0:
                pool = sources.products if rng.random() < 0.8 else sources.things
                product, repeats = pool[rng.integers(len(pool))], int(rng.integers(1, 4))
                size = tall * rng.uniform(0.7, 1.0) / max(product.shape[:2])
            cutout = transformed(rng, product, int(product.shape[1] * size), int(product.shape[0] * size), 0)
            scene.paste(cutout, x, floor - cutout.shape[0] + 2, 0.4 if rng.random() < 0.5 else 0)
            x += int(cutout.shape[1] * rng.uniform(0.95, 1.12)) + 1
            repeats -= 1
    return scene


def held_product(rng: Rng, sources: Sources, height: int, width: int) -> Scene:
    """One large object, mostly a product and mostly in a hand, before a shelf or clutter that is not asked for."""
    if rng.random() < 0.5:
        behind, blur = shelf(rng, sources, height, width).image, int(rng.integers(3, 14))
        scene = Scene(cv2.blur(behind, (blur, blur)))
    else:
        scene = Scene(patchwork(rng, sources, height, width))
    scatter(rng, scene, sources, 1, products=0.8)
    if rng.random() < 0.7:
        hold(rng, scene)
    return scene


def cropped(rng: Rng, image: Image, boxes: np.ndarray) -> tuple[Image, np.ndarray]:
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


def labelled_photo(rng: Rng, sources: Sources) -> tuple[Image, np.ndarray]:
    kind = (0, ECSSD_PHOTOS) if rng.random() < 0.88 else (ECSSD_PHOTOS, len(sources.photos))
    image, boxes = sources.photos[rng.integers(*kind)]
    if kind[0]:
        top, left = (int(side * rng.uniform(0, 0.3)) for side in image.shape[:2])
        image = cv2.copyMakeBorder(image, top, top, left, left, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        boxes = boxes + np.float32([left, top, left, top])
    return cropped(rng, image, boxes) if rng.random() < 0.6 else (image, boxes)


def squash(rng: Rng, image: Image, boxes: np.ndarray, width: int, height: int) -> tuple[Image, np.ndarray]:
    """Resize; half of the time with the bicubic interpolation that the pipeline uses, aliasing and all."""
    shrinks = image.shape[0] * image.shape[1] > width * height
    how = cv2.INTER_AREA if shrinks and rng.random() < 0.5 else cv2.INTER_CUBIC
    scale = np.float32([width / image.shape[1], height / image.shape[0]] * 2)
    return cv2.resize(image, (width, height), interpolation=how), boxes * scale


def mosaic(rng: Rng, sources: Sources, size: int) -> tuple[Image, np.ndarray]:
    """Four photos side by side: real objects at smaller sizes, several in a picture."""
    image, found = np.empty((size, size, 3), np.uint8), []
    cx, cy = (int(size * rng.uniform(0.35, 0.65)) for _ in range(2))
    for x0, y0, x1, y1 in ((0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size)):
        part, boxes = squash(rng, *labelled_photo(rng, sources), x1 - x0, y1 - y0)
        image[y0:y1, x0:x1] = part
        found.append(boxes + np.float32([x0, y0, x0, y0]))
    return image, np.concatenate(found)


def distorted(rng: Rng, image: Image) -> Image:
    """Hue, saturation, brightness, contrast; sometimes grain, blur or JPEG blocks."""
    if rng.random() < 0.6:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(rng.integers(-9, 10))) % 180
        hsv[..., 1] = levels(rng.uniform(0.5, 1.5), 0)[hsv[..., 1]]
        hsv[..., 2] = levels(rng.uniform(0.6, 1.4), rng.uniform(-20, 20))[hsv[..., 2]]
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    kind = rng.random()
    if kind < 0.1:
        return cv2.blur(image, (3, 3))
    if kind < 0.2:
        return np.clip(image + rng.normal(0, rng.uniform(2, 12), image.shape), 0, 255).astype(np.uint8)
    if kind < 0.35:
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])[1], 1)
    return image


def sample(rng: Rng, sources: Sources, size: int) -> tuple[Image, np.ndarray]:
    """One training picture (BGR, square) with its boxes."""
    kind = rng.random()
    if kind < 0.28:
        image, boxes = labelled_photo(rng, sources)
    elif kind < 0.38:
        image, boxes = mosaic(rng, sources, size)
    else:
        height = int(size * rng.uniform(0.85, 1.1))
        width = int(height * np.exp(rng.uniform(-0.5, 0.5)))
        if kind < 0.5:
            image, boxes = squash(rng, *labelled_photo(rng, sources), width, height)
            scene = Scene(image.copy(), boxes)
            scatter(rng, scene, sources, int(rng.integers(1, 4)))
        elif kind < 0.74:
            scene = Scene(background(rng, sources, height, width))
            count = int(rng.integers(1, 4)) if rng.random() < 0.4 else int(rng.integers(4, 11))
            scatter(rng, scene, sources, count)
        elif kind < 0.86:
            scene = held_product(rng, sources, height, width)
        else:
            scene = shelf(rng, sources, height, width)
            if rng.random() < 0.2:
                scatter(rng, scene, sources, 1)
        image, boxes = scene.image, scene.boxes()
    image, boxes = squash(rng, image, boxes, size, size)
    if rng.random() < 0.5:
        image, boxes = image[:, ::-1], boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [size, 0, size, 0]
    return distorted(rng, np.ascontiguousarray(image)), boxes.astype(np.float32)


class Batches(IterableDataset):
    """Endless batches: images [B, 3, S, S] uint8 RGB, boxes [B, G, 4] and which of these are real [B, G]."""

    def __init__(self, sources: Sources, batch: int, seed: int):
        super().__init__()
        self.sources, self.batch, self.seed = sources, batch, seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        cv2.setNumThreads(0)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            size = int(rng.choice(SIZES))
            pairs = [sample(rng, self.sources, size) for _ in range(self.batch)]
            most = max(1, *(len(boxes) for _, boxes in pairs))
            truth, real = torch.zeros(self.batch, most, 4), torch.zeros(self.batch, most, dtype=torch.bool)
            for i, (_, boxes) in enumerate(pairs):
                truth[i, : len(boxes)] = torch.from_numpy(boxes)
                real[i, : len(boxes)] = True
            images = np.stack([image for image, _ in pairs])[..., ::-1].transpose(0, 3, 1, 2)
            yield torch.from_numpy(np.ascontiguousarray(images)), truth, real
