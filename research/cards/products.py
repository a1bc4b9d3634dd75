"""Drawn packages for the card set: products whose flavours differ in little, seen from any side.

Nothing here is shared with the drawings that the recogniser is trained on (recogniser/designs.py, recogniser/views.py):
other layouts, other lettering, another renderer. Pictures are uint8, BGR or BGRA as in common/cutouts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from research.common.cutouts import Image, crop_to_alpha

Colour = tuple[int, int, int]  # red, green, blue
FACE_WIDTH, CANVAS = 220, 320  # pixels
# width, height and depth of a package; round ones have no depth
SIZES = {
    "box": (1.0, 1.3, 0.4),
    "carton": (0.8, 1.6, 0.7),
    "can": (0.8, 1.35, 0),
    "bottle": (0.75, 1.9, 0),
    "bag": (1.0, 1.4, 0),
}
PROFILES = {  # height from the top, half width there
    "can": ((0, 0.03, 0.07, 0.95, 1), (0.9, 0.93, 1, 1, 0.92)),
    "bottle": ((0, 0.09, 0.1, 0.24, 0.4, 0.96, 1), (0.34, 0.34, 0.3, 0.42, 1, 1, 0.92)),
}
NECK = 0.38  # of a bottle's height, above its label
FINE_PRINT = (
    *("best before see lid", "keep cool and dry", "100 % recyclable", "net weight 330 g"),
    *("energy 180 kJ", "per serving", "made with care"),
)


@dataclass(frozen=True)
class Design:
    """One product; all but the flavour, its picture (BGRA) and mostly the colours is the same in its family."""

    brand: str
    kind: str
    flavour: str
    shape: str
    layout: int
    ground: Colour
    accent: Colour
    picture: Image

    @property
    def label(self) -> str:
        return f"{self.brand} {self.kind} {self.flavour}"


# --- what is printed on it --------------------------------------------------------------------------------


@cache
def font(number: int, size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font or Noto Sans CJK (of noto-cjk-sans-otc)."""
    if number:
        return ImageFont.truetype(str(files("noto_cjk_sans_otc") / "NotoSansCJK-Regular.ttc"), size)
    return ImageFont.load_default(size)


def readable_on(ground: Colour) -> Colour:
    return (250, 248, 240) if np.dot(ground, (0.3, 0.59, 0.11)) < 140 else (28, 26, 40)


