"""Cut-outs (RGBA, uint8) to paste into training pictures: emoji, stamps, caltech101 objects on white.

Emoji whose name hashes to 0..7 in the first hex digit are left out: they are reserved for the demo gallery, so
that the demo never shows the detector what it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

Image = np.ndarray
Rng = np.random.Generator
CUTOUT_SIZE = 192
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}


def emoji_name(path: Path) -> str:
    """Hex code points without the variation selector, as in `1f34e`."""
    return "-".join(part for part in path.stem.lower().split("-") if part != "fe0f")


def is_plain_emoji(path: Path) -> bool:
    """Neither a variant in skin colour nor a digit."""
    name = emoji_name(path)
    return not SKIN_TONES & set(name.split("-")) and not name.startswith("00")


def is_training_emoji(path: Path) -> bool:
    return is_plain_emoji(path) and int(hashlib.sha1(emoji_name(path).encode()).hexdigest()[0], 16) >= 8


def reserved_emoji(path: Path) -> bool:
    """Those that the demo and the tests are made of."""
    return is_plain_emoji(path) and not is_training_emoji(path)


def shrink(image: Image, longest: int) -> Image:
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def read_cutout(path: Path) -> Image | None:
    """The picture cropped to its opaque part, or None where it has no transparency to cut along."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        return None
    opaque = image[..., 3] > 127
    if not 0.05 < opaque.mean() < 0.97:
        return None
    return crop_to_alpha(shrink(image, CUTOUT_SIZE))


def crop_to_alpha(image: Image) -> Image | None:
    ys, xs = np.nonzero(image[..., 3] > 127)
    if len(ys) < 300:
        return None
    return np.ascontiguousarray(image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1])


def object_mask(photo: Image) -> Image:
    """Alpha of an object on white: what a flood from the border does not reach."""
    padded = cv2.copyMakeBorder(photo, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    mask = np.zeros((padded.shape[0] + 2, padded.shape[1] + 2), np.uint8)
    how = 8 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    cv2.floodFill(padded, mask, (0, 0), 0, (14,) * 3, (14,) * 3, how)
    alpha = cv2.erode((1 - mask[2:-2, 2:-2]) * 255, np.ones((3, 3), np.uint8))
    return _without_specks(cv2.GaussianBlur(alpha, (3, 3), 0))


def object_on_white(photo: Image) -> Image | None:
    """The object of a photo with a white border, or None where there is no such border or nothing but a frame."""
    border = np.concatenate(
        [photo[:3].reshape(-1, 3), photo[-3:].reshape(-1, 3), photo[:, :3].reshape(-1, 3), photo[:, -3:].reshape(-1, 3)]
    )
    if (border.min(1) > 235).mean() < 0.9:
        return None
    cutout = crop_to_alpha(shrink(np.dstack([photo, object_mask(photo)]), CUTOUT_SIZE))
    if cutout is None or (cutout[..., 3] > 127).mean() > 0.85:  # a framed photo, not an object
        return None
    return cutout


def _without_specks(alpha: Image) -> Image:
    """Only the parts that have at least a tenth of the largest part's size: dust would stretch the box."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 127).astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return alpha * (areas >= max(1, areas.max() // 10))[labels].astype(np.uint8)


def load_cutouts(files: Iterable[Path]) -> list[Image]:
    return [cutout for cutout in map(read_cutout, files) if cutout is not None]
