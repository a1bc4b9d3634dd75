"""Networks that were not made for shitu, as ONNX files: their answers are known from how they are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Shape = Sequence[int | str]
CELL = 8
MATRIX = np.random.default_rng(5).normal(size=(3 * 16, 32)).astype(np.float32)


def save(  # noqa: PLR0917
    path: Path, nodes: Sequence[Any], weights: Mapping[str, NDArray[Any]], inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape], notes: Mapping[str, str] | None = None, kind: int = TensorProto.FLOAT,
) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("theirs", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, dict(notes or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def embedder(path: Path, *, side: Shape = (32, 32), batch: int | str = "n", tokens: bool = False) -> Path:
    """Means of 4 x 4 fields of each plane, times MATRIX; `tokens`: that as the first of 5 tokens, with zeros behind."""
    pool = int(side[0]) // 4 if isinstance(side[0], int) else 8
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["fields"], kernel_shape=[pool, pool], strides=[pool, pool]),
        helper.make_node("Flatten", ["fields"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["image_embeds"]),
    ]
    weights, outputs = {"matrix": MATRIX}, {"image_embeds": [batch, 32]}
    if tokens:
        nodes += [
            helper.make_node("Unsqueeze", ["image_embeds", "one"], ["first"]),
            helper.make_node("Pad", ["first", "pads"], ["last_hidden_state"]),
        ]
        weights |= {"one": np.array([1]), "pads": np.array([0, 0, 0, 0, 4, 0])}
        outputs = {"last_hidden_state": [batch, 5, 32]}
    return save(path, nodes, weights, {"pixel_values": [batch, 3, *side]}, outputs)


def embedded(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """What it says of (3, 32, 32), as a unit vector."""
    fields = tensor.reshape(3, 4, 8, 4, 8).mean(axis=(2, 4)).reshape(-1)
    vector: NDArray[np.float32] = fields @ MATRIX
    return vector / np.linalg.norm(vector)


def cell_boxes(height: int, width: int) -> NDArray[np.float32]:
    """(a, 4) middles and sides of cells of 8 x 8 pixels, row after row."""
    y, x = np.meshgrid(np.arange(0, height, CELL), np.arange(0, width, CELL), indexing="ij")
    middle = np.stack([x, y], -1).reshape(-1, 2) + CELL / 2
    return np.concatenate([middle, np.full_like(middle, CELL)], axis=1).astype(np.float32)


# Red and green of a cell: the scores of the two classes for the box that is the cell.
_SCORES = [
    helper.make_node("AveragePool", ["images"], ["fields"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
    helper.make_node("Slice", ["fields", "zero", "two", "one"], ["colours"]),
    helper.make_node("Reshape", ["colours", "by box"], ["scores"]),  # (1, 2, a)
]
_COUNTS = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "by box": np.array([1, 2, -1])}
NOTES = {"names": "{0: '红', 1: 'green'}", "task": "detect", "imgsz": "[64, 64]", "stride": "32"}


def yolo(path: Path, notes: Mapping[str, str] | None = None, size: tuple[int, int] = (64, 64)) -> Path:
    """(1, 4 + 2, a), as YOLOv8 has it."""
    boxes = cell_boxes(*size).T[None]
    nodes = [*_SCORES, helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1)]
    return save(path, nodes, {**_COUNTS, "boxes": np.ascontiguousarray(boxes)}, {"images": [1, 3, *size]},
                {"output0": [1, 6, boxes.shape[2]]}, notes)  # fmt: skip


def detr(path: Path, *, softmax: bool, size: tuple[int, int] = (64, 64)) -> Path:
    """logits (1, a, 2) of 20 * colour - 10, or (1, a, 3) with a last one of 10; pred_boxes (1, a, 4) in shares."""
    boxes = cell_boxes(*size) / np.tile(np.float32(size[::-1]), 2)
    nodes = [
        *_SCORES,
        helper.make_node("Transpose", ["scores"], ["by query"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["by query", "twenty"], ["steep"]),
        helper.make_node("Add", ["steep", "less"], ["known" if softmax else "logits"]),
        helper.make_node("Identity", ["boxes"], ["pred_boxes"]),
    ]
    weights = {**_COUNTS, "boxes": boxes[None], "twenty": np.float32([20]), "less": np.float32([0 if softmax else -10])}
    if softmax:
        weights["none"] = np.full((1, len(boxes), 1), 10, np.float32)
        nodes.append(helper.make_node("Concat", ["known", "none"], ["logits"], axis=2))
    shapes: dict[str, Shape] = {"logits": [1, len(boxes), 2 + softmax], "pred_boxes": [1, len(boxes), 4]}
    return save(path, nodes, weights, {"images": [1, 3, *size]}, shapes)


def picture(cells: Mapping[tuple[int, int, int, int], int], size: tuple[int, int] = (64, 128)) -> NDArray[np.uint8]:
    """Black, with rectangles (x1, y1, x2, y2) of pure red (0) or green (1)."""
    image = np.zeros((*size, 3), np.uint8)
    for (left, top, right, bottom), plane in cells.items():
        image[top:bottom, left:right, plane] = 255
    return image
