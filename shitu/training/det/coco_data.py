"""A COCO annotation file, checked before any work is done: images that exist, boxes inside them, categories.

Considered: ppdet's own COCODataSet, which downloads COCO where a path is wrong, skips what it cannot use with a line
in the log, and takes boxes as they are; or reading the file here. The file is short to read, hence here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ConfigError
from shitu.training.base.loader import EMPTY_IMAGES
from shitu.training.det.schema import COCODataSet

_log = logging.getLogger("shitu")

_SLACK = 2.0  # pixels that a box may stick out without being counted: rounding
_FEW, _TOO_MANY = 2, 0.05  # number and share of boxes sticking out above which it is no accident


@dataclass(frozen=True)
class DetData:
    """Images in the order of their ids; image i has the boxes `offsets[i]` to `offsets[i + 1]`.

    `xyxy` (m, 4) float32, pixels, inside the image; `classes` (m,) int64, 0 <= class < len(names).
    """

    paths: list[str]
    image_ids: list[int]
    sizes: NDArray[np.int64]  # (n, 2): height, width
    xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    names: tuple[str, ...]
    coco: dict[str, Any]  # for pycocotools: the same images, all boxes, categories numbered from 1

    def __len__(self) -> int:
        return len(self.paths)

    def boxes_of(self, image: int) -> slice:
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))


def read_coco(section: COCODataSet, num_classes: int, *, what: str, training: bool, seed: int = 0) -> DetData:
    """Read and check what `what` (TrainDataset, EvalDataset) points to. Raises ConfigError, and downloads nothing.

    For training, crowds, images without boxes (unless allow_empty) and what `ignore` marks are left out.
    """
    file, folder = _places(section, what)
    content = _content(file)
    images = _images(content, file)
    class_of, names = _classes(content, section, num_classes, file)
    known = {image["id"]: image for image in images}
    annotations = [_annotation(each, known, class_of, file) for each in _list(content, "annotations", file)]
    if not any(not each["iscrowd"] and not each["ignore"] for each in annotations):
        raise ConfigError(f"{file}: has no boxes; {what} wants a file whose `annotations` have a bbox each")
    _into_images(annotations, known, file)
    images = _present(images, folder, what)
    if training:
        images = _trainable(images, annotations, section, seed)
    if section.sample_num > 0:
        images = images[: section.sample_num]
    return _data(images, annotations, names, folder)


def _places(section: COCODataSet, what: str) -> tuple[Path, Path]:
    """The annotation file and the folder of the images, both there."""
    if section.anno_path is None:
        raise ConfigError(f"{what}.anno_path is not set; give a COCO file, such as -o {what}.anno_path=train.json")
    root = Path(section.dataset_dir or ".")
    file, folder = root / section.anno_path, root / (section.image_dir or "")
    advice = f"it is {what}.dataset_dir ({section.dataset_dir or 'not set'}) + "
    if not file.is_file():
        raise ConfigError(f"no annotation file {file}; {advice}anno_path ({section.anno_path}). Nothing is downloaded")
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}; {advice}image_dir ({section.image_dir}). Nothing is downloaded")
    return file, folder


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise ConfigError(f"{file} is not JSON: {error}; a COCO annotation file is wanted") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; check its permissions") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds a {type(content).__name__}; wanted images, annotations and categories")
    return content


def _list(content: dict[str, Any], key: str, file: Path) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        found = ", ".join(list(map(str, content))[:6]) or "nothing"
        raise ConfigError(f"{file} has no list `{key}` (found: {found}); a COCO annotation file is wanted")
    return value


def _images(content: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    images, seen = _list(content, "images", file), set()
    for number, each in enumerate(images):
        fits = isinstance(each, dict) and isinstance(each.get("id"), int) and isinstance(each.get("file_name"), str)
        if not fits or not all(isinstance(each.get(key), int) and each[key] > 0 for key in ("width", "height")):
            raise ConfigError(
                f"{file}: images[{number}] wants id, file_name, width and height; it is {str(each)[:120]}"
            )
        if each["id"] in seen:
            raise ConfigError(f"{file}: images[{number}] has the id {each['id']} of another image; ids must differ")
        seen.add(each["id"])
    if not images:
        raise ConfigError(f"{file}: `images` is empty; a COCO annotation file with images is wanted")
    return sorted(images, key=lambda image: int(image["id"]))


def _classes(
    content: dict[str, Any], section: COCODataSet, num_classes: int, file: Path
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Category id -> class, and the names of the classes."""
    categories = _list(content, "categories", file)
    if not all(isinstance(each, dict) and isinstance(each.get("id"), int) for each in categories):
        raise ConfigError(f"{file}: each of `categories` wants an id (a whole number) and a name")
    categories = sorted(categories, key=lambda each: int(each["id"]))
    names = tuple(str(each.get("name", each["id"])) for each in categories)
    if section.any_category:
        if num_classes != 1:
            raise ConfigError(f"any_category makes every box foreground, so num_classes must be 1, not {num_classes}")
        return {each["id"]: 0 for each in categories}, ("foreground",)
    if len(categories) != num_classes:
        shown = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        advice = "count all as foreground with any_category: true in the dataset's section" if num_classes == 1 else ""
        raise ConfigError(
            f"{file} has {len(categories)} categories ({shown}), but num_classes is {num_classes}; "
            f"{advice or 'set num_classes to their number'}"
        )
    return {each["id"]: number for number, each in enumerate(categories)}, names


