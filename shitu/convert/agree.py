"""Whether two programs of a network say the same: on the demo's photos, or on drawn ones where it is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu import resources
from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture, read_image

FEATURES = 1e-4  # of unit features
BOXES, SCORES = 0.05, 1e-3  # pixels; between 0 and 1
SURE = 0.05  # boxes of lower scores come and go with the last bits
UNPAIRED = 0.01  # share of boxes that an NMS may decide the other way, where two overlap by just its threshold
MOST = 6
Floats = NDArray[np.float32]


def example_pictures() -> list[Picture]:
    """(h, w, 3) uint8 RGB."""
    found = []
    folder = resources.bundled("demo") / "photos"
    for path in sorted(folder.iterdir())[:MOST] if folder.is_dir() else ():
        try:
            found.append(read_image(path))
        except ImageError:
            continue
    if not found:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (MOST, 12, 16, 3), np.uint8)
        found = [np.kron(each, np.ones((40, 40, 1), np.uint8)) for each in coarse]
    return found


def cosines(theirs: NDArray[Any], ours: NDArray[Any]) -> Floats:
    """(n,) between rows."""
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    return np.asarray((theirs * ours).sum(axis=1) / np.maximum(lengths, 1e-12), np.float32)


def compare_features(theirs: Floats, ours: Floats) -> float:
    """The largest difference of unit features. Raises EngineError above FEATURES."""
    if theirs.shape != ours.shape:
        raise EngineError(f"the converted network gives vectors {ours.shape}, Paddle's {theirs.shape}; nothing written")
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (theirs, ours)]
    worst = float(np.abs(units[0] - units[1]).max())
    if not worst <= FEATURES:
        raise EngineError(
            f"the converted network's features differ by {worst:.1e}, {FEATURES} at most; nothing written"
        )
    return worst


def compare_boxes(theirs: Floats, ours: Floats) -> float:
    """The largest distance, in pixels, of rows (n, 6) from their twins. Raises EngineError where too many have none."""
    alone, worst = 0, 0.0
    sure = [(rows[rows[:, 1] >= SURE], rows) for rows in (theirs, ours)]
    for (rows, _), (_, others) in (sure, sure[::-1]):
        for row in rows:
            same = others[(others[:, 0] == row[0]) & (np.abs(others[:, 1] - row[1]) <= SCORES)]
            distance = np.abs(same[:, 2:] - row[2:]).max(axis=1).min() if len(same) else np.inf
            if distance <= BOXES:
                worst = max(worst, float(distance))
            else:
                alone += 1
    total = sum(len(rows) for rows, _ in sure)
    if alone > UNPAIRED * total:
        raise EngineError(
            f"{alone} of {total} boxes of the converted network and of Paddle's have no twin within {BOXES} px; "
            "nothing written"
        )
    return worst
