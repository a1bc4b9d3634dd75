"""Boxes as arrays: clip them to an image, measure their overlap, keep the best of those that overlap.

`xyxy` is always (n, 4): left, top, right, bottom in pixels; n may be 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def clip_boxes(xyxy: ArrayLike, width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole-pixel boxes inside an image, and which of them are worth cropping.

    Fractions are cut off towards zero as PaddleClas does before it crops. Returns boxes (n, 4) int64, within
    0..width and 0..height, and keep (n,) bool: False where less than one pixel is left and where a coordinate was
    NaN or infinite (such a box is all zeros). Use `boxes[keep]`.

    >>> boxes, keep = clip_boxes([[-3.7, 2.9, 5.5, 99.0], [8.0, 1.0, 8.9, 5.0]], width=10, height=10)
    >>> boxes[keep].tolist()
    [[0, 2, 5, 10]]
    """
    given = _as_boxes(xyxy)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(given).all(axis=1))
    whole = np.trunc(np.where(finite[:, None], given, 0.0))
    # Clipped while still float: 1e30 has no int64.
    boxes = np.clip(whole, 0, [width, height, width, height]).astype(np.int64)
    keep = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes, keep


def iou_matrix(a: ArrayLike, b: ArrayLike, plus_one: bool = False) -> Floats:
    """Intersection over union of every box of `a` (n, 4) with every box of `b` (m, 4): (n, m) float64, 0..1.

    `plus_one` counts the right and bottom pixel in, so that a box is `x2 - x1 + 1` wide. Two boxes without area
    have an IoU of 0.
    """
    first, second = _as_boxes(a)[:, None, :], _as_boxes(b)[None, :, :]
    extra = 1.0 if plus_one else 0.0
    inter = _area(np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:]), extra)
    union = _area(first[..., :2], first[..., 2:], extra) + _area(second[..., :2], second[..., 2:], extra) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def share_within(a: ArrayLike, b: ArrayLike) -> Floats:
    """The share of every box of `a` (n, 4) that lies within every box of `b` (m, 4): (n, m) float64, 0..1."""
    first, second = _as_boxes(a)[:, None, :], _as_boxes(b)[None, :, :]
    inter = _area(np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:]), 0.0)
    area = np.broadcast_to(_area(first[..., :2], first[..., 2:], 0.0), inter.shape)
    return np.divide(inter, area, out=np.zeros_like(inter), where=area > 0)


def nms(
    xyxy: ArrayLike, scores: ArrayLike, iou_threshold: float, plus_one: bool = True, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Indices of the boxes that stay, best first: (k,) int64.

    Greedy: the box with the greatest score stays and removes those whose IoU with it exceeds `iou_threshold`
    (equal is no more than); then the next. For distances pass their negatives. Among equal scores the lower index
    goes first. With `plus_one` areas are counted as PaddleClas counts them when it suppresses recognised regions.
    With `groups` (n,) a box removes only boxes of its own group.
    """
    boxes = _as_boxes(xyxy)
    marks = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(boxes) != len(marks):
        raise ValueError(f"{len(boxes)} boxes but {len(marks)} scores")
    group = np.zeros(len(boxes), np.int64) if groups is None else np.asarray(groups).reshape(-1)
    order = np.argsort(-marks, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        overlap = iou_matrix(boxes[best], boxes[rest], plus_one)[0]
        order = rest[(overlap <= iou_threshold) | (group[rest] != group[best])]
    return np.array(kept, dtype=np.int64)


def _as_boxes(xyxy: ArrayLike) -> Floats:
    boxes = np.asarray(xyxy, dtype=np.float64)
    if boxes.size % 4 or (boxes.size and boxes.shape[-1] != 4):
        raise ValueError(f"boxes must be (n, 4), not {boxes.shape}")
    return boxes.reshape(-1, 4)


def _area(top_left: Floats, bottom_right: Floats, extra: float) -> Floats:
    sides: NDArray[Any] = np.maximum(bottom_right - top_left + extra, 0.0)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area
