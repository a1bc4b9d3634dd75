"""What a caller gives as pictures, one or several, and what an answer keeps of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from shitu.images.read import Picture

Keep = Callable[[Picture], Picture | bytes | None]


def nothing(picture: Picture) -> None:
    """It is read again from its file."""


def itself(picture: Picture) -> Picture:
    """It is in memory as long as its owner wants it there."""
    return picture


def as_jpeg(picture: Picture) -> bytes:
    """A page, or from the web: made small, for there may be a thousand of them."""
    data = BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=95)
    return data.getvalue()


def several(source: Any) -> Iterable[Any]:
    """One, of whatever kind, as a row of one."""
    is_one = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)
    is_one = is_one or (isinstance(source, np.ndarray) and source.ndim < 4) or not isinstance(source, Iterable)
    return [source] if is_one else source
