"""Image files -> Recognitions, with the next images read ahead; an image that fails is a record with `error`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from numpy.typing import NDArray

from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture
from shitu.recognise.detect import Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.system import Recogniser
from shitu.results import DetectedObjects, Recognition

Record = TypeVar("Record")
Read = tuple[str, Picture | ImageError]
Embedded = tuple[str, NDArray[Any] | None, Exception | None]


def recognize_files(
    predictor: Recogniser, read: Iterable[Read], group_size: int = 1
) -> Iterator[tuple[Picture | None, Recognition]]:
    """(image, what was recognised in it) in order; no image where it could not be read."""
    return _in_groups(read, group_size, predictor.predict, lambda name, error: Recognition(name, error=str(error)))


def detect_files(
    predictor: Detector, read: Iterable[Read], group_size: int = 1
) -> Iterator[tuple[Picture | None, DetectedObjects]]:
    """(image, the objects found in it) in order; no image where it could not be read."""

    def detect(images: Sequence[Picture], names: Sequence[str]) -> list[DetectedObjects]:
        found = predictor.predict(images)
        return [
            DetectedObjects(name, image.shape[1], image.shape[0], tuple(objects))
            for name, image, objects in zip(names, images, found, strict=True)
        ]

    return _in_groups(read, group_size, detect, lambda name, error: DetectedObjects(name, error=str(error)))


def _in_groups(
    read: Iterable[Read],
    size: int,
    predict: Callable[[Sequence[Picture], Sequence[str]], list[Record]],
    failure: Callable[[str, Exception], Record],
) -> Iterator[tuple[Picture | None, Record]]:
    iterator = iter(read)
    while group := list(islice(iterator, size)):
        good = [(name, image) for name, image in group if not isinstance(image, ImageError)]
        records = iter(_predict(good, predict, failure))
        for name, image in group:
            if isinstance(image, ImageError):
                yield None, failure(name, image)
            else:
                yield image, next(records)


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


def embed_files(predictor: Extractor, read: Iterable[Read], group_size: int) -> Iterator[Embedded]:
    """(name, vector, None) in order, or (name, None, error)."""

    def embed(images: Sequence[Picture], names: Sequence[str]) -> list[Embedded]:
        return [(name, row, None) for name, row in zip(names, predictor.predict(images), strict=True)]

    for _, record in _in_groups(read, group_size, embed, lambda name, error: (name, None, error)):
        yield record
