"""A batch as one picture: the images as the network gets them, with what it is told of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shitu.draw.draw import label_colour, label_font, one_line
from shitu.training.base.checkpoints import replace_file

LONGEST = 160  # pixels of a picture
FONT, MARGIN = 13, 6
WIDE = 1.6  # columns for a row: sheets are looked at on screens


@dataclass(frozen=True)
class Told:
    """What stands under a picture: whose colour its label's is; and (k, 4) x1, y1, x2, y2 in pixels of the picture."""

    label: str
    boxes: NDArray[np.float32] | None = None


def as_pixels(images: NDArray[np.float32], black: Sequence[float], white: Sequence[float]) -> NDArray[np.uint8]:
    """(n, 3, h, w) normalised -> (n, h, w, 3) RGB; `black`, `white`: what 0 and 255 became, for R, G and B."""
    low, high = (np.asarray(each, np.float32)[:, None, None] for each in (black, white))
    pixels = (images - low) / (high - low) * 255
    return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def draw_sheet(pictures: NDArray[np.uint8], told: Sequence[Told], path: Path) -> Path:
    """Row by row in the batch's order, as a PNG. Raises ShituError where it cannot be written."""
    count, height, width = pictures.shape[:3]
    scale = min(1.0, LONGEST / max(height, width))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    columns = min(count, math.ceil(math.sqrt(count * WIDE * down / across)))
    step_x, step_y = across + MARGIN, down + FONT + 3 * MARGIN
    sheet = Image.new("RGB", (columns * step_x + MARGIN, math.ceil(count / columns) * step_y + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (pixels, each) in enumerate(zip(pictures, told, strict=True)):
        left, top = MARGIN + place % columns * step_x, MARGIN + place // columns * step_y
        picture = Image.fromarray(pixels).resize((across, down), Image.Resampling.LANCZOS)
        _outline(picture, each.boxes, scale)
        sheet.paste(picture, (left, top))
        pen.rectangle((left, top + down, left + across - 1, top + down + 3), fill=label_colour(each.label))
        pen.text((left, top + down + 5), _cut(one_line(each.label), across), fill="black", font=label_font(FONT))
    replace_file(path, lambda file: sheet.save(file, "PNG"))
    return path


def _outline(picture: Image.Image, boxes: NDArray[np.float32] | None, scale: float) -> None:
    pen = ImageDraw.Draw(picture)
    for box in [] if boxes is None else (boxes * scale).tolist():
        pen.rectangle(tuple(box), outline=(255, 255, 255), width=4)
        pen.rectangle(tuple(box), outline=(230, 85, 0), width=2)


def _cut(text: str, width: int) -> str:
    """What of a text has room."""
    font = label_font(FONT)
    while text and font.getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…" if len(text) > 1 and text != "…" else ""
    return text
