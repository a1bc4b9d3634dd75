"""The words of the configuration about an index, `index_method` and `dist_type`, without faiss."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from shitu.errors import GalleryError

DIST_TYPES = ("IP", "L2", "hamming")
MAX_LISTS = 65536
EXAMPLES = "Flat, HNSW32, IVF, or a faiss factory string such as 'IVF256,Flat' or 'OPQ32,PQ32'"


def is_flat(method: str) -> bool:
    """Whether the method is a plain scan (`Flat`, however it is written), which needs no index at all."""
    return method.strip().lower() == "flat"


def width_of(dimension: int, dist_type: str) -> tuple[int, np.dtype[Any]]:
    """Columns and dtype of stored vectors: (d, float32), or (d / 8, uint8) for hamming."""
    if dist_type not in DIST_TYPES:
        raise GalleryError(f"dist_type {dist_type!r} is unknown: use IP, L2 or hamming")
    if dist_type == "hamming":
        if dimension % 8 or dimension <= 0:
            raise GalleryError(f"hamming needs a dimension that is a multiple of 8 bits, not {dimension}: use IP or L2")
        return dimension // 8, np.dtype(np.uint8)
    return dimension, np.dtype(np.float32)


def factory_string(method: str, dist_type: str, count: int) -> str:
    """faiss's name for our `index_method`: case put right, `IVF` given its number of lists, `B` for binary."""
    text = re.sub(r"\bflat\b", "Flat", method.strip(), flags=re.IGNORECASE)
    text = re.sub(r"^(hnsw|ivf)", lambda found: found[0].upper(), text, flags=re.IGNORECASE)
    if text == "IVF":
        lists = max(1, min(count // 8, MAX_LISTS))
        text = f"IVF{lists}" if dist_type == "hamming" else f"IVF{lists},Flat"
    return f"B{text}" if dist_type == "hamming" else text
