"""Pictures of the card set: crops with one thing in them, and scenes with one to twelve.

Backgrounds are drawn (common/drawing.py's textures), pictures are uint8, BGR or BGRA as in common/cutouts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from research.common.cutouts import Image, Rng
from research.common.drawing import lighten, noise, plaster, wood
from research.common.products import gradient
from research.common.scene import Scene, hold, transformed

QUERY_SIDE = 168
Take = Callable[[Rng], Image]  # an object to paste, BGRA


# --- backgrounds ------------------------------------------------------------------------------------------


def bgr(image: np.ndarray) -> Image:
    """common/drawing.py's float32 RGB -> uint8 BGR."""
    return np.ascontiguousarray(np.clip(image[..., ::-1], 0, 255).astype(np.uint8))


def some_colour(rng: Rng, low: int = 60, high: int = 235) -> tuple[int, int, int]:
    return tuple(int(c) for c in rng.integers(low, high, 3))


def background(rng: Rng, height: int, width: int) -> Image:
    """A wall, a table top, tiles, cloth, a gradient or lights out of focus."""
    kind = rng.integers(6)
    if kind == 0:
        image = bgr(plaster(rng, height, width, some_colour(rng, 120)))
    elif kind == 1:
        image = bgr(wood(rng, height, width, tuple(np.array((190, 146, 104)) * rng.uniform(0.5, 1.2)), plank=70))
    elif kind == 2:
        image = bgr(tiles(rng, height, width))
    elif kind == 3:
        image = bgr(cloth(rng, height, width))
    elif kind == 4:
        image = gradient(rng, height, width)
    else:
        image = lights(rng, height, width)
    return image


