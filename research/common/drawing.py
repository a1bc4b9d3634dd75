"""Textures, clutter and compositing for the demo photos (used by demo/scenes.py and demo/make.py).

Images are float32 RGB arrays, 0..255; sprites are float32 RGBA with colour premultiplied by alpha.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

W, H = 900, 675
Array = np.ndarray
Colour = tuple[int, int, int]
Rng = np.random.Generator


# --- textures ---------------------------------------------------------------------------------------------


def noise(rng: Rng, h: int, w: int, cell_y: float, cell_x: float) -> Array:
    """Smooth noise of about -1..1; unequal cells stretch it, which makes wood grain or folds."""
    grid = rng.standard_normal((max(2, int(h / cell_y) + 2), max(2, int(w / cell_x) + 2))).astype(np.float32)
    return cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC) * 0.5


def flat(h: int, w: int, colour: Colour) -> Array:
    return np.tile(np.array(colour, np.float32), (h, w, 1))


def plaster(rng: Rng, h: int, w: int, colour: Colour) -> Array:
    """A painted wall: faint blotches and a fine roller texture."""
    tone = 5 * noise(rng, h, w, 160, 200) + 2.5 * noise(rng, h, w, 3, 3)
    return flat(h, w, colour) + tone[..., None]


def wood(rng: Rng, h: int, w: int, colour: Colour, plank: int = 0) -> Array:
    """Horizontal grain; with `plank`, boards of that height, each of its own tone, with dark seams."""
    grain = 9 * noise(rng, h, w, 3, 170) + 8 * noise(rng, h, w, 18, 420) + 3 * noise(rng, h, w, 1.3, 40)
    out = flat(h, w, colour) + grain[..., None] * np.array([1.0, 0.9, 0.7], np.float32)
    for top in range(0, h, plank) if plank else ():
        out[top : top + plank] *= rng.uniform(0.9, 1.06)
        out[top : top + 2] *= 0.62
        joint = int(rng.integers(60, w - 60))
        out[top : top + plank, joint : joint + 2] *= 0.7
    return out


def lighten(img: Array, x: float, y: float, radius: float, gain: float) -> None:
    """A soft pool of light (gain > 0) or gloom (gain < 0) around (x, y), in place."""
    yy, xx = np.mgrid[0 : img.shape[0], 0 : img.shape[1]].astype(np.float32)
    img *= (1 + gain * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * radius**2)))[..., None]


def blend(img: Array, mask: Array, colour: Colour | Array, blur: float = 0.7) -> None:
    """Paint `colour` where `mask` (0..1) is set, its edges softened, in place."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur)[..., None]
    img += (np.asarray(colour, np.float32) - img) * soft


def polygon(points: list[tuple[float, float]] | Array) -> Array:
    mask = np.zeros((H, W), np.float32)
    cv2.fillPoly(mask, [np.int32(np.round(points))], 1.0, cv2.LINE_AA)
    return mask


def darken(img: Array, mask: Array, strength: float, blur: float, shift: tuple[int, int] = (0, 0)) -> None:
    """Lay a soft shadow of `mask`, moved by `shift`, over the picture, in place."""
    moved = cv2.warpAffine(mask, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), (W, H))
    img *= 1 - strength * cv2.GaussianBlur(moved, (0, 0), blur)[..., None]


# --- clutter: things that are in the picture but are no objects -------------------------------------------


Box = tuple[float, float, float, float, float]  # middle x and y, width, height, degrees


def rotated_box(box: Box) -> Array:
    cx, cy, w, h, angle = box
    return cv2.boxPoints(((cx, cy), (w, h), angle))


def paper(img: Array, box: Box, colour: Colour) -> None:
    """A sheet, napkin or note lying flat."""
    mask = polygon(rotated_box(box))
    darken(img, mask, 0.28, 5, (3, 5))
    blend(img, mask, colour)


