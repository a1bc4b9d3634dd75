"""Where the tags of boxes go: inside the picture, off each other, near their boxes. Pure geometry, no pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shitu.results import Box

Size = tuple[int, int]
_Ints = NDArray[np.int64]


def place_tags(boxes: Sequence[Box], sizes: Sequence[Size], width: int, height: int) -> list[Box | None]:
    """A place for each tag of `sizes` (width, height) beside or in its box, all in pixels, as xyxy.

    No place leaves the picture of `width` x `height` or overlaps another. Tried are the places that readers expect
    (above the box, inside it at the top, below it, beside it), those first that hide no centre of a box, and then
    the free place nearest to the box. None stands for a tag that fits nowhere among those placed before it;
    smaller boxes, whose tags have less choice, come first.
    """
    corners = np.array(boxes, dtype=np.int64).reshape(-1, 4)
    centres = (corners[:, :2] + corners[:, 2:]) // 2
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    places: list[Box | None] = [None] * len(boxes)
    taken = np.zeros((0, 4), dtype=np.int64)
    for index in np.argsort(areas, kind="stable"):
        place = _place(corners[index], sizes[index], (width, height), taken, centres)
        if place is not None:
            taken = np.vstack([taken, place])
            left, top, right, bottom = place.tolist()
            places[index] = (left, top, right, bottom)
    return places


def _place(box: _Ints, size: Size, picture: Size, taken: _Ints, centres: _Ints) -> _Ints | None:
    corners = _expected(box, size)
    free = _free(corners, size, picture, taken)
    if len(free):
        places = np.hstack([free, free + size])
        over = (centres[None] >= places[:, None, :2]) & (centres[None] < places[:, None, 2:])
        return np.asarray(places[np.argmin(over.all(axis=2).sum(axis=1))])  # the first of the least
    free = _free(_packed(box, size, picture, taken), size, picture, taken)
    if not len(free):
        return None
    places = np.hstack([free, free + size])
    gap = np.maximum(places[:, :2] - box[2:], box[:2] - places[:, 2:]).clip(min=0)
    return np.asarray(places[np.argmin((gap**2).sum(axis=1))])


def _expected(box: _Ints, size: Size) -> _Ints:
    """Top left corners in the order of liking: (k, 2)."""
    (left, top, right, bottom), (wide, high) = box.tolist(), size
    return np.array(
        [
            (left, top - high),
            (left, top),
            (right - wide, top - high),
            (left, bottom),
            (right - wide, top),
            (right - wide, bottom),
            (left, bottom - high),
            (right - wide, bottom - high),
            (right, top),
            (left - wide, top),
            (right, bottom - high),
            (left - wide, bottom - high),
        ],
        dtype=np.int64,
    )


def _packed(box: _Ints, size: Size, picture: Size, taken: _Ints) -> _Ints:
    """Corners flush with the picture, the box or tags already placed: (k, 2).

    If any place is free, one of these is: push a free tag left and up until it touches an edge or another tag.
    """
    axes = []
    for axis in (0, 1):
        near, far = box[axis], box[axis + 2]
        own = [0, picture[axis] - size[axis], near, near - size[axis], far, far - size[axis]]
        axes.append(np.unique(np.concatenate([own, taken[:, axis + 2], taken[:, axis] - size[axis]])))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _free(corners: _Ints, size: Size, picture: Size, taken: _Ints) -> _Ints:
    """Those corners at which a tag lies inside the picture and overlaps none of `taken`."""
    inside = corners[((corners >= 0) & (corners + size <= picture)).all(axis=1)]
    hits = np.zeros(len(inside), dtype=np.bool_)
    for other in taken:  # one at a time: all at once would be n cubed cells of memory
        hits |= ((inside < other[2:]) & (inside + size > other[:2])).all(axis=1)
    return inside[~hits]
