"""Pictures that are in memory already: the bytes of a file, arrays, Pillow's images."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from shitu.errors import ImageError, UsageError
from shitu.images.read import MAX_PIXELS, Picture, decode_image, upright_rgb


def picture_of(source: Any, name: str, *, bgr: bool = False) -> Picture:
    """(h, w, 3) uint8 RGB of the bytes of an image file, of a Pillow image, or of an array.

    An array is (h, w, 3) uint8 RGB, or BGR as OpenCV has it if `bgr`; (h, w, 4) with transparency, or (h, w) grey.
    Raises ImageError for what is damaged, UsageError for what is no picture at all.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), name)
    if isinstance(source, Image.Image):
        try:
            return upright_rgb(source.copy(), BytesIO())  # a copy, for its pixels are freed
        except Exception as error:  # a file that Pillow opened and has not read before
            raise ImageError(f"{name}: Pillow cannot read this image: {error}; save it again") from None
    array = np.asarray(source)
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise UsageError(
            f"{name}: {type(source).__name__} of shape {array.shape} and dtype {array.dtype}; wanted is a path, the "
            "bytes of an image file, a Pillow image, or an array (h, w, 3) of uint8, in RGB unless bgr=True is said"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ImageError(f"{name}: {array.shape[1]} x {array.shape[0]} pixels, at most {MAX_PIXELS:,} are read")
    if bgr and not grey:
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    if array.shape[2:] == (3,):
        return np.ascontiguousarray(array)
    return upright_rgb(Image.fromarray(np.ascontiguousarray(array)), BytesIO())
