"""LabelMe's JSON files, one beside each image -> images with boxes."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any

import numpy as np

from shitu.datasets.boxed_image import BoxedImage, boxed_image, inner_path
from shitu.datasets.read_text import is_records, read_json
from shitu.errors import ImageError, ShituError, UsageError
from shitu.images.find import is_image_name

WANTED = "a LabelMe file with `imagePath` and `shapes`"
WITHOUT_AREA = ("point", "points", "line", "linestrip")


def find_labelme(root: str | Path) -> list[str]:
    """Paths of the JSON files below `root`, in the order of names, relative to it. Raises UsageError for none."""
    found = sorted(
        posixpath.join(*Path(folder, name).relative_to(root).parts)
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(".json") and not name.startswith(".")
    )
    if not found:
        raise UsageError(f"{root}: no .json file below this folder; LabelMe saves one beside each image")
    return found


def read_labelme(root: str | Path, name: str) -> BoxedImage | ImageError:
    """One file. `file_name` is relative to `root`; image-level labels (flags) come as boxes of the whole image.

    The image is the one of `imagePath` if that lies below `root`, otherwise the one beside the JSON file with the
    same name: the path of the computer where it was labelled says nothing here. `imageData` is ignored.
    """
    try:
        content = read_json(Path(root, name), WANTED)
        shapes = content.get("shapes")
        if not is_records(shapes):
            raise ImageError(f"{name}: `shapes` is no list of objects; wanted {WANTED}")
        size = (content.get("imageWidth"), content.get("imageHeight"))
        boxes = [box for shape in shapes if (box := _box(shape)) is not None]
        flags = content.get("flags")
        if not boxes and isinstance(flags, dict):
            boxes = [(flag, [0, 0, *size], False) for flag, value in flags.items() if value is True]
        return boxed_image(_image_of(root, name, content.get("imagePath")), size, boxes)
    except ShituError as error:
        return error if isinstance(error, ImageError) else ImageError(str(error))


def _box(shape: dict[str, Any]) -> tuple[str, object, bool] | None:
    """(label, xyxy, crowd) around the shape; None for one without area."""
    kind = shape.get("shape_type", "polygon")
    if kind in WITHOUT_AREA:
        return None
    label = shape.get("label")
    try:
        points = np.array(shape.get("points"), np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        points = np.empty((0, 2))
    if len(points) < 2 or not np.isfinite(points).all():
        box: list[float] | None = None
    elif kind == "circle":  # its centre, and a point on it
        radius = float(np.hypot(*(points[1] - points[0])))
        box = [*(points[0] - radius).tolist(), *(points[0] + radius).tolist()]
    else:
        box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    return label if isinstance(label, str) else "", box, False


def _image_of(root: str | Path, name: str, image_path: object) -> str:
    folder, stem = posixpath.dirname(name), posixpath.splitext(name)[0]
    if isinstance(image_path, str) and "\0" not in image_path:
        named = image_path.replace("\\", "/")
        for candidate in (posixpath.join(folder, named), posixpath.join(folder, posixpath.basename(named))):
            try:
                relative = inner_path(candidate)
            except ImageError:
                continue
            if os.path.isfile(Path(root, relative)):  # unlike Path.is_file it takes names of any length
                return relative
    for entry in sorted(os.listdir(Path(root, folder))):
        if is_image_name(entry) and posixpath.join(folder, os.path.splitext(entry)[0]) == stem:
            return posixpath.join(folder, entry)
    raise ImageError(f"{name}: no image {str(image_path)[:80]!r}, and none beside it; copy the image there")