def write(face: Pillow.Image, text: str, box: tuple[float, float, float, float], ink: Colour, number: int) -> None:
    """One line of text as large as fits into `box` (middle x and y, width, height, in parts of the face)."""
    width, height = box[2] * face.width, box[3] * face.height
    probe = font(number, 40).getbbox(text, anchor="mm")
    size = int(40 * min(width / (probe[2] - probe[0]), height / (probe[3] - probe[1])))
    place = (box[0] * face.width, box[1] * face.height)
    pen = ImageDraw.Draw(face)
    pen.text(place, text, ink, font(number, max(7, size)), anchor="mm", stroke_width=size // 22, stroke_fill=ink)


def face_height(design: Design) -> int:
    """Of the printed front, which goes half way round a round package and leaves a bottle's neck free."""
    width, height, _ = SIZES[design.shape]
    around = np.pi / 2 if design.shape in PROFILES else 1
    return int(FACE_WIDTH * height * (1 - NECK if design.shape == "bottle" else 1) / (width * around))


def front(design: Design) -> Image:
    """The face that one knows the product by, BGR."""
    face = Pillow.new("RGB", (FACE_WIDTH, face_height(design)), design.ground)
    pen, (w, h) = ImageDraw.Draw(face), face.size
    ink, on_accent = readable_on(design.ground), readable_on(design.accent)
    number = len(design.brand) % 2
    if design.layout == 0:  # bands at the top and the bottom
        pen.rectangle((0, 0, w, 0.26 * h), design.accent)
        pen.rectangle((0, 0.86 * h, w, h), design.accent)
        write(face, design.brand, (0.5, 0.13, 0.84, 0.13), on_accent, number)
        write(face, design.kind, (0.5, 0.33, 0.6, 0.05), ink, 0)
        show(face, design.picture, (0.5, 0.58), 0.62)
        write(face, design.flavour, (0.5, 0.93, 0.7, 0.06), on_accent, 1 - number)
    elif design.layout == 1:  # halves, cut aslant
        pen.polygon([(0, 0.62 * h), (w, 0.38 * h), (w, h), (0, h)], design.accent)
        write(face, design.brand, (0.5, 0.22, 0.9, 0.16), ink, number)
        write(face, design.flavour, (0.36, 0.4, 0.56, 0.06), ink, 1 - number)
        show(face, design.picture, (0.66, 0.66), 0.5)
        write(face, design.kind, (0.3, 0.91, 0.46, 0.05), on_accent, 0)
    elif design.layout == 2:  # a disc in the middle
        radius = min(0.4 * w, 0.29 * h)
        pen.ellipse((0.5 * w - radius, 0.5 * h - radius, 0.5 * w + radius, 0.5 * h + radius), design.accent)
        show(face, design.picture, (0.5, 0.5), 1.1 * radius / w)
        write(face, design.brand, (0.5, 0.12, 0.86, 0.11), ink, number)
        write(face, f"{design.kind} {design.flavour}", (0.5, 0.88, 0.84, 0.06), ink, 1 - number)
    else:  # stripes, the brand upright
        for x in np.arange(0.36, 1, 0.16):
            pen.rectangle((x * w, 0, (x + 0.06) * w, h), design.accent)
        upright = Pillow.new("RGB", (h, int(0.34 * w)), design.ground)
        write(upright, design.brand, (0.5, 0.5, 0.9, 0.7), ink, number)
        face.paste(upright.rotate(90, expand=True), (0, 0))
        show(face, design.picture, (0.68, 0.3), 0.5)
        pen.rectangle((0.36 * w, 0.62 * h, w, 0.8 * h), on_accent)
        write(face, design.flavour, (0.68, 0.68, 0.58, 0.06), design.accent, 1 - number)
        write(face, design.kind, (0.68, 0.76, 0.4, 0.04), design.accent, 0)
    return np.ascontiguousarray(np.asarray(face)[..., ::-1])


def show(face: Pillow.Image, picture: Image, middle: tuple[float, float], part: float) -> None:
    """Paste the picture, `part` of the face's width wide or high."""
    scale = part * face.width / max(picture.shape[:2])
    drawn = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    art = Pillow.fromarray(np.ascontiguousarray(drawn[..., [2, 1, 0, 3]]))
    at = (int(middle[0] * face.width - art.width / 2), int(middle[1] * face.height - art.height / 2))
    face.paste(art, at, art)


def side(design: Design, part: float) -> Image:
    """A side or the back: fine print and a bar code on the ground, `part` of the front's width wide."""
    face = Pillow.new("RGB", (max(20, int(FACE_WIDTH * part)), face_height(design)), design.ground)
    write(face, design.brand, (0.5, 0.1, 0.8, 0.08), readable_on(design.ground), len(design.brand) % 2)
    for row, words in enumerate(FINE_PRINT):
        write(face, words, (0.5, 0.24 + 0.055 * row, 0.86, 0.035), readable_on(design.ground), 0)
    pen, (w, h) = ImageDraw.Draw(face), face.size
    pen.rectangle((0.2 * w, 0.72 * h, 0.8 * w, 0.88 * h), (250, 250, 250))
    for bar, byte in enumerate(design.label.encode()[:20]):
        x = (0.23 + 0.027 * bar) * w
        pen.rectangle((x, 0.74 * h, x + (byte % 3) * w * 0.007, 0.86 * h), (20, 20, 20))
    return np.ascontiguousarray(np.asarray(face)[..., ::-1])


# --- how it looks from somewhere --------------------------------------------------------------------------


def view(design: Design, yaw: float, pitch: float) -> Image:
    """The package cut out (BGRA), turned by `yaw` and seen from above by `pitch`, both in degrees."""
    drawn = {"bag": _bag, "can": _round, "bottle": _round}.get(design.shape, _box)(design, np.deg2rad([yaw, pitch]))
    drawn[..., 3] = cv2.GaussianBlur(drawn[..., 3], (3, 3), 0)
    cropped = crop_to_alpha(drawn)
    if cropped is None:
        raise ValueError(f"{design.label}: nothing to be seen at yaw {yaw}, pitch {pitch}")
    return cropped


def _rotation(yaw: float, pitch: float) -> np.ndarray:
    c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _projected(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Points (n, 3), x to the right, y down, z away -> pixels of the canvas, by a pinhole 5 units away."""
    turned = points @ rotation.T
    return (turned[:, :2] / (turned[:, 2:] + 5) * CANVAS * 2.1 + CANVAS / 2).astype(np.float32)


def _box(design: Design, angles: np.ndarray) -> Image:
    canvas, rotation = np.zeros((CANVAS, CANVAS, 4), np.uint8), _rotation(*angles)
    half = np.array(SIZES[design.shape]) / 2
    top = np.full((60, FACE_WIDTH, 3), design.accent[::-1], np.uint8)
    # each face by its outward normal and the directions in which its picture runs, right and down
    faces = (
        (front(design), (0, 0, -1), (1, 0, 0), (0, 1, 0)),
        (side(design, half[2] / half[0]), (1, 0, 0), (0, 0, 1), (0, 1, 0)),
        (side(design, half[2] / half[0]), (-1, 0, 0), (0, 0, -1), (0, 1, 0)),
        (top, (0, -1, 0), (1, 0, 0), (0, 0, -1)),
    )
    for art, normal, right, down in faces:
        centre = np.array(normal) * half
        facing = (rotation @ np.array(normal)) @ (rotation @ centre + (0, 0, 5))
        if facing >= 0:
            continue
        signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        corners = np.array([centre + half * (a * np.array(right) + b * np.array(down)) for a, b in signs])
        h, w = art.shape[:2]
        matrix = cv2.getPerspectiveTransform(
            np.float32([(0, 0), (w, 0), (w, h), (0, h)]), _projected(corners, rotation)
        )
        light = 0.62 + 0.38 * float(max(0, (rotation @ np.array(normal)) @ np.array([-0.4, -0.5, -0.77])))
        lit = np.dstack([np.clip(art * light, 0, 255).astype(np.uint8), np.full((h, w), 255, np.uint8)])
        cv2.warpPerspective(lit, matrix, (CANVAS, CANVAS), canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return canvas


def _round(design: Design, angles: np.ndarray) -> Image:
    """A can or bottle: the front covers half of it, the back the other half; shaded round, bent by the pitch."""
    back = side(design, 1.0)
    middle = back.shape[1] // 2
    around = np.hstack([back[:, middle:], front(design), back[:, :middle]])
    width, height, _ = SIZES[design.shape]
    h = int(CANVAS * 0.84)
    w = int(h * width / height)
    u = np.linspace(-1, 1, w)[None]
    rows = np.linspace(0, 1, h)[:, None] - 0.12 * np.sin(angles[1]) * (np.sqrt(1 - u**2) - 1)
    half = np.interp(np.clip(rows, 0, 1), *PROFILES[design.shape])
    inside = (np.abs(u) <= half) & (rows >= 0) & (rows <= 1)
    turn = np.arcsin(np.clip(u / half, -1, 1)) - angles[0]
    columns = (turn / (2 * np.pi) + 0.5) * around.shape[1] % around.shape[1]
    label = (rows - NECK) / (1 - NECK) if design.shape == "bottle" else rows
    label = np.clip(label, 0, 1) * (around.shape[0] - 1)
    body = cv2.remap(around, columns.astype(np.float32), label.astype(np.float32), cv2.INTER_LINEAR)
    if design.shape == "bottle":  # glass or plastic above the label, and a cap
        body[np.broadcast_to(rows < NECK, body.shape[:2])] = np.array(design.ground[::-1]) * 0.7
        body[np.broadcast_to(rows < 0.1, body.shape[:2])] = design.accent[::-1]
    else:
        body[np.broadcast_to((rows < 0.05) | (rows > 0.96), body.shape[:2])] = (190, 188, 184)
    across = u / half
    shade = 0.5 + 0.5 * np.sqrt(np.clip(1 - (across + 0.3) ** 2 / 1.75, 0.02, 1))
    shade = shade + 0.28 * np.exp(-(((across + 0.45) / 0.1) ** 2))
    lit = np.clip(body * shade[..., None], 0, 255).astype(np.uint8)
    return np.pad(np.dstack([lit, inside.astype(np.uint8) * 255]), ((3, 3), (3, 3), (0, 0)))


def _bag(design: Design, angles: np.ndarray) -> Image:
    """A bag: the front with folds, crimped edges and wavy sides, askew."""
    art = front(design)
    h, w = art.shape[:2]
    rng = np.random.default_rng([len(design.label), *design.label.encode()])
    folds = rng.uniform(0.7, 1.22, (6, 5)).astype(np.float32)
    light = cv2.resize(folds, (w, h), interpolation=cv2.INTER_CUBIC)
    light[: h // 18 : 2] *= 0.8
    light[-h // 18 :: 2] *= 0.8
    wave = np.interp(np.linspace(0, 1, h), np.linspace(0, 1, 6), rng.uniform(0, 0.07, 6) * w)[:, None]
    x = np.arange(w)[None]
    alpha = ((x >= wave) & (x < w - wave)).astype(np.uint8) * 255
    bag = np.dstack([np.clip(art * light[..., None], 0, 255).astype(np.uint8), alpha])
    half = np.array(SIZES["bag"]) / 2
    corners = np.array([(a * half[0], b * half[1], 0) for b, a in product((-1, 1), (-1, 1))])
    source = np.float32([(0, 0), (w, 0), (0, h), (w, h)])
    matrix = cv2.getPerspectiveTransform(source, _projected(corners, _rotation(*angles)))
    return cv2.warpPerspective(bag, matrix, (CANVAS, CANVAS))
