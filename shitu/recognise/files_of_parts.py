"""Image files through the detector alone, or the extractor alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from shitu.images.read import Picture
from shitu.recognise.detect import Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.files import Read, in_groups
from shitu.results import DetectedObjects

Embedded = tuple[str, NDArray[Any] | None, Exception | None]


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

    return in_groups(
        read, group_size, detect, lambda name, error: DetectedObjects(name, error=str(error)), predictor.at_once
    )


def embed_files(predictor: Extractor, read: Iterable[Read], group_size: int) -> Iterator[Embedded]:
    """(name, vector, None) in order, or (name, None, error)."""

    def embed(images: Sequence[Picture], names: Sequence[str]) -> list[Embedded]:
        return [(name, row, None) for name, row in zip(names, predictor.predict(images), strict=True)]

    for _, record in in_groups(read, group_size, embed, lambda name, error: (name, None, error), predictor.at_once):
        yield record
