"""Heads of foreign detectors: outputs written here from known boxes are read back, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.convert.add_output import detector_reading
from shitu.convert.add_source import Asked, Facts
from shitu.errors import EngineError, ModelError, UsageError
from shitu.models import ModelCard, ModelFolder, Nms, Program
from shitu.models.model_yaml import Head
from shitu.recognise.decode import decode_for
from shitu.recognise.preprocess import CV2_INTERPOLATION, Crop, Letterbox, Preprocessor, Resize

SIZE = (96, 160)  # height, width
LABELS = ("a", "b", "c")
# class, score, x1, y1, x2, y2: apart from each other, so that no NMS takes one
OBJECTS = np.float32([[0, 0.9, 3, 5, 30, 40], [2, 0.7, 60, 50, 100, 90], [1, 0.4, 120.5, 10.25, 150, 33.5]])
PROGRAM = Program("onnx", "fp32", Path("x.onnx"))
Outputs = list[NDArray[np.float32]]


def folder(kind: str, **more: Any) -> ModelFolder:
    ops = ({"Letterbox": {"size": list(SIZE)}}, {"ToCHWImage": None})
    head = Head(kind, more.pop("activation", "sigmoid"), more.pop("classes", ()))
    card = ModelCard(
        name="x", task="detection", labels=more.pop("labels", LABELS), programs=(PROGRAM,), head=head,
        transform_ops=ops, nms=Nms(0.05, 0.6, 1000, 100), **more,
    )  # fmt: skip
    return ModelFolder(Path("x"), card)


def middles(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([(rows[:, 2:4] + rows[:, 4:6]) / 2, rows[:, 4:6] - rows[:, 2:4]], axis=1)


def spread(count: int, width: int, seed: int = 3) -> tuple[NDArray[np.float32], list[int]]:
    """Rows of zeros, and where the objects are put among them."""
    places = np.random.default_rng(seed).choice(count, len(OBJECTS), replace=False)
    return np.zeros((count, width), np.float32), [int(each) for each in places]


def yolo8() -> Outputs:
    rows, places = spread(300, 4 + 3)
    for at, object_, box in zip(places, OBJECTS, middles(OBJECTS), strict=True):
        rows[at, :4], rows[at, 4 + int(object_[0])] = box, object_[1]
    return [np.ascontiguousarray(rows.T)[None]]


def yolo8_turned() -> Outputs:
    return [yolo8()[0].transpose(0, 2, 1)]


def yolo5() -> Outputs:
    """Score = objectness * class."""
    rows, places = spread(400, 5 + 3)
    for at, object_, box in zip(places, OBJECTS, middles(OBJECTS), strict=True):
        rows[at, :4], rows[at, 4], rows[at, 5 + int(object_[0])] = box, 0.95, object_[1] / 0.95
    return [rows[None]]


def levels(strides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """stride, y, x of every cell, level after level and row after row."""
    return [
        (stride, y, x)
        for stride in strides
        for y in range(math.ceil(SIZE[0] / stride))
        for x in range(math.ceil(SIZE[1] / stride))
    ]


def yolox() -> Outputs:
    cells = levels((8, 16, 32))
    rows, places = spread(len(cells), 5 + 3)
    for at, object_, (cx, cy, width, height) in zip(places, OBJECTS, middles(OBJECTS), strict=True):
        stride, y, x = cells[at]
        rows[at, :4] = cx / stride - x, cy / stride - y, math.log(width / stride), math.log(height / stride)
        rows[at, 4], rows[at, 5 + int(object_[0])] = 1, object_[1]
    return [rows[None]]


def picodet() -> Outputs:
    """A side of d strides is a distribution over the two bins beside d; every object from a cell of stride 16 in it."""
    scores, sides = [], []
    for stride in (8, 16, 32, 64):
        cells = levels((stride,))
        score, side = np.zeros((len(cells), 3), np.float32), np.full((len(cells), 4, 8), -30, np.float32)
        for object_ in OBJECTS if stride == 16 else ():
            x1, y1, x2, y2 = map(float, object_[2:])
            at = cells.index((16, int((y1 + y2) / 32), int((x1 + x2) / 32)))
            cx, cy = (cells[at][2] + 0.5) * 16, (cells[at][1] + 0.5) * 16
            for number, distance in enumerate([cx - x1, cy - y1, x2 - cx, y2 - cy]):
                low = int(distance // 16)
                share = distance / 16 - low
                side[at, number, low] = math.log(max(1 - share, 1e-9))
                side[at, number, low + 1] = math.log(max(share, 1e-9))
            score[at, int(object_[0])] = object_[1]
        scores.append(score[None])
        sides.append(side.reshape(1, len(cells), 32))
    return [*scores, *sides]


def detr(activation: str = "sigmoid") -> Outputs:
    boxes, places = spread(50, 4)
    logits = np.full((50, 3 + (activation == "softmax")), -20, np.float32)
    if activation == "softmax":
        logits[:, 3] = 20
    for at, object_, box in zip(places, OBJECTS, middles(OBJECTS), strict=True):
        boxes[at] = box / np.tile(np.float32(SIZE[::-1]), 2)
        score = float(object_[1])
        logits[at, int(object_[0])] = math.log(score / (1 - score))
        if activation == "softmax":
            logits[at, 3] = 0
    return [logits[None], boxes[None]]


def detr_turned() -> Outputs:
    return detr()[::-1]


def detr_softmax() -> Outputs:
    return detr("softmax")


def rows() -> Outputs:
    found = np.zeros((1, 20, 6), np.float32)
    found[0, : len(OBJECTS)] = OBJECTS[:, [2, 3, 4, 5, 1, 0]]
    return [found]


MADE: list[Callable[[], Outputs]] = [
    yolo8, yolo8_turned, yolo5, yolox, picodet, detr, detr_turned, detr_softmax, rows,
]  # fmt: skip


def named(make: Callable[[], Outputs]) -> dict[str, str]:
    kind, _, rest = make.__name__.partition("_")
    return {"kind": kind, "activation": "softmax" if rest == "softmax" else "sigmoid"}


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_known_boxes_are_read(make: Callable[[], Outputs]) -> None:
    found = decode_for(folder(**named(make)), PROGRAM)(make())
    assert found.dtype == np.float32
    found = found[np.argsort(-found[:, 1])]
    np.testing.assert_allclose(found, OBJECTS, atol=2e-3)
    assert len(decode_for(folder(**named(make)), PROGRAM, 0.5)(make())) == 2


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_a_choice_of_classes_keeps_their_numbers(make: Callable[[], Outputs]) -> None:
    found = decode_for(folder(**named(make), classes=("c", "b")), PROGRAM)(make())
    found = found[np.argsort(-found[:, 1])]
    np.testing.assert_allclose(found, OBJECTS[1:], atol=2e-3)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_nothing_found_is_no_rows(make: Callable[[], Outputs]) -> None:
    silent = [np.full_like(each, -20 if "detr" in make.__name__ else 0) for each in make()]
    if make is detr_softmax:
        silent[0][..., -1] = 20
    assert decode_for(folder(**named(make)), PROGRAM, 0.01)(silent).shape == (0, 6)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_other_outputs_are_told(make: Callable[[], Outputs]) -> None:
    """Of two images, of another number of classes, of one axis less."""
    whole = decode_for(folder(**named(make)), PROGRAM)
    more = decode_for(folder(**named(make), labels=(*LABELS, "d")), PROGRAM)
    for decode, outputs in [
        (whole, [np.concatenate([each, each]) for each in make()]),
        (whole, [each[0] for each in make()]),
        *([(more, make())] if make is not rows else []),
    ]:
        with pytest.raises(EngineError, match=r"outputs of shape \[.*; wanted .*correct head or labels in its card"):
            decode(outputs)


@pytest.mark.parametrize("make", [yolo8, yolox, detr, rows], ids=lambda make: make.__name__)
def test_boxes_that_are_not_finite_are_no_boxes(make: Callable[[], Outputs]) -> None:
    outputs = make()
    for each in outputs if make is not detr else outputs[1:]:
        if make is yolo8:
            each[0, 2] = np.inf
        else:
            each[0, :, 2] = 1e9 if make is yolox else np.inf
    with pytest.raises(EngineError, match="gave a box that is not finite"):
        decode_for(folder(**named(make)), PROGRAM)(outputs)


def test_overlapping_boxes_go_by_class() -> None:
    (output,) = yolo8()
    beside = np.argwhere(output[0, 4:].any(axis=0)).ravel()
    free = next(at for at in range(300) if at not in beside)
    first = next(at for at in beside if output[0, 4, at] > 0)
    output[0, :, free] = output[0, :, first] * np.float32([1, 1, 1, 1, 0.5, 0, 0])
    decode = decode_for(folder("yolo8"), PROGRAM)
    assert len(decode([output])) == 3
    output[0, 4:, free] = [0, 0.45, 0]
    assert len(decode([output])) == 4


def test_a_head_without_what_it_needs() -> None:
    with pytest.raises(ModelError, match="has no `nms`"):
        decode_for(ModelFolder(Path("x"), ModelCard(name="x", task="detection", labels=LABELS, programs=(PROGRAM,),
                                                    head=Head("yolo8"))), PROGRAM)  # fmt: skip
    with pytest.raises(ModelError, match="wants preprocess or transform_ops of one input size beside it"):
        decode_for(ModelFolder(Path("x"), ModelCard(name="x", task="detection", labels=LABELS, programs=(PROGRAM,),
                                                    head=Head("detr"))), PROGRAM)  # fmt: skip


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_heads_are_told_from_their_shapes(make: Callable[[], Outputs]) -> None:
    outputs, wanted = make(), named(make)
    told = Facts(SIZE, 1, ())
    if make in (yolo8_turned, yolo5):  # as many boxes as the input's cells have, as in real ones
        grid = len(levels((8, 16, 32)))
        outputs = [np.resize(outputs[0], (1, 3 * grid if make is yolo5 else grid, outputs[0].shape[2]))]
    reading = detector_reading(outputs, told, Asked(labels=LABELS))
    assert reading.kind == wanted["kind"]
    assert reading.card["head"].get("activation", "sigmoid") == wanted["activation"]
    if make is not rows:
        with pytest.raises(UsageError):
            detector_reading(outputs, told, Asked(labels=("only",)))


def test_decoded_boxes_of_yolox_are_not_taken_for_offsets() -> None:
    grid = levels((8, 16, 32))
    decoded = np.zeros((1, len(grid), 8), np.float32)
    decoded[0, :, :2] = [((x + 0.5) * stride, (y + 0.5) * stride) for stride, y, x in grid]
    reading = detector_reading([decoded], Facts(SIZE, 1, ()), Asked(labels=LABELS))
    assert reading.kind == "yolo5"
    shares = np.random.default_rng(0).random((1, 300, 7), np.float32)
    with pytest.raises(ModelError, match="its boxes are shares of the input, as Ultralytics exports RT-DETR"):
        detector_reading([shares], Facts(SIZE, 1, ()), Asked(labels=LABELS))


@pytest.mark.parametrize(
    "geometry",
    [
        (Letterbox(96, 160),),
        (Letterbox(96, 160, centred=False),),
        (Resize(96, 160),),
        (Resize(96, 160, keep_ratio=True, by_factor=True),),
        (Resize(120, 200), Crop(96, 160)),
        (Resize(short=100, interpolation=CV2_INTERPOLATION["area"]), Crop(96, 96)),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(200, 300), (300, 200), (97, 411)])
def test_points_are_mapped_back_to_where_they_were(geometry: Any, size: tuple[int, int]) -> None:
    """A bright square of a black photo: the middle of its light in the input, mapped back, is its own middle."""
    rows, columns = size
    y, x = rows // 2 - 12, columns // 2 + 9
    image = np.zeros((rows, columns, 3), np.uint8)
    image[y - 15 : y + 15, x - 15 : x + 15] = 255
    prepare = Preprocessor(geometry, np.tile(np.arange(256, dtype=np.float32), (3, 1)))
    plane = prepare(image)[0] - (114 if isinstance(geometry[0], Letterbox) else 0)
    plane = np.where(plane > 0, plane, 0)
    light = plane / plane.sum()
    middle = [(light.sum(axis=axis) * (np.arange(light.shape[1 - axis]) + 0.5)).sum() for axis in (0, 1)]
    found = prepare.back(np.float32([[*middle, *middle]]), rows, columns)[0]
    np.testing.assert_allclose(found, [x, y, x, y], atol=0.6)
