"""Small JPEG pictures for the report, inside the page itself; one that cannot be shown is a grey box with its name."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from shitu.errors import ImageError
from shitu.images.boxes import clip_boxes
from shitu.images.read import Picture, read_image
from shitu.results import Box

LONGEST = 220  # pixels
QUALITIES, MOST_BYTES = (80, 60, 40), 20_000  # JPEG: the next worse where a picture has more bytes than that
_BOX, _RIM = (230, 85, 0), (255, 255, 255)


@dataclass(frozen=True)
class Shown:
    """A JPEG as a data: URL; without `source` a picture that cannot be shown, and where it should lie."""

    source: str = ""
    alt: str = ""
    width: int = 0
    height: int = 0
    path: str = ""


class Pictures:
    """Reads what the cards show; the last file is kept, since a photo and its crop follow each other."""

    def __init__(self) -> None:
        self._path = ""
        self._last: Picture | None = None

    def read(self, path: str) -> Picture | None:
        """(h, w, 3) uint8 RGB, upright; None where there is no such picture."""
        if path != self._path:
            try:
                self._last = read_image(path)
            except ImageError:
                self._last = None
            self._path = path
        return self._last

    def photo(self, path: str, box: Box | None, alt: str) -> tuple[Shown, bool]:
        """The whole picture with the box drawn into it, and whether that box is the whole picture (then it is not)."""
        picture = self.read(path)
        if picture is None:
            return Shown(path=path), False
        height, width = picture.shape[:2]
        small = shrink(picture)
        if box is None or box == (0, 0, width, height):
            return shown(small, alt), True
        return shown(_outlined(small, box, width, height), alt), False

    def crop(self, path: str, box: Box | None, alt: str) -> Shown:
        """What lies in the box; the whole picture where there is none."""
        picture = self.read(path)
        if picture is None:
            return Shown(path=path)
        return shown(shrink(cut(picture, box)), alt)


def cut(picture: Picture, box: Box | None) -> Picture:
    """The part of a picture; all of it where nothing of the box lies inside (the file was changed since)."""
    if box is None:
        return picture
    boxes, keep = clip_boxes([box], picture.shape[1], picture.shape[0])
    left, top, right, bottom = boxes[0].tolist()
    return picture[top:bottom, left:right] if keep[0] else picture


def shrink(picture: Picture) -> Image.Image:
    """At most LONGEST pixels to a side; a smaller one stays as it is."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def shown(image: Image.Image, alt: str) -> Shown:
    """As JPEG, of at most MOST_BYTES unless it is noise."""
    data = b""
    for quality in QUALITIES:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        data = file.getvalue()
        if len(data) <= MOST_BYTES:
            break
    source = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
    return Shown(source, alt, image.width, image.height)


def _outlined(image: Image.Image, box: Box, width: int, height: int) -> Image.Image:
    """The box, given in pixels of the whole picture, on its small copy; a light rim sets it off from the picture."""
    boxes, keep = clip_boxes([box], width, height)
    if not keep[0]:
        return image
    scale = np.array([image.width / width, image.height / height] * 2)
    left, top, right, bottom = np.rint(boxes[0] * scale).astype(int).tolist()
    right, bottom = max(right, left + 3) - 1, max(bottom, top + 3) - 1
    pen = ImageDraw.Draw(image)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_RIM, width=4)
    pen.rectangle((left, top, right, bottom), outline=_BOX, width=2)
    return image
