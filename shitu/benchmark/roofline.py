"""How many multiply-adds a network is, and how long the machine would take for them at least."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu.benchmark.limits import Limits
from shitu.engines.base import Array, EngineOptions
from shitu.engines.onnxruntime import ONNX, OnnxRuntime
from shitu.errors import ShituError
from shitu.models import ModelFolder, Program
from shitu.models.onnx_file import read_onnx

# Which inputs of an operator are multiplied.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = {"MatMul": 0, "Gemm": 0, "MatMulInteger": 0, "QLinearMatMul": 0}
_STATED = re.compile(r"([\d.]+) ?([MG]) MACs")


@dataclass(frozen=True)
class Work:
    """Of one image: multiply-adds (None: unknown) with the source of that number; bytes of the weights."""

    macs: int | None
    source: str
    weights: int


def work_of(model: ModelFolder, program: Program, image: Array, others: Mapping[str, Array]) -> Work:
    """Counted in an ONNX program of the model, else as its card states it.

    `image`: (1, 3, height, width); `others`: further inputs by their names. The weights are those of `program`.
    """
    weights = program.files[-1].stat().st_size
    found = model.find(ONNX) or model.find(ONNX, raw=True)
    if found is not None:
        try:
            return Work(count_macs(found, image, others), "counted", weights)
        except (ImportError, ShituError):
            pass
    if stated := _STATED.search(model.card.architecture):
        return Work(round(float(stated[1]) * (1e6 if stated[2] == "M" else 1e9)), "model.yaml", weights)
    why = "no ONNX program" if found is None else "`onnx` is not installed, or could not read it"
    return Work(None, f"unknown: {why}, and model.yaml states none", weights)


def count_macs(program: Program, image: Array, others: Mapping[str, Array]) -> int:
    """Multiply-adds of convolutions and matrix products for one image; ImportError where `onnx` is not installed.

    The network runs once with what these operators make as outputs: every shape is then known.
    """
    import onnx

    network = onnx.load_from_string(read_onnx(program.program, program.params))
    graph = network.graph
    weights = {each.name for each in graph.initializer}
    feeds = {each.name: others.get(each.name, image) for each in graph.input if each.name not in weights}
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    shapes |= {name: tuple(value.shape) for name, value in feeds.items()}
    nodes = [node for node in graph.node if node.op_type in {**_CONVOLUTIONS, **_PRODUCTS}]
    wanted = {name for node in nodes for name in (_factor(node), node.output[0])} - set(shapes)
    there = {each.name for each in graph.output}
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(wanted - there))
    names = [each.name for each in graph.output]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes.onnx"
        path.write_bytes(network.SerializeToString())
        changed = Program(ONNX, "fp32", path, program.params)
        outputs = OnnxRuntime().open(changed, EngineOptions(ir_optim=False)).run(feeds)
    shapes |= {name: tuple(value.shape) for name, value in zip(names, outputs, strict=True)}
    return sum(_macs(node, shapes) for node in nodes)


def _factor(node: Any) -> str:
    return str(node.input[{**_CONVOLUTIONS, **_PRODUCTS}[node.op_type]])


def _macs(node: Any, shapes: Mapping[str, Sequence[int]]) -> int:
    """Values that come out, times what is summed for each."""
    factor = shapes[_factor(node)]
    if node.op_type in _CONVOLUTIONS:  # weights (out, in / groups, height, width)
        summed = math.prod(factor[1:])
    else:
        turned = any(each.name == "transA" and each.i for each in node.attribute)
        summed = factor[0 if turned else -1]
    return math.prod(shapes[node.output[0]]) * summed


def least_seconds(work: Work, limits: Limits, precision: str, batch: int = 1) -> float | None:
    """What one image takes at least where `batch` share a run: the slower of arithmetic and reading the weights.

    What goes between the layers is taken to stay in the caches. None where the work or the peak is unknown.
    """
    peak = limits.peaks.get(precision)
    if work.macs is None or not peak or not limits.bandwidth:
        return None
    return max(work.macs / peak, work.weights / limits.bandwidth / batch)
