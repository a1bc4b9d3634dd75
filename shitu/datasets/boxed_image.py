"""What every annotation format is read into: one image, its boxes and what they are called."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.datasets.rows import path_problem
from shitu.errors import ImageError
from shitu.images.read import read_image

Floats = NDArray[np.float64]

_UNFIT = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and what UTF-8 cannot write
_HEADER_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")  # those of shitu.images.read
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class BoxedImage:
    """`file_name` is relative to the folder of the images and never leads out of it.

    `xyxy` (n, 4) float64, pixels; a row is NaN where the source holds something that is no box. `crowd` (n,) bool:
    the box surrounds many things at once. `labels`: n names. `size` is (width, height) of the picture that was
    annotated, None where the source does not tell.
    """

    file_name: str
    size: tuple[int, int] | None
    xyxy: Floats
    crowd: NDArray[np.bool_]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.xyxy.shape == (len(self.labels), 4)
        assert self.crowd.shape == (len(self.labels),)


def boxed_image(
    file_name: object, size: tuple[object, object] | None, boxes: Sequence[tuple[str, object, bool]]
) -> BoxedImage:
    """From what a file said: `boxes` are (label, four numbers x1 y1 x2 y2, crowd). Raises ImageError for a bad name."""
    rows = [as_numbers(box, 4) for _, box, _ in boxes]
    width, height = as_numbers(size, 2)
    return BoxedImage(
        inner_path(file_name),
        (int(width), int(height)) if width >= 1 and height >= 1 else None,
        np.array(rows, np.float64).reshape(-1, 4),
        np.array([crowd for _, _, crowd in boxes], np.bool_),
        tuple(label for label, _, _ in boxes),
    )


def inner_path(name: object) -> str:
    """A file name out of an annotation as a clean relative path with forward slashes.

    Raises ImageError for one that is absolute, leads out of its folder, or would break a line of a list.

    >>> inner_path("./a\\\\b//c.jpg")
    'a/b/c.jpg'
    """
    path = name.replace("\\", "/") if isinstance(name, str) else ""
    if problem := path_problem(path):
        raise ImageError(f"the file name {str(name)[:200]!r}: {problem}; mend the annotation, or rename the file")
    return posixpath.normpath(path)


def clean_label(name: object) -> str:
    """A class name as it stands in a list: one line, single spaces. Raises ImageError for anything else than text."""
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if not text or _UNFIT.search(text):
        raise ImageError(f"the label {name!r} is empty or not plain text; mend the annotation")
    return text


def as_numbers(value: object, count: int) -> list[float]:
    """`count` finite numbers, or as many NaN."""
    if isinstance(value, (list, tuple)) and len(value) == count and {type(one) for one in value} <= {int, float}:
        with suppress(OverflowError):  # a whole number of 400 digits
            numbers = [float(one) for one in value]
            if np.isfinite(numbers).all():
                return numbers
    return [np.nan] * count


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) as read_image will give it, from the file's header alone. Raises ImageError."""
    try:
        width, height, orientation = _header(path)
    except Exception:  # whatever Pillow raises; read_image knows how to say it
        picture = read_image(str(path))
        return picture.shape[1], picture.shape[0]
    return (height, width) if orientation >= 5 else (width, height)


def upright_boxes(xyxy: Floats, annotated: tuple[int, int], path: str, picture_size: tuple[int, int]) -> Floats:
    """Boxes drawn on the picture as stored, moved to where they lie once it is turned upright: (n, 4) float64.

    Raises ImageError where the annotated size is that of another picture.
    """
    if annotated == picture_size:
        return xyxy
    orientation = _header(path)[2]
    if annotated != picture_size[::-1] or orientation < 5:
        raise ImageError(
            f"{path}: annotated at {annotated[0]} x {annotated[1]} pixels, but the picture has {picture_size[0]} x "
            f"{picture_size[1]}; annotate it again, or put the original back"
        )
    width, height = picture_size
    x, y = xyxy[:, [1, 3]], xyxy[:, [0, 2]]
    if orientation in (6, 7):
        x = width - x[:, ::-1]
    if orientation in (7, 8):
        y = height - y[:, ::-1]
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def _header(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Width and height as stored, and the EXIF orientation 1..8."""
    from PIL import Image

    if not os.path.isfile(path):  # opening a pipe would wait for ever
        raise ImageError(f"{path}: no such file; check the path")
    with Image.open(path, formats=_HEADER_FORMATS) as image:
        orientation: Any = image.getexif().get(_ORIENTATION_TAG, 1)
        return image.width, image.height, orientation if orientation in range(1, 9) else 1