def tiles(rng: Rng, height: int, width: int) -> np.ndarray:
    image = plaster(rng, height, width, some_colour(rng, 130))
    step = int(rng.integers(28, 70))
    for row, y in enumerate(range(0, height, step)):
        image[y : y + 2] *= 0.8
        for x in range((row % 2) * step // 2, width, step):
            image[y : y + step, x : x + 2] *= 0.82
            image[y : y + step, x : x + step] *= rng.uniform(0.94, 1.05)
    return image


def cloth(rng: Rng, height: int, width: int) -> np.ndarray:
    """Checked, woven, with folds."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch, bend = rng.uniform(14, 44), 4 * noise(rng, height, width, 90, 90)
    share = 0.5 * (np.floor((xs + bend) / pitch) % 2 + np.floor((ys + bend) / pitch) % 2)[..., None]
    image = np.float32(some_colour(rng, 150)) * (1 - share) + np.float32(some_colour(rng)) * share
    return image * (1 + 0.09 * noise(rng, height, width, 60, 130))[..., None]


def lights(rng: Rng, height: int, width: int) -> Image:
    """Blurred discs on a darker ground: a shop behind, out of focus."""
    image = gradient(rng, height, width) // 2
    for _ in range(int(rng.integers(15, 50))):
        middle = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(image, middle, int(rng.integers(4, max(6, width // 8))), some_colour(rng), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(4, 9))


# --- what light and camera do -----------------------------------------------------------------------------


def lit(rng: Rng, image: Image, strength: float = 1.0) -> Image:
    """Uneven light and a tint; `strength` 1 for crops, less for scenes."""
    shone = image.astype(np.float32)
    height, width = image.shape[:2]
    for _ in range(2):
        place = rng.uniform(0, (width, height))
        lighten(shone, *place, rng.uniform(0.3, 0.8) * width, rng.uniform(-0.5, 0.45) * strength)
    tint = 1 + rng.uniform(-0.14, 0.14, 3) * strength
    return np.clip(shone * tint * (1 + rng.uniform(-0.3, 0.15) * strength), 0, 255).astype(np.uint8)


def taken(rng: Rng, image: Image, blur: tuple[float, float]) -> Image:
    """Blur of the lens or of the hand, then noise of the sensor."""
    sigma = rng.uniform(*blur)
    if rng.random() < 0.25:
        length = max(1, round(2.5 * sigma))
        image = cv2.blur(image, (2 * length + 1, 1) if rng.random() < 0.5 else (1, 2 * length + 1))
    elif sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    noisy = image + rng.normal(0, rng.uniform(0.5, 7), image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


# --- crops ------------------------------------------------------------------------------------------------


def packshot(cutout: Image, side: int, ground: tuple[int, int, int]) -> Image:
    """The thing alone, upright, on a plain light ground."""
    scale = 0.86 * side / max(cutout.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=how)
    scene = Scene(np.full((side, side, 3), ground, np.uint8))
    scene.paste(small, (side - small.shape[1]) // 2, (side - small.shape[0]) // 2, 0)
    return scene.image


def turned(cutout: Image, angle: float) -> Image:
    """Rotated in the picture, nothing cut off."""
    h, w = cutout.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(h * sin + w * cos) + 1, int(h * cos + w * sin) + 1)
    matrix[:, 2] += (size[0] - w) / 2, (size[1] - h) / 2
    return cv2.warpAffine(cutout, matrix, size, flags=cv2.INTER_LINEAR)


def tilted(rng: Rng, cutout: Image, most: float) -> Image:
    """Seen a little from the side: each corner moved inwards by up to `most` of the side."""
    h, w = cutout.shape[:2]
    corners = np.float32([(0, 0), (w, 0), (w, h), (0, h)])
    inward = np.sign(np.float32([w, h]) / 2 - corners) * rng.uniform(0, most, (4, 2)) * [w, h]
    return cv2.warpPerspective(cutout, cv2.getPerspectiveTransform(corners, np.float32(corners + inward)), (w, h))


def query(rng: Rng, cutout: Image, others: Take, angle: float) -> Image:
    """A crop as a detector cuts it: never quite tight, neighbours looking in, now and then something in front."""
    side = QUERY_SIDE
    h, w = int(side * rng.uniform(0.9, 1.25)), side
    scene = Scene(background(rng, h, w))
    if rng.random() < 0.5:  # neighbours, behind and beside
        for _ in range(int(rng.integers(1, 4))):
            scene.paste(*beside(rng, others(rng), h, w), 0.3)
        scene.image = cv2.GaussianBlur(scene.image, (0, 0), rng.uniform(0.4, 3))
    thing = turned(cutout, rng.normal(0, angle))
    scale = rng.uniform(0.8, 1.02) * min(h / thing.shape[0], w / thing.shape[1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    thing = cv2.resize(thing, None, fx=scale, fy=scale, interpolation=how)
    x, y = ((room - size) * rng.uniform(0.1, 0.9) for room, size in ((w, thing.shape[1]), (h, thing.shape[0])))
    scene.paste(thing, int(x), int(y), rng.uniform(0.2, 0.6))
    covered = rng.random()
    if covered < 0.2:
        hold(rng, scene)
    elif covered < 0.45:  # a neighbour's edge before it
        scene.paste(*beside(rng, others(rng), h, w), 0.4)
    return taken(rng, lit(rng, scene.image, 0.7), (0, 1.1))


def beside(rng: Rng, cutout: Image, height: int, width: int) -> tuple[Image, int, int]:
    """Another thing and where to paste it, so that a part of it looks in from the left or right."""
    scale = height * rng.uniform(0.6, 1.1) / cutout.shape[0]
    cutout = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    seen = int(min(cutout.shape[1] * 0.9, width * rng.uniform(0.08, 0.3)))
    x = seen - cutout.shape[1] if rng.random() < 0.5 else width - seen
    return cutout, x, int(height * rng.uniform(0.2, 1.0)) - cutout.shape[0] // 2


# --- scenes -----------------------------------------------------------------------------------------------


def resized(rng: Rng, cutout: Image, longest: float, angle: float) -> Image:
    scale = longest / max(cutout.shape[:2])
    return transformed(rng, cutout, int(cutout.shape[1] * scale), int(cutout.shape[0] * scale), angle)


def single(rng: Rng, take: Take, height: int, width: int) -> Scene:
    """One thing, large or not, half of the time in a hand."""
    scene = Scene(background(rng, height, width))
    thing = resized(rng, take(rng), min(height, width) * rng.uniform(0.35, 0.85), rng.normal(0, 12))
    place = rng.uniform(0.1, 0.9, 2) * (width - thing.shape[1], height - thing.shape[0])
    scene.paste(thing, int(place[0]), int(place[1]), 0.5)
    if rng.random() < 0.5:
        hold(rng, scene)
    return scene


def table(rng: Rng, take: Take, height: int, width: int, count: int) -> Scene:
    """Things strewn about, the lower ones in front, some half hidden."""
    scene = Scene(background(rng, height, width))
    litter(rng, scene.image)
    spots = rng.uniform((0.1, 0.2), (0.9, 0.9), (count, 2))
    for x, y in sorted(spots.tolist(), key=lambda spot: spot[1]):
        size = min(height, width) * rng.uniform(0.6, 1.1) * (0.5 + 0.5 * y) / np.sqrt(count)
        thing = resized(rng, take(rng), size, rng.normal(0, 15))
        scene.paste(thing, int(x * width - thing.shape[1] / 2), int(y * height - thing.shape[0] * 0.8), 0.5)
    return scene


def shelf(rng: Rng, take: Take, height: int, width: int, count: int) -> Scene:
    """Boards with products side by side, often two of a kind."""
    scene = Scene((background(rng, height, width) * rng.uniform(0.4, 0.9)).astype(np.uint8))
    boards = 1 if count < 6 else 2 if count < 9 else 3
    pitch, colour = height // boards, some_colour(rng, 90)
    for row, share in enumerate(np.array_split(np.arange(count), boards)):
        floor = pitch * (row + 1) - int(0.1 * pitch)
        scene.image[floor : floor + int(0.08 * pitch) + 2] = colour
        things: list[Image] = []
        while len(things) < len(share):
            again = bool(things) and rng.random() < 0.35
            thing = things[-1] if again else resized(rng, take(rng), pitch * rng.uniform(0.5, 0.8), 0)
            things.append(thing)
        stand(rng, scene, things, floor, width)
    return scene


def stand(rng: Rng, scene: Scene, things: Sequence[Image], floor: int, width: int) -> None:
    """A row on a board; where it is too wide, things overlap."""
    gap = (width - sum(thing.shape[1] for thing in things)) / (len(things) + 1)
    x = max(gap, 4)
    for thing in things:
        scene.paste(thing, int(x + rng.uniform(-0.3, 0.3) * max(gap, 0)), floor - thing.shape[0] + 3, 0.4)
        x += thing.shape[1] + (gap if gap > 0 else (gap * (len(things) + 1) - 8) / max(1, len(things) - 1))


def litter(rng: Rng, image: Image) -> None:
    """What lies about and is no object: sheets of paper, lines, a stain."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        middle, size = rng.uniform(0, (width, height)), rng.uniform(0.1, 0.35, 2) * width
        corners = cv2.boxPoints((middle.tolist(), size.tolist(), rng.uniform(0, 90)))
        cv2.fillPoly(image, [corners.astype(np.int32)], some_colour(rng, 190, 250), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 3))):
        ends = rng.uniform(0, (width, height), (5, 2)).astype(np.int32)
        cv2.polylines(image, [ends], False, some_colour(rng), int(rng.integers(1, 4)), cv2.LINE_AA)
