"""Image files -> Recognitions, several photos at a time; an image that fails is a record with `error`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture
from shitu.images.read_ahead import map_ahead
from shitu.images.room import PIXELS_AHEAD
from shitu.recognise.system import Recogniser
from shitu.results import Recognition

Record = TypeVar("Record")
Item = TypeVar("Item")
Result = TypeVar("Result")
Read = tuple[str, Picture | ImageError]


def recognize_files(
    predictor: Recogniser, read: Iterable[Read], group_size: int = 1
) -> Iterator[tuple[Picture | None, Recognition]]:
    """(image, what was recognised in it) in order; no image where it could not be read."""
    failure = lambda name, error: Recognition(name, error=str(error))  # noqa: E731
    return in_groups(read, group_size, predictor.predict, failure, predictor.at_once)


def in_groups(
    read: Iterable[Read],
    size: int,
    predict: Callable[[Sequence[Picture], Sequence[str]], list[Record]],
    failure: Callable[[str, Exception], Record],
    at_once: int = 1,
) -> Iterator[tuple[Picture | None, Record]]:
    """(image, its record) in order, `size` images to a call, fewer where they are large.

    `failure` makes the record of one that failed.
    """
    work = lambda group: _records(group, predict, failure)  # noqa: E731
    for records in side_by_side(work, read, size, at_once, lambda one: pixels_of(one[1])):
        yield from records


def side_by_side(
    work: Callable[[Sequence[Item]], Result],
    items: Iterable[Item],
    size: int,
    at_once: int,
    pixels: Callable[[Item], int],
) -> Iterator[Result]:
    """`work` of every `size` items, in order; of fewer where their pictures, of so many `pixels`, are large.

    `at_once` calls run side by side, and one more, so that no core waits for what is done between two networks. With
    one at a time, nothing is read before the answer to what was read is out.
    """
    threads, window = (at_once + 1, at_once + 3) if at_once > 1 else (1, 1)
    of_all = lambda group: sum(map(pixels, group))  # noqa: E731
    return map_ahead(work, _groups(items, size, of_all), window, threads, of_all)


def _records(
    group: Sequence[Read],
    predict: Callable[[Sequence[Picture], Sequence[str]], list[Record]],
    failure: Callable[[str, Exception], Record],
) -> list[tuple[Picture | None, Record]]:
    good = [(name, image) for name, image in group if not isinstance(image, ImageError)]
    records = iter(_predict(good, predict, failure))
    return [
        (None, failure(name, image)) if isinstance(image, ImageError) else (image, next(records))
        for name, image in group
    ]


def _groups(items: Iterable[Item], size: int, pixels: Callable[[Sequence[Item]], int]) -> Iterator[Sequence[Item]]:
    group: list[Item] = []
    for one in items:
        group.append(one)
        if len(group) == size or pixels(group) > PIXELS_AHEAD:
            yield group
            group = []
    if group:
        yield group


def pixels_of(image: Picture | Exception) -> int:
    """How many are in memory."""
    return image.size // 3 if isinstance(image, np.ndarray) else 0


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
