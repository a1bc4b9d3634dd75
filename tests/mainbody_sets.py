"""What the tests of mainbody data share: pictures and annotations of the sets, and what pycocotools reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.dataset_commands import run

Boxes = dict[str, list[list[float]]]
Json = dict[str, Any]
CATEGORIES = [{"id": 3, "name": "Person"}, {"id": 90, "name": "Cup"}]


def picture(path: str, size: tuple[int, int] = (60, 40), orientation: int = 1) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (200, 30, 30)).save(path, exif=exif)


def write_json(path: str, content: Any, encoding: str = "utf-8") -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content), encoding=encoding)
    return path


def coco(images: list[Json], boxes: list[tuple[Any, Any]], **more: Any) -> Json:
    """`boxes`: (image_id, bbox); the categories take turns."""
    annotations = [
        {"id": number, "image_id": image, "bbox": bbox, "category_id": (3, 90)[number % 2], "iscrowd": 0, "area": 1}
        for number, (image, bbox) in enumerate(boxes)
    ]
    return {"images": images, "categories": CATEGORIES, "annotations": annotations, **more}


def image(number: int, name: str, width: int = 60, height: int = 40) -> Json:
    return {"id": number, "file_name": name, "width": width, "height": height}


def opened(path: str) -> tuple[Boxes, dict[str, tuple[int, int]]]:
    """What pycocotools reads: boxes and size by file name. Ids are unique, areas right, boxes inside."""
    from pycocotools.coco import COCO

    read = COCO(path)
    assert [(category["id"], category["name"]) for category in read.loadCats(read.getCatIds())] == [(1, "foreground")]
    boxes: Boxes = {}
    sizes = {}
    assert len(read.getAnnIds()) == len(read.dataset["annotations"])
    assert len(read.getImgIds()) == len(read.dataset["images"])
    for record in read.loadImgs(read.getImgIds()):
        found = read.loadAnns(read.getAnnIds(imgIds=[record["id"]], catIds=[1], iscrowd=False))
        boxes[record["file_name"]] = [box["bbox"] for box in found]
        sizes[record["file_name"]] = (record["width"], record["height"])
        for box in found:
            left, top, width, height = box["bbox"]
            assert left >= 0 <= top
            assert left + width <= record["width"] + 1e-6
            assert top + height <= record["height"] + 1e-6
            assert box["area"] == pytest.approx(width * height, abs=0.01)
    return boxes, sizes


def converted(*arguments: object) -> Boxes:
    done = run("mainbody", *arguments, "-o", "out.json")
    assert done.exit_code == 0, done.stderr
    return opened("out.json")[0]


VOC = (
    "<annotation><folder>x</folder><filename>stale.jpg</filename><size><width>{w}</width><height>{h}</height>"
    "<depth>3</depth></size>{objects}</annotation>"
)
OBJECT = (
    "<object><name>7-Up</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def voc(path: str, *boxes: tuple[object, ...], w: object = 60, h: object = 40) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(VOC.format(w=w, h=h, objects="".join(OBJECT.format(*box) for box in boxes)), encoding="utf-8")