def _annotation(each: Any, known: dict[int, Any], class_of: dict[int, int], file: Path) -> dict[str, Any]:
    """What is used of an annotation. `bbox` becomes [x, y, w, h] of floats; `image` is its image's record."""
    if not isinstance(each, dict) or each.get("image_id") not in known or each.get("category_id") not in class_of:
        raise ConfigError(
            f"{file}: an annotation wants the image_id of an image and the category_id of a category; "
            f"this has another: {str(each)[:160]}"
        )
    box: Any = each.get("bbox")
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)
    if not numbers or not np.isfinite(box).all():
        raise ConfigError(f"{file}: annotation {each.get('id')} has the bbox {str(box)[:60]}; wanted [x, y, w, h]")
    area = each.get("area")  # that of the mask, where there is one
    return {
        "image_id": each["image_id"],
        "class": class_of[each["category_id"]],
        "bbox": [float(v) for v in box],
        "area": float(area if isinstance(area, int | float) and area > 0 else box[2] * box[3]),
        "iscrowd": int(bool(each.get("iscrowd", 0))),
        "ignore": int(bool(each.get("ignore", 0)) or box[2] <= 0 or box[3] <= 0),
        "id": each.get("id"),
    }


def _into_images(annotations: list[dict[str, Any]], known: dict[int, Any], file: Path) -> None:
    """Refuse boxes outside their image, and boxes that look like another format."""
    used = [each for each in annotations if not each["ignore"]]
    xywh = np.array([each["bbox"] for each in used]).reshape(-1, 4)
    limits = np.array([[known[each["image_id"]]["width"], known[each["image_id"]]["height"]] for each in used])
    first, last = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    outside = ((first >= limits) | (last <= 0)).any(axis=1)
    sticking = ((first < -_SLACK) | (last > limits + _SLACK)).any(axis=1)
    if outside.any():
        example = _shown(used, outside, known)
        raise ConfigError(f"{file}: {outside.sum()} boxes lie outside their images, such as {example}; mend the file")
    if sticking.sum() > max(_FEW, _TOO_MANY * len(used)):
        raise ConfigError(
            f"{file}: {sticking.sum()} of {len(used)} boxes stick out of their images, such as "
            f"{_shown(used, sticking, known)}; COCO's are [x, y, width, height]: are these [x1, y1, x2, y2], or have "
            "the images' width and height changed places?"
        )
    if sticking.any():
        _log.warning("%s: %d boxes stick out of their images and are cut off there", file, sticking.sum())
    if empty := len(annotations) - len(used):
        _log.warning("%s: %d boxes without area or marked `ignore` are left out", file, empty)


def _shown(used: list[dict[str, Any]], chosen: NDArray[np.bool_], known: dict[int, Any]) -> str:
    each = used[int(np.argmax(chosen))]
    image = known[each["image_id"]]
    return f"{each['bbox']} in {image['file_name']} ({image['width']} x {image['height']})"


def _present(images: list[dict[str, Any]], folder: Path, what: str) -> list[dict[str, Any]]:
    present = [image for image in images if (folder / image["file_name"]).is_file()]
    missing = len(images) - len(present)
    if not present:
        wanted = f"set {what}.image_dir to the folder that its file names are relative to"
        raise ConfigError(f"none of the {missing} images is in {folder}, such as {images[0]['file_name']}; {wanted}")
    if missing:
        example = next(image["file_name"] for image in images if not (folder / image["file_name"]).is_file())
        _log.warning("%s: %d of %d images are not there, such as %s; left out", what, missing, len(images), example)
    return present


def _trainable(
    images: list[dict[str, Any]], annotations: Iterable[dict[str, Any]], section: COCODataSet, seed: int
) -> list[dict[str, Any]]:
    """The images with boxes, and with allow_empty as many others as empty_ratio lets in."""
    with_boxes = {each["image_id"] for each in annotations if not each["ignore"] and not each["iscrowd"]}
    filled = [image for image in images if image["id"] in with_boxes]
    if not section.allow_empty:
        return filled
    empty = [image for image in images if image["id"] not in with_boxes]
    if section.empty_ratio < 1:
        most = int(len(filled) * section.empty_ratio / (1 - section.empty_ratio))
        order = np.random.default_rng([seed, EMPTY_IMAGES, EMPTY_IMAGES]).permutation(len(empty))[:most]
        empty = [empty[number] for number in sorted(order)]
    return sorted(filled + empty, key=lambda image: int(image["id"]))


def _data(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], names: tuple[str, ...], folder: Path
) -> DetData:
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for each in annotations:
        if each["image_id"] in by_image and not each["ignore"]:
            by_image[each["image_id"]].append(each)
    boxes, classes, offsets = [], [], [0]
    for image in images:
        for each in by_image[image["id"]]:
            if not each["iscrowd"]:
                x, y, w, h = each["bbox"]
                right, bottom = min(x + w, image["width"]), min(y + h, image["height"])
                boxes.append([max(x, 0.0), max(y, 0.0), right, bottom])
                classes.append(each["class"])
        offsets.append(len(boxes))
    coco = {
        "images": [{key: image[key] for key in ("id", "width", "height")} for image in images],
        "annotations": [
            {**each, "id": number, "category_id": each["class"] + 1}
            for number, each in enumerate((a for image in images for a in by_image[image["id"]]), 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    return DetData(
        paths=[str(folder / image["file_name"]) for image in images],
        image_ids=[image["id"] for image in images],
        sizes=np.array([[image["height"], image["width"]] for image in images], np.int64).reshape(-1, 2),
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int64),
        offsets=np.array(offsets, np.int64),
        names=names,
        coco=coco,
    )
