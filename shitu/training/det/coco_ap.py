"""COCO's twelve numbers of found boxes, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.training.det.coco_data import DetData

# in the order of pycocotools' stats; small is below 32 x 32 pixels of the image, large above 96 x 96
METRICS: tuple[str, ...] = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


@dataclass(frozen=True)
class Found:
    """What was found in image `index` of the data: rows (k, 6) float of class, score, xyxy in the image's pixels."""

    index: int
    rows: NDArray[np.float32]


def coco_metrics(data: DetData, found: Sequence[Found]) -> dict[str, float | None]:
    """The numbers by the names in METRICS; None where there are no boxes of the kind, such as small ones."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped, unused-ignore]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped, unused-ignore]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data.coco
        truth.createIndex()
        records = [record for each in found for record in _records(data, each)]
        # loadRes wants at least one; a box of score 0 that overlaps nothing changes no number
        records = records or [_record(data.image_ids[0], 1, 0.0, [-2.0, -2.0, 1.0, 1.0])]
        evaluation = COCOeval(truth, truth.loadRes(records), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = (float(value) for value in evaluation.stats)
    return {name: None if value < 0 else value for name, value in zip(METRICS, values, strict=True)}


def _records(data: DetData, found: Found) -> list[dict[str, Any]]:
    image_id = data.image_ids[found.index]
    return [
        _record(image_id, int(kind) + 1, score, [x1, y1, x2 - x1, y2 - y1])
        for kind, score, x1, y1, x2, y2 in found.rows.astype(np.float64).tolist()
    ]


def _record(image_id: int, category: int, score: float, xywh: list[float]) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category, "score": score, "bbox": xywh}
