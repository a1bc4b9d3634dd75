"""Outputs of detectors from elsewhere -> rows (n, 6) float32: class, score, x1, y1, x2, y2 in pixels of the input.

Each kind of head gives boxes (a, 4) and scores (c, a) of one image; those that end before their NMS then get ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError, ModelError
from shitu.models import ModelFolder, Nms
from shitu.recognise.nms import multiclass_nms
from shitu.recognise.stated import stated_preprocessor

Floats = NDArray[np.float32]
Outputs = Sequence[NDArray[Any]]
Size = tuple[int, int]  # height and width of the network's input
Dense = tuple[Floats, Floats]  # boxes (a, 4), scores (c, a)
TINY = 1e-6  # a score that says nothing
YOLOX_STRIDES = (8, 16, 32)  # yolox/models/yolo_head.py


class _OtherShapeError(ValueError):
    """What was wanted."""


def head_decoder(model: ModelFolder, nms: Nms | None, least: float) -> Callable[[Outputs], Floats]:
    """`nms`: for the heads of decode.BEFORE_NMS; `least`: rows of a lower score are not wanted.

    Raises ModelError where the card does not say what the decoding needs.
    """
    card, prepare = model.card, stated_preprocessor(model)
    head = card.head
    if head is None or prepare is None or not prepare.one_size:
        raise ModelError(
            f"{model.path}: `head` in its card wants preprocess or transform_ops of one input size beside it"
        )
    size, classes = prepare.input_size(), len(card.labels)
    chosen = np.array([card.labels.index(each) for each in head.classes or card.labels])

    read = _softmax_detr if (head.kind, head.activation) == ("detr", "softmax") else _DENSE.get(head.kind)

    def decode(outputs: Outputs) -> Floats:
        try:
            if read is None:
                return _finite(_rows(outputs, chosen, least), model)
            with np.errstate(invalid="ignore", over="ignore"):  # _finite tells
                boxes, scores = read(outputs, classes, size)
        except _OtherShapeError as error:
            shapes = ", ".join(str(list(each.shape)) for each in outputs)
            raise EngineError(
                f"{model.path}: outputs of shape {shapes}; wanted {error} for `head: {{kind: {head.kind}}}`, {classes} "
                "labels and one image; correct head or labels in its card, or add it again: shitu models add"
            ) from None
        scores = np.ascontiguousarray(scores[chosen])
        rows = _best(boxes, scores, least) if head.kind == "detr" or nms is None else multiclass_nms(boxes, scores, nms)
        rows[:, 0] = chosen[rows[:, 0].astype(int)]
        return _finite(rows, model)

    return decode


def _finite(rows: Floats, model: ModelFolder) -> Floats:
    if not np.isfinite(rows).all():
        raise EngineError(f"{model.path}: the network gave a box that is not finite; is its preprocessing right?")
    return rows


def _one(outputs: Outputs, last: int, wanted: str) -> Floats:
    """The first output without its first axis, (a, last)."""
    first = outputs[0]
    if first.ndim != 3 or len(first) != 1 or first.shape[2] != last:
        raise _OtherShapeError(wanted)
    return np.asarray(first[0], np.float32)


def corners(boxes: Floats) -> Floats:
    """(a, 4) middle and sides -> x1, y1, x2, y2."""
    middle, half = boxes[:, :2], boxes[:, 2:4] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _yolo8(outputs: Outputs, classes: int, size: Size) -> Dense:
    first, channels = outputs[0], 4 + classes
    wanted = f"[1, {channels}, A] or [1, A, {channels}]"
    if first.ndim == 3 and first.shape[1] == channels:
        first = first.transpose(0, 2, 1)
    found = _one([first], channels, wanted)
    return corners(found), found[:, 4:].T


def _yolo5(outputs: Outputs, classes: int, size: Size) -> Dense:
    found = _one(outputs, 5 + classes, f"[1, A, {5 + classes}]")
    return corners(found), (found[:, 5:] * found[:, 4:5]).T


def _yolox(outputs: Outputs, classes: int, size: Size) -> Dense:
    """Boxes in cells, sides as logarithms; from the upper left corner of each cell, unlike PicoDet's."""
    places = [cells(size, stride) for stride in YOLOX_STRIDES]
    strides = np.concatenate([np.full((len(at), 1), stride) for at, stride in zip(places, YOLOX_STRIDES, strict=True)])
    found = _one(outputs, 5 + classes, f"[1, {len(strides)}, {5 + classes}]")
    if len(found) != len(strides):
        raise _OtherShapeError(f"[1, {len(strides)}, {5 + classes}]")
    middle = (found[:, :2] + np.concatenate(places)) * strides
    sides = np.exp(found[:, 2:4]) * strides
    return corners(np.concatenate([middle, sides], axis=1).astype(np.float32)), (found[:, 5:] * found[:, 4:5]).T


