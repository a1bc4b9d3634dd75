"""Public sets that PaddleClas reads without a list of our form: Market-1501's folders, CompCars' boxes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from shitu.errors import ConfigError
from shitu.training.rec.schema_data import CompCars, Market1501

MARKET_HOME = "market1501/Market-1501-v15.09.15"  # below image_root, as in PaddleClas
_MARKET_NAME = re.compile(r"(-?\d+)_c(\d)")


def market_rows(dataset: Market1501, what: str) -> tuple[str, list[str], list[int], list[int]]:
    """The folder, and of its photos, by name: file names, persons, cameras. Person -1 (junk) is left out.

    Raises ConfigError where there is no such folder, or nothing in it.
    """
    folder = Path(dataset.image_root, MARKET_HOME, dataset.cls_label_path or "")
    try:
        names = sorted(each.name for each in folder.iterdir() if each.suffix == ".jpg")
    except OSError as error:
        raise ConfigError(
            f"{what}: {folder}: {error.strerror}; Market1501 reads the photos of that folder: unpack Market-1501 below "
            f"{what}.image_root, as {MARKET_HOME}, and name one of its folders in cls_label_path (bounding_box_train)"
        ) from error
    found = [(name, match) for name in names if (match := _MARKET_NAME.match(name)) and match[1] != "-1"]
    if not found:
        raise ConfigError(f"{what}: no photo in {folder} is called as Market-1501's, such as 0002_c1s1_000451_03.jpg")
    files = [name for name, _ in found]
    return str(folder), files, [int(match[1]) for _, match in found], [int(match[2]) for _, match in found]


def boxes_of(dataset: CompCars, paths: list[str], what: str) -> np.ndarray:
    """(n, 4) int64: x1, y1, x2, y2 in pixels, from the last line of each image's file below `label_root`.

    Raises ConfigError that counts what is missing and shows the first.
    """
    root, boxes, bad = dataset.label_root or "", np.zeros((len(paths), 4), np.int64), list[str]()
    for row, path in enumerate(paths):
        file = os.path.join(root, f"{path.split('.')[0]}.txt")
        try:
            boxes[row] = [int(each) for each in Path(file).read_text(encoding="utf-8").split()[-4:]]
        except (OSError, ValueError, IndexError):
            bad.append(file)
    if bad:
        raise ConfigError(
            f"{what}: {len(bad):,} of {len(paths):,} images have no file with a box (x1 y1 x2 y2 at its end) below "
            f"label_root ({root}), first: {bad[0]}; mend these, or set bbox_crop: False"
        )
    return boxes
