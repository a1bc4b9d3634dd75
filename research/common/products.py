"""Drawn products: cartons, bottles, cans and pouches, dressed with crops of photos, gradients and drawn text."""

from __future__ import annotations

import cv2
import numpy as np

from research.common.cutouts import CUTOUT_SIZE, Image, Rng, crop_to_alpha

WORDS = [
    "FRESH",
    "MILK",
    "Cola",
    "natural",
    "500ml",
    "TEA",
    "Best",
    "juice",
    "1L",
    "NEW",
    "extra",
    "Crisp",
    "soap",
    "12",
    "pcs",
    "bio",
    "COFFEE",
    "original",
    "3+1",
]


def gradient(rng: Rng, height: int, width: int) -> Image:
    """A linear gradient between two colours in a random direction."""
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.add.outer(np.sin(angle) * np.linspace(-1, 1, height), np.cos(angle) * np.linspace(-1, 1, width))
    ramp = ((ramp - ramp.min()) / (np.ptp(ramp) + 1e-6))[..., None]
    return (first + (second - first) * ramp).astype(np.uint8)


def random_crop(rng: Rng, photo: Image, height: int, width: int, parts: tuple[float, float] = (0.25, 1)) -> Image:
    part = rng.uniform(*parts)
    h, w = (max(8, int(side * part)) for side in photo.shape[:2])
    y, x = rng.integers(0, photo.shape[0] - h + 1), rng.integers(0, photo.shape[1] - w + 1)
    return cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)


def draw_text(rng: Rng, image: Image, lines: int) -> None:
    height, width = image.shape[:2]
    for _ in range(lines):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        scale = rng.uniform(0.3, 1.1) * width / 120
        place = (int(rng.uniform(0, width * 0.5)), int(rng.uniform(height * 0.1, height)))
        cv2.putText(
            image,
            str(rng.choice(WORDS)),
            place,
            int(rng.integers(0, 8)),
            scale,
            colour,
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
        )


def label_art(rng: Rng, photos: list[Image], height: int, width: int) -> Image:
    """What is printed on a product: a plain ground or a photo, a panel of another, a few words."""
    art = gradient(rng, height, width)
    if rng.random() < 0.4:
        art = random_crop(rng, photos[rng.integers(len(photos))], height, width)
    if rng.random() < 0.3:
        art[:] = rng.integers(0, 256, 3)
    if rng.random() < 0.6:
        y0, y1 = sorted(rng.integers(0, height, 2))
        x0, x1 = (0, width) if rng.random() < 0.6 else sorted(rng.integers(0, width, 2))
        if y1 - y0 > 6 and x1 - x0 > 6:
            panel = gradient if rng.random() < 0.5 else None
            art[y0:y1, x0:x1] = (
                panel(rng, y1 - y0, x1 - x0)
                if panel
                else random_crop(rng, photos[rng.integers(len(photos))], y1 - y0, x1 - x0)
            )
    draw_text(rng, art, int(rng.integers(0, 5)))
    return art


def round_shading(rng: Rng, width: int) -> np.ndarray:
    """Brightness over the width of a cylinder, with a highlight somewhere left or right."""
    x = np.linspace(-1, 1, width)
    light = rng.uniform(-0.6, 0.6)
    shade = 0.45 + 0.6 * np.sqrt(np.clip(1 - (x - light * 0.5) ** 2 / 1.8, 0.05, 1))
    shade += rng.uniform(0, 0.5) * np.exp(-(((x - light) / 0.12) ** 2))
    return shade


