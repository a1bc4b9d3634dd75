"""Image files of every format, broken in every way that comes to mind: an array, or ImageError."""

from __future__ import annotations

import random
import struct
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shitu.errors import ImageError
from shitu.images.read import read_image
from tests.conftest import DEMO

_KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {"restart_marker_rows": 1}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "I;16", {}),
    ("GIF", "P", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "F", {}),
    ("PPM", "RGB", {}),
    ("PPM", "1", {}),
)
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 16000, 65500)


@cache
def sound(number: int) -> bytes:
    kind, mode, options = _KINDS[number % len(_KINDS)]
    with Image.open(DEMO / "photos" / "desk.jpg") as photo:
        image = photo.convert("RGB").resize((67, 45))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def broken(seed: int) -> bytes:
    rng = random.Random(seed)
    data = bytearray(sound(rng.randrange(len(_KINDS))))
    for _ in range(rng.choice((1, 1, 2, 4, 20))):
        at = rng.randrange(max(1, min(len(data), rng.choice((64, 700, len(data))))))
        how = rng.randrange(8)
        if how == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            del data[at : at + rng.choice((1, 2, 4, 100, len(data)))]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 300)))
        elif how == 3:  # a number in a header: sizes, counts, offsets
            form = rng.choice(("<I", ">I", "<H", ">H"))
            value = rng.choice(_EDGES) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif how == 4:
            other = sound(rng.randrange(len(_KINDS)))
            data[at:] = other[rng.randrange(len(other)) :]
        elif how == 5:
            part = data[at : at + rng.choice((2, 20, 500))]
            data[at:at] = part * rng.choice((1, 10, 200))
        elif how == 6:
            data[at : at + 8] = bytes([rng.choice((0, 255))]) * 8
        else:
            data = data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.choice((0, 0, 50)))
        if not data:
            break
    return bytes(data)


def trial(seed: int, folder: Path) -> str:
    path = folder / "broken"
    path.write_bytes(broken(seed))
    try:
        picture = read_image(path)
    except ImageError as error:
        return "refused" if str(error).startswith(str(path)) else f"refused, and the file is not named: {error}"
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.dtype == np.uint8
    return "read"