def cells(size: Size, stride: int) -> NDArray[np.int64]:
    """(cells, 2) x and y of each cell, row after row."""
    y, x = np.meshgrid(*(np.arange(math.ceil(side / stride)) for side in size), indexing="ij")
    return np.stack([x, y], -1).reshape(-1, 2)


def _picodet(outputs: Outputs, classes: int, size: Size) -> Dense:
    """ppdet's PicoHead.post_process: a side is the mean of a distribution over bins, in strides from the middle."""
    levels, boxes, scores = len(outputs) // 2, [], []
    for score, sides in zip(outputs[:levels], outputs[levels:], strict=True) if len(outputs) % 2 == 0 else ():
        shapes = (score.ndim, sides.ndim, score.shape[:-1], score.shape[-1], sides.shape[-1] % 4)
        if shapes != (3, 3, sides.shape[:-1], classes, 0) or len(score) != 1:
            break
        count = score.shape[1]
        stride = 2 ** round(math.log2(math.sqrt(size[0] * size[1] / max(1, count))))
        places = cells(size, stride)
        if len(places) != count:
            break
        logits = np.asarray(sides[0], np.float32).reshape(count, 4, -1)
        shares = softmax(logits)
        distances = (shares @ np.arange(logits.shape[2], dtype=np.float32)) * stride
        middle = (places + 0.5) * stride
        boxes.append(np.concatenate([middle - distances[:, :2], middle + distances[:, 2:]], axis=1))
        scores.append(np.asarray(score[0], np.float32).T)
    if not boxes or len(boxes) != levels:
        raise _OtherShapeError(f"of each level, [1, cells, {classes}], and then of each level, [1, cells, 4 * bins]")
    return np.concatenate(boxes).astype(np.float32), np.concatenate(scores, axis=1)


def _pair(outputs: Outputs, classes: int) -> tuple[Floats, Floats]:
    """Logits (q, classes) and boxes (q, 4), whichever comes first."""
    logits, boxes = outputs[:2] if len(outputs) > 1 else (outputs[0], outputs[0])
    if logits.shape[-1] == 4 != classes:
        logits, boxes = boxes, logits
    if logits.ndim != 3 or logits.shape[::2] != (1, classes) or boxes.shape != (1, logits.shape[1], 4):
        raise _OtherShapeError(f"logits [1, Q, {classes}] and boxes [1, Q, 4]")
    return np.asarray(logits[0], np.float32), np.asarray(boxes[0], np.float32)


def _detr(outputs: Outputs, classes: int, size: Size) -> Dense:
    """Boxes in shares of the input; each class of a query for itself."""
    logits, boxes = _pair(outputs, classes)
    return _in_pixels(boxes, size), (1 / (1 + np.exp(-logits))).T


def _softmax_detr(outputs: Outputs, classes: int, size: Size) -> Dense:
    """The same with one more class, the last, which is none; a query has its best class and no other."""
    logits, boxes = _pair(outputs, classes + 1)
    scores = softmax(logits)[:, :-1]
    best = scores.argmax(axis=1)[:, None] == np.arange(classes)
    return _in_pixels(boxes, size), np.where(best, scores, np.float32(0)).T


def _in_pixels(boxes: Floats, size: Size) -> Floats:
    return corners(boxes) * np.tile(np.array(size[::-1], np.float32), 2)


_DENSE: dict[str, Callable[[Outputs, int, Size], Dense]] = {
    "yolo8": _yolo8,
    "yolo5": _yolo5,
    "yolox": _yolox,
    "picodet": _picodet,
    "detr": _detr,
}


def _best(boxes: Floats, scores: Floats, least: float) -> Floats:
    """As many rows as there are boxes (a, 4) at most, of the best scores (c, a)."""
    numbers, places = np.nonzero(scores >= max(least, TINY))
    order = np.argsort(-scores[numbers, places], kind="stable")[: len(boxes)]
    numbers, places = numbers[order], places[order]
    kept = np.stack([numbers, scores[numbers, places]], axis=1)
    return np.asarray(np.concatenate([kept, boxes[places]], axis=1), np.float32)


def _rows(outputs: Outputs, chosen: NDArray[Any], least: float) -> Floats:
    """x1, y1, x2, y2, score, class, as YOLOv10 and Ultralytics' exports with nms=True; empty rows have score 0."""
    found = _one(outputs, 6, "[1, K, 6]")
    found = found[(found[:, 4] >= max(least, TINY)) & np.isin(found[:, 5], chosen)]
    return np.ascontiguousarray(found[:, [5, 4, 0, 1, 2, 3]])


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True), np.float32)
