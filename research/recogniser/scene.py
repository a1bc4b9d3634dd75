"""Photos of a product as a phone takes them: in a hand before a shelf, on a shelf among its like, or a packshot."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from research.common.cutouts import Image, Rng
from research.common.scene import Scene, hold
from research.recogniser.designs import turn
from research.recogniser.views import Product, view

STORED = 256  # pixels a side of a written picture, squashed as the pipeline squashes


@dataclass(frozen=True)
class Places:
    """Backgrounds: shelves composed beforehand, shop photos with something held in the middle, other photos."""

    shelves: list[Image]
    shops: list[Image]
    photos: list[Image]


def shelf(rng: Rng, products: list[Product], photos: list[Image]) -> Image:
    """Three rows or so of products side by side, each several times, (480, 480, 3), a bit out of focus."""
    side = 480
    ground = photos[int(rng.integers(len(photos)))]
    image = np.clip(cv2.blur(cv2.resize(ground, (side, side)), (41, 41)) * rng.uniform(0.3, 0.8), 0, 255).astype(
        np.uint8
    )
    scene = Scene(image)
    rows = int(rng.integers(2, 5))
    for row in range(rows):
        floor, x = int((row + 0.95) * side / rows), int(rng.integers(-40, 10))
        cv2.rectangle(
            image, (0, floor - 4), (side, floor + int(side * 0.03)), tuple(int(v) for v in rng.integers(60, 240, 3)), -1
        )
        while x < side:
            product = products[int(rng.integers(len(products)))]
            cut = view(rng, product, rng.normal(0, 0.15), 0.1, 0.0)
            scale = side / rows * rng.uniform(0.65, 0.85) / cut.shape[0]
            cut = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            for _ in range(int(rng.integers(1, 5))):
                scene.paste(cut, x, floor - cut.shape[0] - 4 + int(rng.integers(0, 3)), 0.25)
                x += int(cut.shape[1] * rng.uniform(0.9, 1.05))
    return camera(rng, scene.image, 0.6)


def background(rng: Rng, places: Places, height: int, width: int) -> tuple[Image, str]:
    """A part of a place, (height, width, 3), and which kind it is of; shops come whole."""
    kind = str(rng.choice(["shelf", "shop", "photo", "plain"], p=[0.4, 0.2, 0.27, 0.13]))
    if kind == "shop" and places.shops:
        photo = places.shops[int(rng.integers(len(places.shops)))]
        return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), kind
    if kind == "plain":
        image = np.empty((height, width, 3), np.float32)
        image[:] = rng.uniform(120, 250, 3) * 0.3 + rng.uniform(120, 250) * 0.7
        image *= np.linspace(rng.uniform(0.8, 1), rng.uniform(0.8, 1), height)[:, None, None]
        return image.astype(np.uint8), kind
    pool = places.photos if kind == "photo" else places.shelves
    photo = pool[int(rng.integers(len(pool)))]
    part = rng.uniform(0.5, 1)
    h, w = int(photo.shape[0] * part), int(photo.shape[1] * part)
    y, x = int(rng.integers(photo.shape[0] - h + 1)), int(rng.integers(photo.shape[1] - w + 1))
    image = cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3))
    return image, kind


def in_the_wild(rng: Rng, cutout: Image, places: Places, rolled: bool = True) -> Image:
    """A phone photo of a cut-out: one piece, in a hand or not, or a row of them; (256, 256, 3)."""
    height, width = (384, 288) if rng.random() < 0.65 else (288, 384)
    image, kind = background(rng, places, height, width)
    scene = Scene(np.ascontiguousarray(image))
    if rolled and rng.random() < 0.6:
        cutout = turn(cutout, float(rng.normal(0, 22)))
    fit = min(height / cutout.shape[0], width / cutout.shape[1])
    scale = fit * (rng.uniform(0.75, 1.05) if kind == "shop" else rng.uniform(0.5, 1.0))
    cutout = cv2.resize(
        cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    h, w = cutout.shape[:2]
    x = int(width / 2 - w / 2 + rng.normal(0, 0.06) * width)
    y = int(height / 2 - h / 2 + rng.normal(0, 0.05) * height)
    if rng.random() < 0.15:  # a row of the same on a shelf
        for step in (-2, -1, 1, 2):
            scene.paste(cutout, x + int(step * w * 0.98), y + int(rng.integers(-4, 5)), 0.25)
    scene.paste(cutout, x, y, float(rng.uniform(0, 0.45)))
    box = (x, y, x + w, y + h)
    if rng.random() < 0.5:
        hold(rng, scene)
    image = scene.image
    if rng.random() < 0.2:
        _occlude(rng, image, box, places)
    image = camera(rng, image)
    if rng.random() < 0.35:
        image = _cropped(rng, image, box)
    return cv2.resize(image, (STORED, STORED), interpolation=cv2.INTER_AREA)


def packshot(rng: Rng, cutout: Image) -> Image:
    """On white, or almost; more often upright in a square, sometimes cut tightly; (256, 256, 3)."""
    h, w = cutout.shape[:2]
    side = int(max(h, w) * rng.uniform(1.02, 1.3))
    height, width = (side, side) if rng.random() < 0.75 else (int(h * 1.06), int(w * 1.1))
    image = np.full((height, width, 3), int(rng.choice([255, 255, 255, 248, 240])), np.uint8)
    scene = Scene(image)
    scene.paste(cutout, (width - w) // 2, (height - h) // 2, float(rng.choice([0, 0, 0.2])))
    return cv2.resize(scene.image, (STORED, STORED), interpolation=cv2.INTER_AREA)


def _occlude(rng: Rng, image: Image, box: tuple[int, int, int, int], places: Places) -> None:
    """Something of another photo over a part of the product."""
    x0, y0, x1, y1 = box
    photo = places.photos[int(rng.integers(len(places.photos)))]
    w, h = int((x1 - x0) * rng.uniform(0.2, 0.6)) + 4, int((y1 - y0) * rng.uniform(0.15, 0.35)) + 4
    x, y = int(rng.uniform(x0 - w / 2, x1 - w / 2)), int(rng.uniform(y0, y1 - h / 2))
    x, y = max(x, 0), max(y, 0)
    part = cv2.resize(photo, (w, h))[: max(0, image.shape[0] - y), : max(0, image.shape[1] - x)]
    image[y : y + part.shape[0], x : x + part.shape[1]] = part


def _cropped(rng: Rng, image: Image, box: tuple[int, int, int, int]) -> Image:
    """The product's box with a little more or less round it, as a detector cuts it."""
    x0, y0, x1, y1 = box
    margin = rng.uniform(-0.06, 0.2, 4) * [x1 - x0, y1 - y0, x1 - x0, y1 - y0]
    left, top = max(0, int(x0 - margin[0])), max(0, int(y0 - margin[1]))
    part = image[top : int(y1 + margin[3]), left : int(x1 + margin[2])]
    return part if min(part.shape[:2]) >= 24 else image


def camera(rng: Rng, image: Image, strength: float = 1.0) -> Image:
    """Exposure, a slight cast, focus, movement, noise: what a phone does under shop light."""
    gain = rng.uniform(1 - 0.4 * strength, 1 + 0.3 * strength) * (1 + rng.normal(0, 0.04, 3))
    curve = rng.uniform(1 - 0.25 * strength, 1 + 0.3 * strength)
    values = 255 * np.clip(np.linspace(0, 1, 256)[:, None] ** curve * gain + rng.uniform(-0.06, 0.06), 0, 1)
    image = np.dstack([values[:, c].astype(np.uint8)[image[..., c]] for c in range(3)])
    if rng.random() < 0.3 * strength:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.8))
    if rng.random() < 0.12 * strength:
        length = int(rng.integers(3, 9))
        kernel = turn(np.dstack([np.eye(length, dtype=np.float32)] * 4), float(rng.uniform(0, 180)))[..., 0]
        image = cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-3))
    if rng.random() < 0.4:
        image = np.clip(image + rng.normal(0, rng.uniform(1, 7), image.shape), 0, 255).astype(np.uint8)
    return image
