"""Product designs: what is printed on a package, fixed by a seed. Flavours of one family differ in little."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from research.common.cutouts import Image, Rng
from research.recogniser.art import FINE_PRINT, FLAVOURS, KINDS, Art, brand_word, colour, contrasting

Colour = tuple[int, int, int]
SHAPES = {  # width, height, depth relative to each other
    "carton": ((0.75, 1.0), (1.7, 2.3), (0.7, 1.0)),
    "box": ((0.7, 1.5), (0.8, 1.8), (0.2, 0.7)),
    "bottle": ((0.6, 0.9), (1.7, 2.6), (0, 0)),
    "can": ((0.8, 1.0), (1.2, 1.9), (0, 0)),
    "tub": ((1.0, 1.3), (0.6, 1.1), (0, 0)),
    "pouch": ((0.8, 1.2), (1.1, 1.8), (0, 0)),
}
SHAPE_SHARES = (0.3, 0.2, 0.16, 0.1, 0.1, 0.14)


@dataclass(frozen=True)
class Design:
    """One product. Everything that a family shares is drawn from `seed`; colours and words are the flavour's own."""

    seed: int
    shape: str
    size: tuple[float, float, float]
    ground: Colour
    accent: Colour
    flavour: str
    kind: str
    brand: str
    logo: str | None
    emoji: str
    maker: int


def family(rng: Rng, art: Art) -> list[Design]:
    """One to five flavours of a product: another word and picture, and more often than not other colours."""
    shape = str(rng.choice(list(SHAPES), p=SHAPE_SHARES))
    low_high = np.array(SHAPES[shape])
    size = tuple(float(v) for v in rng.uniform(low_high[:, 0], low_high[:, 1]))
    ground = colour(rng)
    names = list(art.emoji)
    first = Design(
        seed=int(rng.integers(2**31)),
        shape=shape,
        size=(size[0], size[1], size[2]),
        ground=ground,
        accent=contrasting(rng, ground),
        flavour="",
        kind=str(rng.choice(KINDS)),
        brand=brand_word(rng),
        logo=str(rng.choice(list(art.logos))) if rng.random() < 0.55 else None,
        emoji="",
        maker=int(rng.integers(5)),
    )
    flavours = rng.choice(FLAVOURS, int(rng.choice([1, 2, 3, 4, 5], p=[0.25, 0.25, 0.2, 0.2, 0.1])), replace=False)
    change = rng.choice(["word", "accent", "ground", "both"], p=[0.25, 0.3, 0.25, 0.2])
    designs = []
    for flavour in flavours:
        other = replace(first, flavour=str(flavour), emoji=str(rng.choice(names)))
        if change in ("ground", "both"):
            other = replace(other, ground=colour(rng))
        if change in ("accent", "both"):
            other = replace(other, accent=contrasting(rng, other.ground))
        designs.append(other)
    return designs


