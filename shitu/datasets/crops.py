"""Images with boxes -> rows of a list: each box as a crop of its own, or the whole image with its one label."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shitu.datasets.boxed_image import BoxedImage, clean_label, upright_boxes, upright_size
from shitu.datasets.rows import Row
from shitu.errors import ImageError, UsageError
from shitu.images.boxes import clip_boxes
from shitu.images.read import read_image
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead

FOLDER_SIZE = 1000  # images whose crops share a folder
JPEG_QUALITY = 95


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill that appears as `target` when all is done, and not at all when something fails."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not an empty folder; give a new one, nothing is overwritten")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        try:
            part.mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"{target}: cannot make this folder: {error.strerror}; name another") from None
        yield part
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


Rows = list[Row | ImageError]


def write_crops(
    images: Iterable[BoxedImage | ImageError], image_root: str | Path, folder: Path, *, min_size: int = 1
) -> Iterator[Rows]:
    """For each image the rows of its crops, written into `folder` as JPEG, and what failed.

    Paths are relative to `folder`. Boxes are clipped to the picture; crowds are passed over, as are boxes of less
    than `min_size` pixels on a side; a box that is none counts as failed.
    """
    return _each(images, lambda number, image: _crops(image, number, image_root, folder, min_size))


def whole_images(images: Iterable[BoxedImage | ImageError], image_root: str | Path) -> Iterator[Rows]:
    """For each image one row, if all its boxes have one label; none if it has no box; an error if labels differ."""

    def rows(_: int, image: BoxedImage) -> Rows:
        names = sorted(set(image.labels))
        if len(names) > 1:
            raise ImageError(f"{image.file_name}: several labels ({str(names)[:80]}); crop the boxes instead")
        upright_size(Path(image_root, image.file_name))
        return [Row(image.file_name, clean_label(name)) for name in names]

    return _each(images, rows)


def _each(
    images: Iterable[BoxedImage | ImageError], rows: Callable[[int, BoxedImage], Iterable[Row | ImageError]]
) -> Iterator[Rows]:
    """The rows of each image, worked out ahead in threads; of one that failed, before or now, its error."""

    def work(numbered: tuple[int, BoxedImage | ImageError]) -> Rows:
        number, image = numbered
        if isinstance(image, ImageError):
            return [image]
        try:
            return list(rows(number, image))
        except ImageError as error:
            return [_named(image, error)]

    return map_ahead(work, enumerate(images), PICTURES_AHEAD)


def _crops(
    image: BoxedImage, number: int, image_root: str | Path, folder: Path, min_size: int
) -> Iterator[Row | ImageError]:
    from PIL import Image

    if not image.labels:
        return
    path = os.path.join(image_root, image.file_name)
    picture = read_image(path)
    height, width = picture.shape[:2]
    given = upright_boxes(image.xyxy, image.size or (width, height), path, (width, height))
    boxes, keep = clip_boxes(given, width, height)
    stem = re.sub(r"\s+", "_", posixpath.splitext(posixpath.basename(image.file_name))[0])[:40]
    for place, (left, top, right, bottom) in enumerate(boxes.tolist()):
        if image.crowd[place]:
            continue
        if not keep[place]:
            where = [round(value, 1) for value in image.xyxy[place].tolist()]
            yield ImageError(f"{image.file_name}: box {place} {where} leaves nothing of {width} x {height} pixels")
        elif min(right - left, bottom - top) >= min_size:
            try:
                label = clean_label(image.labels[place])
            except ImageError as error:
                yield _named(image, error)
                continue
            name = f"{number // FOLDER_SIZE:04d}/{number:07d}_{place}_{stem}.jpg"
            (folder / name).parent.mkdir(exist_ok=True)
            Image.fromarray(picture[top:bottom, left:right]).save(folder / name, "JPEG", quality=JPEG_QUALITY)
            yield Row(name, label)


def _named(image: BoxedImage, error: ImageError) -> ImageError:
    text = str(error)
    return error if image.file_name in text else ImageError(f"{image.file_name}: {text}")
