"""What the tests on own data share: pictures of known colours, annotation files, and the commands of a page."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.conftest import ROOT

COLOURS = {"红": (200, 30, 30), "绿": (30, 200, 30), "blue sky": (30, 30, 200)}


def picture(path: Path | str, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (8, 6)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def lines(path: Path | str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def everything_but(*names: str) -> list[str]:
    return sorted(name for name in os.listdir() if name not in names)


def labelme(path: str, shapes: list[dict[str, Any]], **more: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.0.1", "imagePath": "a.png", "imageData": "A" * 1000, "shapes": shapes, **more}
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def shape(label: Any, *points: tuple[float, float], kind: str = "rectangle") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None}


def painted(path: str, boxes: dict[str, tuple[int, int, int, int]]) -> None:
    """A 60 x 40 picture with a rectangle of its colour for each label."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    for name, (left, top, right, bottom) in boxes.items():
        pixels[top:bottom, left:right] = COLOURS[name]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def coco(boxes: list[dict[str, Any]], **more: Any) -> str:
    images = [{"id": 7, "file_name": "sub/a.png", "width": 60, "height": 40}]
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS, start=1)]
    annotations = [{"id": number, "image_id": 7, "category_id": 1, **box} for number, box in enumerate(boxes)]
    content = {"images": images, "categories": categories, "annotations": annotations, **more}
    Path("coco.json").write_text(json.dumps(content), encoding="utf-8")
    return "coco.json"


def examples(page: str) -> list[list[str]]:
    """The commands of a page's sh blocks, without `shitu dataset`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[2:] for block in blocks for line in block.splitlines()]
