"""Image files -> Recognitions, with the next images read ahead; an image that fails is a record with `error`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture
from shitu.images.room import PIXELS_AHEAD
from shitu.recognise.system import Recogniser
from shitu.results import Recognition

Record = TypeVar("Record")
Read = tuple[str, Picture | ImageError]


def recognize_files(
    predictor: Recogniser, read: Iterable[Read], group_size: int = 1
) -> Iterator[tuple[Picture | None, Recognition]]:
    """(image, what was recognised in it) in order; no image where it could not be read."""
    return in_groups(read, group_size, predictor.predict, lambda name, error: Recognition(name, error=str(error)))


def in_groups(
    read: Iterable[Read],
    size: int,
    predict: Callable[[Sequence[Picture], Sequence[str]], list[Record]],
    failure: Callable[[str, Exception], Record],
) -> Iterator[tuple[Picture | None, Record]]:
    """(image, its record) in order, `size` images at a time; `failure` makes the record of one that failed.

    Fewer at a time where they are large.
    """
    for group in _groups(read, size):
        good = [(name, image) for name, image in group if not isinstance(image, ImageError)]
        records = iter(_predict(good, predict, failure))
        for name, image in group:
            if isinstance(image, ImageError):
                yield None, failure(name, image)
            else:
                yield image, next(records)


def _groups(read: Iterable[Read], size: int) -> Iterator[list[Read]]:
    group: list[Read] = []
    for one in read:
        group.append(one)
        if len(group) == size or sum(each.size for _, each in group if isinstance(each, np.ndarray)) > 3 * PIXELS_AHEAD:
            yield group
            group = []
    if group:
        yield group


def _predict(
    group: Sequence[tuple[str, Picture]],
    predict: Callable[[Sequence[Picture], Sequence[str]], list[Record]],
    failure: Callable[[str, Exception], Record],
) -> list[Record]:
    """One call for the whole group; image by image when that fails, so that one image does not take the others."""
    if not group:
        return []
    names, images = zip(*group, strict=True)
    try:
        return predict(images, names)
    except EngineError as error:
        if len(group) == 1:
            return [failure(names[0], error)]
        return [record for one in group for record in _predict([one], predict, failure)]
