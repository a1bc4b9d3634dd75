"""A COCO annotation file -> images with boxes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shitu.datasets.boxed_image import BoxedImage, as_numbers, boxed_image, inner_path
from shitu.datasets.read_text import is_records, read_json
from shitu.errors import ImageError, UsageError

WANTED = "a COCO file with the lists `images`, `annotations` and `categories`"
log = logging.getLogger("shitu")


class CocoFile:
    """Its images one by one, each with its boxes; an image whose name is unusable comes as an ImageError.

    Held in memory as parsed: about ten times the file's size. `len` counts the images. `place`: where an image lies
    by the name that the file gives it. Raises UsageError for a file that is no COCO file, two images with one id, and a
    category without a name.
    """

    def __init__(self, path: str | Path, place: Callable[[str], str] = str) -> None:
        self._place, content = place, read_json(path, WANTED)
        for key in ("images", "annotations", "categories"):
            if not is_records(content.get(key)):
                raise UsageError(f"{path}: `{key}` is no list of objects; wanted {WANTED}")
        self._images: list[dict[str, Any]] = content["images"]
        self._names: dict[int | str, str] = {}
        for record in content["categories"]:
            if not isinstance(name := record.get("name"), str):
                raise UsageError(f"{path}: category {str(record)[:80]} has no `name`; wanted {WANTED}")
            self._names[_key(record, "id", path)] = name
        self._boxes: dict[int | str, list[dict[str, Any]]] = {_key(record, "id", path): [] for record in self._images}
        if len(self._boxes) < len(self._images):
            raise UsageError(f"{path}: {len(self._images) - len(self._boxes)} images share an id; ids must be unique")
        orphans = 0
        for record in content["annotations"]:
            boxes = self._boxes.get(_key(record, "image_id", path))
            if boxes is None or _key(record, "category_id", path) not in self._names:
                orphans += 1
            else:
                boxes.append(record)
        if orphans:
            log.warning("%s: %d annotations belong to no image or category of the file; passed over", path, orphans)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[BoxedImage | ImageError]:
        for image in self._images:
            boxes = [
                (self._names[box["category_id"]], _xyxy(box.get("bbox")), bool(box.get("iscrowd", 0)))
                for box in self._boxes[image["id"]]
            ]
            try:
                path = self._place(inner_path(image.get("file_name")))
                yield boxed_image(path, (image.get("width"), image.get("height")), boxes)
            except ImageError as error:
                yield error


def _xyxy(bbox: object) -> tuple[float, float, float, float]:
    left, top, width, height = as_numbers(bbox, 4)
    return left, top, left + width, top + height


def _key(record: dict[str, Any], key: str, path: str | Path) -> int | str:
    value = record.get(key)
    if isinstance(value, (int, str)):
        return value
    raise UsageError(f"{path}: `{key}` is {str(value)[:40]!r} in {str(record)[:80]}; wanted a number")