def card(img: Array, text: str, pose: tuple[float, float, float], size: int = 18) -> None:
    """A small card with words on it: text is what a detector of objects must leave alone."""
    cx, cy, angle = pose
    font = ImageFont.load_default(size)
    lines = text.split("\n")
    w = int(max(font.getlength(line) for line in lines)) + size
    h = int(1.3 * size * len(lines)) + size // 2
    page = Image.new("RGBA", (w, h), (248, 244, 232, 255))
    pen = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        pen.text((size // 2, size // 5 + 1.3 * size * i), line, fill=(62, 58, 66), font=font)
    turned = np.asarray(page.rotate(-angle, Image.Resampling.BICUBIC, expand=True), np.float32)
    x, y = int(cx - turned.shape[1] / 2), int(cy - turned.shape[0] / 2)
    whole = np.zeros((H, W, 4), np.float32)
    whole[y : y + turned.shape[0], x : x + turned.shape[1]] = turned
    alpha = whole[..., 3] / 255
    darken(img, alpha, 0.28, 4, (2, 4))
    img += (whole[..., :3] - img) * alpha[..., None]


def cable(img: Array, points: list[tuple[int, int]], colour: Colour, width: int = 6) -> None:
    """A cord: a smooth curve through the control points (de Casteljau), with a shadow and a highlight."""
    curve = []
    for t in np.linspace(0, 1, 120):
        level = [np.array(p, np.float64) for p in points]
        while len(level) > 1:
            level = [(1 - t) * a + t * b for a, b in pairwise(level)]
        curve.append(level[0])
    mask, shine = np.zeros((H, W), np.float32), np.zeros((H, W), np.float32)
    cv2.polylines(mask, [np.int32(curve)], False, 1.0, width, cv2.LINE_AA)
    cv2.polylines(shine, [np.int32(curve) - 1], False, 0.35, max(1, width // 3), cv2.LINE_AA)
    darken(img, mask, 0.4, 4, (3, 5))
    blend(img, mask, colour)
    blend(img, shine, (255, 255, 255))


def stain(img: Array, cx: int, cy: int, radius: int, strength: float = 0.16) -> None:
    """The ring a cup left."""
    ring = np.zeros((H, W), np.float32)
    cv2.ellipse(ring, (cx, cy), (radius, radius), 0, 20, 330, 1.0, 5, cv2.LINE_AA)
    darken(img, ring, strength, 1.6)


def crumbs(img: Array, rng: Rng, heap: tuple[float, float, float], colour: Colour, count: int) -> None:
    """Specks around (x, y), the third number their spread."""
    mask = np.zeros((H, W), np.float32)
    for x, y in rng.normal(heap[:2], heap[2], (count, 2)):
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(1, 4)), 1.0, -1, cv2.LINE_AA)
    darken(img, mask, 0.4, 1.5, (1, 2))
    blend(img, mask, colour, 0.8)


def blurred_box(img: Array, box: tuple[int, int, int, int], colour: Colour, blur: float = 4) -> None:
    """A box at the back (left, base, width, height), out of focus: it tempts the detector."""
    x, base, w, h = box
    mask = np.zeros((H, W), np.float32)
    cv2.rectangle(mask, (x, base - h), (x + w, base), 1.0, -1)
    shade = np.linspace(1.08, 0.8, W, dtype=np.float32)[None, :, None]
    blend(img, mask * 0.8, np.asarray(colour, np.float32) * shade, blur)


# --- sprites ----------------------------------------------------------------------------------------------


def sprite(art: Image.Image, size: int, angle: float, gain: Array, rng: Rng) -> Array:
    """The drawing, cropped, `size` on its longer side, turned, seen a little askew, and lit by `gain`."""
    rgba = np.asarray(art.crop(art.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()), np.float32)
    rgba = np.dstack([rgba[..., :3] * rgba[..., 3:] / 255, rgba[..., 3]])
    k = size / max(rgba.shape[:2])
    rgba = cv2.resize(rgba, None, fx=k, fy=k, interpolation=cv2.INTER_AREA if k < 1 else cv2.INTER_CUBIC)
    h, w = rgba.shape[:2]
    source = np.float32([[0, 0], [w, 0], [w, h], [0, h]])
    skew = source + rng.uniform(-0.045, 0.045, (4, 2)).astype(np.float32) * size
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), -angle, 1)
    target = (skew @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    target -= target.min(0) - 2
    extent = np.ceil(target.max(0)).astype(int) + 3
    out = cv2.warpPerspective(rgba, cv2.getPerspectiveTransform(source, target), tuple(extent.tolist()))
    ys, xs = np.nonzero(out[..., 3] > 24)
    out = np.clip(out, 0, 255)[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    out[..., :3] *= gain
    return out


def contact(item: Array, x: int, y: int) -> Array:
    """Where a standing thing shades its board: a column the more, the nearer it comes to the board."""
    h, w = item.shape[:2]
    solid = item[..., 3] > 128
    lift = np.where(solid.any(0), np.argmax(solid[::-1], axis=0), h)
    mask = np.zeros((H, W), np.float32)
    mask[y + h - 9 : min(y + h + 7, H), x : x + w] = np.exp(-lift / 34.0)
    return mask


def place(img: Array, item: Array, x: int, y: int, lying: bool) -> list[int]:
    """Put the sprite's top left corner at (x, y) with its shadows; answers the box it fills."""
    h, w = item.shape[:2]
    x, y = min(max(x, 3), W - w - 3), min(max(y, 3), H - h - 3)
    alpha = np.zeros((H, W), np.float32)
    alpha[y : y + h, x : x + w] = item[..., 3] / 255
    if lying:
        darken(img, alpha, 0.42, 7, (6, 9))
        darken(img, alpha, 0.3, 2.5, (2, 3))
    else:
        darken(img, alpha, 0.22, 13, (16, -4))  # on the wall behind
        darken(img, contact(item, x, y), 0.6, 4.5, (4, 0))
    area = img[y : y + h, x : x + w]
    area *= 1 - item[..., 3:] / 255
    area += item[..., :3]
    return [x, y, x + w, y + h]


def develop(img: Array, rng: Rng) -> Image.Image:
    """What a small camera adds: vignette, a trace of blur, sensor noise."""
    lighten(img, W / 2, H / 2, 620, 0.12)
    img = cv2.GaussianBlur(img * 0.93, (0, 0), 0.6) + rng.normal(0, 2.0, (H, W, 1)).astype(np.float32)
    return Image.fromarray(np.clip(img, 0, 255).astype(np.uint8))
