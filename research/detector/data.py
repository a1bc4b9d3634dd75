"""Training pictures for the mainbody detector: labelled photos, mosaics of them, and composites made on the fly.

Scenes are drawn in an aspect ratio of their own and then squashed to a square, as the pipeline squashes photos.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset

from research.common.cutouts import Image, Rng
from research.common.products import gradient, random_crop
from research.common.scene import Scene, hold, levels, transformed
from research.detector.rooms import labelled_photo, mosaic, mosaic_of_many, photo_of_many, room, squash
from research.detector.sources import Picture, Sources

EARLY, LATE = (-64, -32, 0), (-32, 0, 32)  # pixels more than the size that is trained for
PARTLY = 0.5  # what background counts in photos of one main thing, which show others that nobody boxed
ROOMS = 0.86  # up to which draw of `sample` scenes are rooms
TINY = 5  # pixels: a box of a shorter side counts neither way


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
        others = sources.real if rng.random() < 0.4 else sources.things
        pool = sources.products if rng.random() < products else others
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
                product, repeats = pool[rng.integers(len(pool))], int(rng.integers(1, 6))
                size = tall * rng.uniform(0.7, 1.0) / max(product.shape[:2])
            cutout = transformed(rng, product, int(product.shape[1] * size), int(product.shape[0] * size), 0)
            scene.paste(cutout, x, floor - cutout.shape[0] + 2, 0.4 if rng.random() < 0.5 else 0)
            x += int(cutout.shape[1] * rng.uniform(0.85, 1.12)) + 1
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


def sample(rng: Rng, sources: Sources, size: int) -> Picture:
    """One square training picture."""
    kind = rng.random()
    if kind < 0.42:
        picture = photo_of_many(rng, sources)
    elif kind < 0.54:
        picture = mosaic_of_many(rng, sources, size)
    elif kind < 0.74:
        picture = all_wanted(*labelled_photo(rng, sources), PARTLY)
    elif kind < 0.79:
        picture = all_wanted(*mosaic(rng, sources, size), PARTLY)
    else:
        height = int(size * rng.uniform(0.85, 1.1))
        width = int(height * np.exp(rng.uniform(-0.5, 0.5)))
        scene = _scene(rng, sources, kind, height, width)
        picture = all_wanted(scene.image, scene.boxes(), PARTLY if kind < ROOMS else 1.0)
    image, boxes = squash(rng, picture.image, picture.boxes, size, size)
    if rng.random() < 0.5:
        image, boxes = image[:, ::-1], boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [size, 0, size, 0]
    image = distorted(rng, np.ascontiguousarray(image))
    tiny = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=size) < TINY
    return Picture(image, boxes.astype(np.float32), picture.crowd | tiny, picture.background)


def all_wanted(image: Image, boxes: np.ndarray, background: float) -> Picture:
    return Picture(image, boxes, np.zeros(len(boxes), bool), background)


def _scene(rng: Rng, sources: Sources, kind: float, height: int, width: int) -> Scene:
    """A composite of the kind drawn in `sample`."""
    if kind < ROOMS:
        return room(rng, sources, height, width)
    if kind < 0.91:
        scene = Scene(background(rng, sources, height, width))
        scatter(rng, scene, sources, int(rng.integers(1, 4)) if rng.random() < 0.4 else int(rng.integers(4, 11)))
        return scene
    if kind < 0.945:
        return held_product(rng, sources, height, width)
    scene = shelf(rng, sources, height, width)
    if rng.random() < 0.2:
        scatter(rng, scene, sources, 1)
    return scene


class Batches(IterableDataset):
    """Endless batches: images [B, 3, S, S] uint8 RGB, boxes [B, G, 4], which of these are wanted and which are crowds
    [B, G], and what background counts [B]. S is `size` and one of EARLY until `late` (as time.time() tells), then of
    LATE."""

    def __init__(self, sources: Sources, batch: int, seed: int, *, size: int, late: float):
        super().__init__()
        self.sources, self.batch, self.seed, self.size, self.late = sources, batch, seed, size, late

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        cv2.setNumThreads(0)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            size = self.size + int(rng.choice(EARLY if time.time() < self.late else LATE))
            pictures = [sample(rng, self.sources, size) for _ in range(self.batch)]
            most = max(1, *(len(one.boxes) for one in pictures))
            truth = torch.zeros(self.batch, most, 4)
            wanted, crowd = (torch.zeros(self.batch, most, dtype=torch.bool) for _ in range(2))
            for i, one in enumerate(pictures):
                count = len(one.boxes)
                truth[i, :count] = torch.from_numpy(one.boxes)
                crowd[i, :count] = torch.from_numpy(one.crowd)
                wanted[i, :count] = ~crowd[i, :count]
            images = np.stack([one.image for one in pictures])[..., ::-1].transpose(0, 3, 1, 2)
            background = torch.tensor([one.background for one in pictures])
            yield torch.from_numpy(np.ascontiguousarray(images)), truth, wanted, crowd, background
