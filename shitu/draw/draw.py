"""Annotated pictures: boxes and labels drawn onto photos."""

from __future__ import annotations

import colorsys
import hashlib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shitu.draw.place_tags import place_tags
from shitu.errors import ShituError
from shitu.images.read import Picture
from shitu.results import Box, DetectedObjects, Recognition, Region

Colour = tuple[int, int, int]

_NAMELESS: Colour = (128, 128, 128)
_SMALLEST_FONT = 9  # pixels; Chinese cannot be read below
_USUAL_SMALLEST_FONT = 13
_SMALLEST_TAGGED = 48 * 48  # pixels; a tag would hide most of a smaller picture
_LONGEST_TEXT = 60  # characters
_FONT_FACE = 2  # of the collection: simplified Chinese forms; every face holds all scripts


@dataclass(frozen=True)
class _Note:
    """What is drawn for one region."""

    box: Box
    name: str
    score: str

    @property
    def colour(self) -> Colour:
        return label_colour(self.name) if self.name else _NAMELESS


def draw_unnamed(image: Picture, found: Recognition) -> Picture:
    """As draw_recognition; objects without a name, too, grey and with a question mark."""
    return draw_recognition(image, found, found.unnamed)


def draw_recognition(image: Picture, found: Recognition | DetectedObjects, unnamed: Sequence[Region] = ()) -> Picture:
    """A copy of `image` (h, w, 3) uint8 RGB with each region's box and `label score`.

    A tag for which there is no room, among the others or in a tiny picture, is left out; its box is drawn.
    Raises ShituError if the font package is missing.
    """
    height, width = image.shape[:2]
    notes = []
    told = [(region.bbox, one_line(region.label), _score(region.score)) for region in found.regions]
    for (left, top, right, bottom), name, score in [*told, *((region.bbox, "", "?") for region in unnamed)]:
        box = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if box[0] < box[2] and box[1] < box[3]:
            notes.append(_Note(box, name, score))
    if not notes:
        return np.array(image)
    canvas = Image.fromarray(np.ascontiguousarray(image))
    pen = ImageDraw.Draw(canvas)
    line = max(1, round(math.sqrt(width * height) * 0.0035))
    for note in sorted(notes, key=lambda note: -_area(note.box)):  # small boxes on top of large ones
        _outline(pen, note.box, note.colour, line)
    if width * height < _SMALLEST_TAGGED:
        return np.array(canvas)
    size, texts, places = _lay_out(notes, width, height)
    for note, place in zip(notes, places, strict=True):
        if place is not None:
            _leader(pen, note.box, place, note.colour, line)
    for note, text, place in zip(notes, texts, places, strict=True):
        if place is not None:
            _tag(canvas, place, text, note.colour, size)
    return np.array(canvas)


def _score(score: float) -> str:
    """Similarities and distances below ten with two decimals; differing bits and long distances whole."""
    return f"{score:.2f}" if abs(score) < 10 else f"{score:.0f}"


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def one_line(text: str) -> str:
    """`text` without line breaks, control characters and what steers the writing direction; at most 60 characters."""
    kept = (
        " " if c.isspace() else "" if unicodedata.category(c)[0] == "C" or "\ufe00" <= c <= "\ufe0f" else c
        for c in text
    )
    line = " ".join("".join(kept).split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"


def label_colour(label: str) -> Colour:
    """RGB of a label: the same in every picture, strong, neither very dark nor very light."""
    digest = hashlib.sha256(label.encode("utf-8", "replace")).digest()
    hue = int.from_bytes(digest[:4], "big") / 2**32
    lightness = (0.40, 0.50, 0.60)[digest[4] % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever stands out more by the contrast that WCAG defines; never less than 4.5 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


@lru_cache(maxsize=32)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    try:
        path = files("noto_cjk_sans_otc") / "NotoSansCJK-Regular.ttc"
    except ImportError:
        raise ShituError(
            "the font for labels is missing: run `pip install noto-cjk-sans-otc`, or go without annotated pictures"
        ) from None
    # The basic layout, so that the picture does not depend on the libraries of the machine.
    return ImageFont.truetype(str(path), size, index=_FONT_FACE, layout_engine=ImageFont.Layout.BASIC)


def _lay_out(notes: Sequence[_Note], width: int, height: int) -> tuple[int, list[str], list[Box | None]]:
    """The greatest font size, from the usual one downwards, at which every tag has a place and its whole text."""
    size = max(_USUAL_SMALLEST_FONT, round(math.sqrt(width * height) * 0.024))
    while True:
        fitted = [_fit(note, size, width) for note in notes]
        texts = [text for text, _ in fitted]
        sizes = [(wide, round(size * 1.35)) for _, wide in fitted]
        crowded = sum(wide * high for wide, high in sizes) > 0.25 * width * height
        cut = any(not text.startswith(note.name) for note, text in zip(notes, texts, strict=True))
        last = size <= _SMALLEST_FONT
        if last or not (cut or (crowded and size > _USUAL_SMALLEST_FONT)):
            places = place_tags([note.box for note in notes], sizes, width, height)
            if last or None not in places:
                return size, texts, places
        size = max(_SMALLEST_FONT, int(size * 0.85))


def _fit(note: _Note, size: int, width: int) -> tuple[str, int]:
    """The text, its name shortened until it is no wider than the picture; and the width of its tag in pixels."""
    padding = 2 * round(size * 0.35)
    name = note.name
    while True:
        text = f"{name} {note.score}".strip()
        wide = math.ceil(label_font(size).getlength(text)) + padding
        if wide <= width or not name:
            return text, wide
        name = name[:-2] + "…" if len(name) > 2 else ""


def _outline(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, line: int) -> None:
    """Inside the box's pixels; a thin rim of the text's colour sets it off from a background of its own colour."""
    left, top, right, bottom = box
    line = max(1, min(line, (right - left) // 6, (bottom - top) // 6))
    rim = line // 3
    if rim:
        pen.rectangle((left, top, right - 1, bottom - 1), outline=text_colour(colour), width=line + 2 * rim)
    pen.rectangle((left + rim, top + rim, right - 1 - rim, bottom - 1 - rim), outline=colour, width=line)


def _leader(pen: ImageDraw.ImageDraw, box: Box, place: Box, colour: Colour, line: int) -> None:
    """A line from a tag that had to go elsewhere to its box."""
    ends = []
    for axis in (0, 1):
        low, high = max(box[axis], place[axis]), min(box[axis + 2], place[axis + 2])
        # Where they do not face each other, from edge to edge; else straight across.
        if low < high:
            ends.append(((low + high) // 2, (low + high) // 2))
        else:
            ends.append((box[axis + 2] - 1, place[axis]) if high == box[axis + 2] else (box[axis], place[axis + 2] - 1))
    (x1, x2), (y1, y2) = ends
    if abs(x1 - x2) > line or abs(y1 - y2) > line:
        pen.line((x1, y1, x2, y2), fill=colour, width=line)


def _tag(canvas: Image.Image, place: Box, text: str, colour: Colour, size: int) -> None:
    """On a tile of its own, so that no glyph reaches beyond its tag."""
    wide, high = place[2] - place[0], place[3] - place[1]
    tile = Image.new("RGB", (wide, high), colour)
    baseline = round(high / 2 + size * 0.37)  # which centres Chinese characters and capitals alike
    ImageDraw.Draw(tile).text(
        (round(size * 0.35), baseline), text, fill=text_colour(colour), font=label_font(size), anchor="ls"
    )
    mask = Image.new("L", (wide, high), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, wide - 1, high - 1), radius=size // 5, fill=255)
    canvas.paste(tile, place[:2], mask)
