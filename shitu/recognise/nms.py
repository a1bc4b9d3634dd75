"""Paddle's multiclass_nms3 in numpy, for detectors whose program ends before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError
from shitu.models import Nms

Floats = NDArray[np.float32]


def suppressed_rows(outputs: Sequence[NDArray[Any]], nms: Nms, where: str) -> Floats:
    """What a raw program returns for one image, boxes (1, a, 4) and scores (1, c, a), with our NMS."""
    shapes = [each.shape for each in outputs[:2]]
    fits = len(shapes) == 2 and [len(shape) for shape in shapes] == [3, 3] and shapes[0][::2] == (1, 4)
    if not fits or shapes[1][::2] != (1, shapes[0][1]):
        raise EngineError(
            f"{where}: the raw program's outputs have shapes {', '.join(str(list(shape)) for shape in shapes)}; wanted "
            "boxes [1, A, 4] and scores [1, C, A] of one image. Is it the program with its NMS, named as `raw`?"
        )
    return multiclass_nms(outputs[0][0], outputs[1][0], nms)


def multiclass_nms(boxes: Floats, scores: Floats, nms: Nms) -> Floats:
    """Paddle's multiclass_nms3 with normalized=True, for one image: boxes (a, 4), scores (c, a) -> rows (n, 6).

    Class by class; within a class, and among equal scores, in Paddle's order: the greatest score, then the lower index.
    """
    found = []
    for number, of_class in enumerate(scores):
        candidates = np.flatnonzero(of_class > np.float32(nms.score_threshold))
        best_first = candidates[np.argsort(-of_class[candidates], kind="stable")]
        if nms.nms_top_k >= 0:
            best_first = best_first[: nms.nms_top_k]
        kept = best_first[_survivors(boxes[best_first], nms.nms_threshold)]
        kind = np.full((len(kept), 1), number, np.float32)
        found.append(np.concatenate([kind, of_class[kept, None], boxes[kept]], axis=1))
    rows = np.concatenate(found) if found else np.empty((0, 6), np.float32)
    if 0 <= nms.keep_top_k < len(rows):
        rows = rows[np.sort(np.argsort(-rows[:, 1], kind="stable")[: nms.keep_top_k])]
    return rows


def _survivors(boxes: Floats, threshold: float) -> NDArray[np.int64]:
    """Places of the boxes (k, 4), best first, that overlap no better survivor by more than `threshold`.

    In float32, as Paddle: two boxes without area have 0 / 0 in common, which is not below the threshold.
    """
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    area = np.where((right < left) | (bottom < top), np.float32(0), (right - left) * (bottom - top))
    remaining = np.arange(len(boxes))
    kept: list[int] = []
    while remaining.size:
        best, rest = remaining[0], remaining[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        common = width * height
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = common / (area[best] + area[rest] - common)
        beside = (left[rest] > right[best]) | (right[rest] < left[best])
        below = (top[rest] > bottom[best]) | (bottom[rest] < top[best])
        remaining = rest[beside | below | (overlap <= np.float32(threshold))]
    return np.array(kept, np.int64)
