"""Images with boxes of any category -> one COCO file with the single category `foreground`."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from shitu.datasets.boxed_image import BoxedImage, Floats, upright_size
from shitu.datasets.write_list import workspace
from shitu.errors import ImageError, UsageError
from shitu.images.read_ahead import map_ahead

CATEGORY = {"id": 1, "name": "foreground"}
FILES_AHEAD = 64
DECIMALS = 2  # of a pixel; COCO's own files have two


@dataclass
class Report:
    """What went into the file, what was left out and why, and the images that failed."""

    images: int = 0
    boxes: int = 0
    clipped: int = 0  # of the boxes
    dropped: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """`min_area` in square pixels, after clipping. An image with more than `max_boxes` (0: no limit) is left out:
    without some of its boxes it would teach that objects are background. `skip_missing`: an absent file is no failure.
    """

    min_area: float = 0.0
    max_boxes: int = 0
    skip_missing: bool = False


def write_foreground(
    images: Iterable[BoxedImage | ImageError],
    root: str | Path | None,
    target: Path,
    rules: Rules,
    progress: Callable[[int], object] = lambda count: None,
) -> Report:
    """Write `target`, with paths relative to `root` (ppdet's dataset_dir). Memory does not grow with the images.

    With no `root` the images are not looked for; their sizes must be known, then.
    An image that never had a box stays, as a picture of background; one that lost all its boxes goes.
    Raises UsageError where no image is left or the file cannot be written.
    """
    report = Report()
    with coco_file(target) as writer:
        for found in map_ahead(lambda image: _measured(image, root), images, FILES_AHEAD):
            progress(1)
            if isinstance(found, ImageError):
                report.failed.append(str(found))
            elif found.size is not None:
                _add(writer, found, found.size, rules, report)
            elif rules.skip_missing:
                report.dropped["images that are not there"] += 1
            else:
                missing = f"{found.file_name}: no such file below {root}; unpack the images there, or --skip-missing"
                report.failed.append(missing)
        report.images, report.boxes = writer.images, writer.boxes
        if not report.images:
            first = f"; first: {report.failed[0]}" if report.failed else ""
            raise UsageError(
                f"no image is left for {target} ({len(report.failed)} failed{first}); mend these, or ask for less"
            )
    return report


class CocoWriter:
    """Writes images and their boxes as they come: the latter wait in a second file."""

    def __init__(self, images: IO[str], boxes: IO[str]) -> None:
        self._images, self._boxes = images, boxes
        self.images = self.boxes = 0

    def add(self, file_name: str, size: tuple[int, int], xyxy: Floats) -> None:
        """One image of `size` (width, height) with boxes (n, 4) inside it. Ids count from 1."""
        self.images += 1
        image = {"id": self.images, "file_name": file_name, "width": size[0], "height": size[1]}
        self._images.write(("\n" if self.images == 1 else ",\n") + json.dumps(image, ensure_ascii=False))
        for left, top, right, bottom in xyxy.tolist():
            self.boxes += 1
            bbox = [round(value, DECIMALS) for value in (left, top, right - left, bottom - top)]
            area = round(bbox[2] * bbox[3], DECIMALS)
            box = {"id": self.boxes, "image_id": self.images, "category_id": CATEGORY["id"], "bbox": bbox, "area": area}
            self._boxes.write(("\n" if self.boxes == 1 else ",\n") + json.dumps({**box, "iscrowd": 0}))


@contextmanager
def coco_file(target: Path) -> Iterator[CocoWriter]:
    """A COCO file that appears when the block ends well. Raises UsageError where it cannot be written."""
    with workspace(target) as folder:
        with (
            (folder / "whole").open("w", encoding="utf-8", newline="\n") as whole,
            (folder / "boxes").open("w+", encoding="utf-8", newline="\n") as boxes,
        ):
            categories = json.dumps([{**CATEGORY, "supercategory": "none"}])
            whole.write(f'{{"info": {{}}, "licenses": [],\n"categories": {categories},\n"images": [')
            yield CocoWriter(whole, boxes)
            whole.write('],\n"annotations": [')
            boxes.seek(0)
            shutil.copyfileobj(boxes, whole)
            whole.write("]}\n")
        os.replace(folder / "whole", target)


def _measured(image: BoxedImage | ImageError, root: str | Path | None) -> BoxedImage | ImageError:
    """With its size, read from the picture where the source does not tell; without one where there is no file."""
    if isinstance(image, ImageError):
        return image
    if root is None:
        return image if image.size else ImageError(f"{image.file_name}: no width and height; mend the annotations")
    path = os.path.join(root, image.file_name)
    if not os.path.isfile(path):  # unlike Path.is_file it takes names of any length
        return replace(image, size=None)
    if image.size is not None:
        return image
    try:
        return replace(image, size=upright_size(path))
    except ImageError as error:
        return error


def _add(writer: CocoWriter, image: BoxedImage, size: tuple[int, int], rules: Rules, report: Report) -> None:
    dropped = report.dropped
    dropped["crowds"] += int(image.crowd.sum())
    given = image.xyxy[~image.crowd]
    given = given[_counted(dropped, "boxes that are none", np.all(np.isfinite(given), axis=1))]
    boxes = np.clip(given, 0, [*size, *size])
    sides = boxes[:, 2:] - boxes[:, :2]
    has_area = _counted(dropped, "boxes without area", np.all(sides >= 10**-DECIMALS, axis=1))
    given, boxes, sides = given[has_area], boxes[has_area], sides[has_area]
    large = _counted(dropped, f"boxes below {rules.min_area:g} square pixels", np.prod(sides, axis=1) >= rules.min_area)
    given, boxes = given[large], boxes[large]
    if rules.max_boxes and len(boxes) > rules.max_boxes:
        dropped[f"images with more than {rules.max_boxes} boxes"] += 1
    elif len(image.xyxy) and not len(boxes):
        dropped["images left without a box"] += 1
    else:
        writer.add(image.file_name, size, boxes)
        report.clipped += int(np.any(boxes != given, axis=1).sum())


def _counted(dropped: Counter[str], reason: str, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    dropped[reason] += int((~keep).sum())
    return keep
