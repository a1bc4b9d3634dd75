"""Boxes of two programs, or of one and of people: which have a twin, average precision, recall of the best ten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ConfigError
from shitu.images.boxes import iou_matrix

TWIN = 0.75  # the least IoU of two programs' boxes of one thing
SURE = 0.2  # boxes of lower scores are not asked for a twin; PaddleClas's threshold
LEVELS = [0.5 + 0.05 * step for step in range(10)]
BEST = 10
Floats = NDArray[np.floating]


def agreement(theirs: Sequence[Floats], ours: Sequence[Floats]) -> float:
    """The share of sure boxes that have a twin in the other program's, both ways; 1.0 where neither has any.

    `theirs`, `ours`: for each photo rows (n, 6) of class, score, x1, y1, x2, y2. A twin has the same class and an IoU
    of at least TWIN, whatever its score.
    """
    twins = total = 0
    for one, other in zip(theirs, ours, strict=True):
        for rows, others in ((one, other), (other, one)):
            sure = rows[rows[:, 1] >= SURE]
            near = iou_matrix(sure[:, 2:6], others[:, 2:6]) >= TWIN
            near &= sure[:, :1] == others[None, :, 0]
            twins += int(near.any(axis=1).sum())
            total += len(sure)
    return twins / total if total else 1.0


def precision_and_recall(found: Sequence[Floats], truth: Sequence[Floats]) -> tuple[float, float]:
    """COCO's AP (IoU 0.5 to 0.95, 101 points) of rows (n, 6), all as one class, and recall at IoU 0.5 of BEST a photo.

    `truth`: for each photo its boxes (m, 4) xyxy.
    """
    total = sum(map(len, truth))
    if not total:
        return 0.0, 0.0
    scores, hits, ten = [], [], 0
    for rows, boxes in zip(found, truth, strict=True):
        best = rows[np.argsort(-rows[:, 1], kind="stable")][:100]
        overlaps = iou_matrix(best[:, 2:6], boxes)
        matched = np.stack([_matched(overlaps, level) for level in LEVELS])
        scores.append(best[:, 1])
        hits.append(matched)
        ten += int(matched[0, :BEST].sum())
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.concatenate(hits, axis=1)[:, order]
    return float(np.mean([_average(each, total) for each in right])), ten / total


def _matched(overlaps: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    """Which rows, best first, find a box that none before them took."""
    free = np.ones(overlaps.shape[1], bool)
    hits = np.zeros(overlaps.shape[0], bool)
    for number, row in enumerate(overlaps):
        left = np.where(free, row, -1.0)
        if left.size and left.max() >= level:
            free[left.argmax()] = False
            hits[number] = True
    return hits


def _average(right: NDArray[np.bool_], total: int) -> float:
    """Precision, made falling, at the 101 recalls."""
    true = np.cumsum(right)
    recall, precision = true / total, true / np.arange(1, len(true) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())


def labelled_boxes(path: Path, root: str | None) -> dict[str, NDArray[np.float64]]:
    """Of COCO's JSON: photo's path -> its boxes (n, 4) xyxy, crowds left out. Raises ConfigError.

    The photos lie below `root`, or else in `images` beside the file, or beside it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        places = [Path(root)] if root else [path.parent / "images", path.parent]
        place = next((each for each in places if (each / content["images"][0]["file_name"]).exists()), places[-1])
        names = {each["id"]: str(place / each["file_name"]) for each in content["images"]}
        boxes: dict[str, list[list[float]]] = {name: [] for name in names.values()}
        for each in content["annotations"]:
            if not each.get("iscrowd"):
                x, y, width, height = each["bbox"]
                boxes[names[each["image_id"]]].append([x, y, x + width, y + height])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            f"{path} is no list of boxes ({type(error).__name__}: {error}); a detector is measured on COCO's JSON with "
            "`images` and `annotations`: shitu dataset from-coco and its kin write it"
        ) from error
    return {name: np.asarray(each, np.float64).reshape(-1, 4) for name, each in boxes.items()}