class Printer:
    """Draws the faces of a design; the layout comes from the family's seed, so flavours share it."""

    def __init__(self, design: Design, art: Art, textures: list[Image]) -> None:
        self.design, self.art, self.textures = design, art, textures
        self.rng = np.random.default_rng(design.seed)
        self.fonts = [int(n) for n in self.rng.integers(0, 1000, 3)]

    def front(self) -> Image:
        """(h, 200, 3) uint8 BGR."""
        rng, design = self.rng, self.design
        width, height = 200, int(200 * design.size[1] / design.size[0])
        face = self._ground(width, min(height, 520))
        height = face.shape[0]
        layout = rng.integers(4)
        places = {  # centre of the brand, the flavour, the picture, all in shares of the height
            0: (0.14, 0.34, 0.66),
            1: (0.3, 0.5, 0.76),
            2: (0.84, 0.66, 0.32),
            3: (0.2, 0.86, 0.54),
        }[int(layout)]
        if rng.random() < 0.5:
            self._panel(face, places[int(rng.integers(2))])
        self._pictures(face, places[2])
        self._brand(face, places[0])
        words = f"{design.flavour} {design.kind}" if rng.random() < 0.6 else design.flavour
        if rng.random() < 0.5:
            words = words.upper()
        self._write(face, words, places[1], rng.uniform(0.45, 0.9), font=self.fonts[1], ink=design.accent)
        if rng.random() < 0.7:
            few = " ".join(rng.choice(FINE_PRINT, int(rng.integers(2, 5))))
            self._write(face, few, places[1] + 0.08, rng.uniform(0.4, 0.8), font=self.fonts[2], ink=design.accent)
        if rng.random() < 0.4:
            self._badge(face)
        return face

    def side(self, share: float) -> Image:
        """A side face: fine print and a bar code on the same ground; `share` is its width against the front's."""
        rng = np.random.default_rng(self.design.seed + 1)
        height = min(520, int(200 * self.design.size[1] / self.design.size[0]))
        face = self._ground(max(24, int(200 * share)), height)
        self.rng = rng
        self._brand(face, 0.12)
        self._write(face, self.design.flavour, 0.26, 0.7, font=self.fonts[1], ink=self.design.accent)
        for row in np.arange(0.36, 0.7, 0.035):
            self._write(
                face, " ".join(rng.choice(FINE_PRINT, 6)), float(row), 0.85, font=self.fonts[2], ink=self.design.accent
            )
        width = face.shape[1]
        y0, y1 = int(height * 0.8), int(height * 0.93)
        bars = np.repeat(rng.integers(0, 2, max(4, width // 4)) * 255, 2)[: width // 2]
        face[y0:y1, width // 4 : width // 4 + len(bars)] = bars[None, :, None]
        return face

    def _ground(self, width: int, height: int) -> Image:
        """Plain, a ramp, two fields, stripes, waves, or a photo's texture in the colours of the design."""
        rng, design = np.random.default_rng(self.design.seed + 2), self.design
        one, two = np.float32(design.ground), np.float32(design.accent)
        style = rng.choice(
            ["plain", "ramp", "fields", "stripes", "wave", "texture"], p=[0.3, 0.2, 0.15, 0.1, 0.1, 0.15]
        )
        y, x = np.mgrid[0:height, 0:width].astype(np.float32) / (height, width)[0]
        if style == "ramp":
            dark = one * rng.uniform(0.3, 0.7)
            mix = y
        elif style == "fields":
            dark, cut = two * 0.5 + one * 0.5, rng.uniform(0.3, 0.7)
            mix = (y > cut + rng.uniform(-0.4, 0.4) * (x - 0.3)).astype(np.float32)
        elif style == "stripes":
            dark = one * rng.uniform(0.6, 0.85)
            mix = ((x * np.cos(t := rng.uniform(0, 3.14)) + y * np.sin(t)) * rng.uniform(4, 14) % 1 > 0.5).astype(
                np.float32
            )
        elif style == "wave":
            dark, cut = two * 0.6 + one * 0.4, rng.uniform(0.35, 0.75)
            mix = (y > cut + 0.06 * np.sin(x * rng.uniform(4, 20) + rng.uniform(0, 6))).astype(np.float32)
        elif style == "texture":
            photo = self.textures[int(rng.integers(len(self.textures)))]
            grey = cv2.resize(photo, (width, height)).mean(axis=2) / 255
            dark, mix = one * 0.35, grey.astype(np.float32)
        else:
            return np.full((height, width, 3), design.ground, np.uint8)
        return np.clip(one + (dark - one) * mix[..., None], 0, 255).astype(np.uint8)

    def _panel(self, face: Image, at: float) -> None:
        """A field of another colour behind the words: a band, an ellipse or a slanted ribbon."""
        height, width = face.shape[:2]
        rng, y = self.rng, int(face.shape[0] * at)
        tone = np.float32(self.design.ground) * rng.uniform(0.4, 0.8) + rng.uniform(0, 60)
        shade = tuple(int(v) for v in np.clip(tone, 0, 255))
        half, kind = int(height * rng.uniform(0.06, 0.13)), rng.integers(3)
        if kind == 0:
            cv2.rectangle(face, (0, y - half), (width, y + half), shade, -1)
        elif kind == 1:
            cv2.ellipse(face, (width // 2, y), (int(width * 0.46), half), 0, 0, 360, shade, -1, cv2.LINE_AA)
        else:
            lean = int(rng.uniform(-0.08, 0.08) * height)
            corners = np.int32(
                [(0, y - half - lean), (width, y - half + lean), (width, y + half + lean), (0, y + half - lean)]
            )
            cv2.fillPoly(face, [corners], shade, cv2.LINE_AA)

    def _pictures(self, face: Image, at: float) -> None:
        """The flavour's picture, once and big or several times and smaller."""
        rng, design, width = self.rng, self.design, face.shape[1]
        drawn = self.art.emoji[design.emoji]
        picture = drawn[design.maker % len(drawn)]
        count = int(rng.choice([1, 1, 2, 3, 5]))
        for _ in range(count):
            side = int(width * (rng.uniform(0.5, 0.85) if count == 1 else rng.uniform(0.28, 0.5)))
            dx, dy = (0.0, 0.0) if count == 1 else (rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1))
            turned = turn(picture, rng.uniform(-30, 30) if count > 1 else 0.0)
            put(face, turned, 0.5 + dx, at + dy, side)

    def _brand(self, face: Image, at: float) -> None:
        """The logo, or the brand's name in its own font."""
        rng, design = self.rng, self.design
        if design.logo is not None:
            put(face, self.art.logos[design.logo], 0.5, at, int(face.shape[1] * rng.uniform(0.4, 0.75)))
        else:
            ink = np.random.default_rng(design.seed + 3)
            self._write(
                face, design.brand, at, rng.uniform(0.6, 0.92), font=self.fonts[0], ink=contrasting(ink, design.ground)
            )

    def _badge(self, face: Image) -> None:
        rng, (height, width) = self.rng, face.shape[:2]
        x, y, r = (
            int(width * rng.uniform(0.2, 0.8)),
            int(height * rng.uniform(0.2, 0.9)),
            int(width * rng.uniform(0.1, 0.16)),
        )
        ground = colour(rng)
        cv2.circle(face, (x, y), r, ground, -1, cv2.LINE_AA)
        self._write(
            face,
            str(rng.choice(FINE_PRINT)),
            y / height,
            1.5 * r / width,
            font=self.fonts[2],
            ink=contrasting(rng, ground),
            across=x / width,
        )

    def _write(
        self, face: Image, words: str, at: float, share: float, *, font: int, ink: Colour, across: float = 0.5
    ) -> None:
        """Words centred at (across, at), as wide as `share` of the face but no higher than a sixth of it."""
        height, width = face.shape[:2]
        trial = self.art.font(font, 40)
        x0, y0, x1, y1 = trial.getbbox(words)
        size = int(40 * min(share * width / max(1, x1 - x0), height / 6 / max(1, y1 - y0)))
        if size < 5:
            return
        sheet = Pillow.fromarray(face)
        draw: Any = ImageDraw.Draw(sheet)
        draw.text((across * width, at * height), words, fill=ink, font=self.art.font(font, size), anchor="mm")
        face[:] = np.asarray(sheet)


def turn(picture: Image, angle: float) -> Image:
    """A BGRA picture turned about its centre, corners transparent."""
    if not angle:
        return picture
    h, w = picture.shape[:2]
    side = int(np.hypot(h, w)) + 2
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1)
    matrix[:, 2] += side / 2 - w / 2, side / 2 - h / 2
    return cv2.warpAffine(picture, matrix, (side, side))


def put(face: Image, picture: Image, x: float, y: float, side: int) -> None:
    """Paste a BGRA picture, its longer side `side` pixels, centred at (x, y) in shares of the face."""
    scale = side / max(picture.shape[:2])
    scaled = cv2.resize(
        picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    h, w = scaled.shape[:2]
    left, top = int(x * face.shape[1] - w / 2), int(y * face.shape[0] - h / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, face.shape[1]), min(top + h, face.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    part = scaled[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:].astype(np.float32) / 255
    under = face[y0:y1, x0:x1]
    under[:] = under + (part[..., :3] - under.astype(np.float32)) * alpha