def carton(rng: Rng, photos: list[Image]) -> Image:
    """A box seen from its front, a darker side and often a gable or a lighter top."""
    height, width = CUTOUT_SIZE, int(CUTOUT_SIZE * rng.uniform(0.3, 1.3))
    side, rise = int(width * rng.uniform(0, 0.5)), rng.uniform(-0.12, 0.12) * height
    top = int(height * rng.uniform(0.05, 0.25)) if rng.random() < 0.6 else 0
    canvas = np.zeros((height + top + 40, width + side + 10, 4), np.uint8)
    y = top + 15
    faces = [(label_art(rng, photos, height, width), 1.0, [(0, y), (width, y), (width, y + height), (0, y + height)])]
    if side > 6:
        faces.append(
            (
                label_art(rng, photos, height, side),
                rng.uniform(0.5, 0.85),
                [(width, y), (width + side, y + rise), (width + side, y + height + rise), (width, y + height)],
            )
        )
    if top:
        inset = rng.uniform(0, 0.25) * width
        faces.append(
            (
                label_art(rng, photos, 40, width),
                rng.uniform(0.8, 1.2),
                [
                    (inset, y - top),
                    (width + side - inset, y - top),
                    (width + side * 0.98, y + min(rise, 0) + 1),
                    (0, y + 1),
                ],
            )
        )
    if top and rng.random() < 0.4:  # a screw cap
        x, radius = int((width + side) * rng.uniform(0.3, 0.7)), int(width * rng.uniform(0.08, 0.18)) + 3
        cap = (*(int(c) for c in rng.integers(0, 256, 3)), 255)
        cv2.ellipse(canvas, (x, y - top // 2 - 2), (radius, min(radius, y - top // 2 - 3)), 0, 0, 360, cap, -1)
    for art, light, corners in faces:
        h, w = art.shape[:2]
        lit = np.clip(art * light, 0, 255).astype(np.uint8)
        matrix = cv2.getPerspectiveTransform(np.float32([(0, 0), (w, 0), (w, h), (0, h)]), np.float32(corners))
        face = np.dstack([lit, np.full((h, w), 255, np.uint8)])
        cv2.warpPerspective(face, matrix, canvas.shape[1::-1], canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return canvas


def turned(rng: Rng, photos: list[Image]) -> Image:
    """A bottle, can or jar: a profile of widths down the height, shaded round, with a label and a cap."""
    height = CUTOUT_SIZE
    width = int(height * rng.uniform(0.22, 0.75))
    kind = rng.choice(["bottle", "bottle", "can", "jar"])
    knots = {
        "bottle": (
            [0, 0.08, rng.uniform(0.15, 0.3), rng.uniform(0.35, 0.5), 0.95, 1],
            [rng.uniform(0.2, 0.45)] * 2 + [rng.uniform(0.25, 0.5), 1, 1, rng.uniform(0.85, 1)],
        ),
        "can": ([0, 0.05, 0.94, 1], [0.85, 1, 1, rng.uniform(0.8, 1)]),
        "jar": ([0, 0.15, 0.2, 0.3, 0.95, 1], [0.8, 0.8, 0.85, 1, 1, 0.9]),
    }[str(kind)]
    half = np.interp(np.linspace(0, 1, height), *knots) * width / 2
    body = np.empty((height, width, 3), np.uint8)
    body[:] = rng.integers(0, 256, 3) if rng.random() < 0.7 else rng.integers(170, 256, 3)
    y0, y1 = int(height * rng.uniform(0.25, 0.55)), int(height * rng.uniform(0.7, 1))
    y0 = int(height * 0.04) if kind == "can" else y0
    body[y0:y1] = label_art(rng, photos, y1 - y0, width)
    body[: int(height * rng.uniform(0.05, 0.16))] = rng.integers(0, 256, 3)
    body = np.clip(body * round_shading(rng, width)[None, :, None], 0, 255).astype(np.uint8)
    inside = np.abs(np.arange(width) - (width - 1) / 2)[None] <= half[:, None]
    bulge = (1 - np.linspace(-1, 1, width) ** 2) * width * rng.uniform(0, 0.1)
    inside &= np.arange(height)[:, None] <= height - 1 - bulge.max() + bulge[None]
    return np.dstack([body, inside.astype(np.uint8) * 255])


def pouch(rng: Rng, photos: list[Image]) -> Image:
    """A bag with crimped, slightly wavy outline."""
    height, width = CUTOUT_SIZE, int(CUTOUT_SIZE * rng.uniform(0.5, 1.0))
    art = label_art(rng, photos, height, width)
    folds = rng.uniform(0.6, 1.25, (5, 4)).astype(np.float32)
    light = cv2.resize(folds, (width, height), interpolation=cv2.INTER_CUBIC)
    art = np.clip(art * light[..., None], 0, 255).astype(np.uint8)
    wave = np.interp(np.linspace(0, 1, height), np.linspace(0, 1, 7), rng.uniform(0, 0.07, 7) * width)
    x = np.arange(width)[None]
    inside = (x >= wave[:, None]) & (x < width - wave[:, None])
    return np.dstack([art, inside.astype(np.uint8) * 255])


def make_product(rng: Rng, photos: list[Image]) -> Image:
    maker = (carton, turned, turned, pouch)[rng.integers(4)]
    product = maker(rng, photos)
    product[..., 3] = cv2.GaussianBlur(product[..., 3], (3, 3), 0)
    cropped = crop_to_alpha(product)
    return product if cropped is None else cropped
