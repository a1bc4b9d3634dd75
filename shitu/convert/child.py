"""Paddle's part of a conversion, run as a process of its own: python -m shitu.convert.child PROGRAM PARAMS ONNX REPORT

A detector is cut before its NMS, which paddle2onnx aborts on. A process of its own, because paddle2onnx ends its
process where it cannot convert, and because static graphs and the old IR are settings of a whole process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

OPSET = 14  # HardSwish is one operator from here on: OpenVINO runs it within its convolutions
NMS_KEYS = ("score_threshold", "nms_threshold", "nms_top_k", "keep_top_k")
NMS_OPERATORS = ("multiclass_nms3", "matrix_nms", "multiclass_nms2", "multiclass_nms")


def convert(program: Path, params: Path, onnx: Path) -> dict[str, Any]:
    """Write `onnx`; {} or what a detector was cut at: its `nms`, and `levels` (how many) of a PicoDet without boxes."""
    import paddle

    paddle.enable_static()
    with tempfile.TemporaryDirectory() as folder:
        told: dict[str, Any] = {}
        if program.suffix == ".pdmodel":
            told = _cut_old(paddle, program, params, Path(folder) / "cut")
        else:
            told = _cut_new(paddle, program, params, Path(folder) / "cut")
        if told:
            program, params = (next(Path(folder).glob(f"cut{end}")) for end in (program.suffix, ".pdiparams"))
        import paddle2onnx

        # Not its default optimiser, Polygraphy: that one installs packages on its own.
        paddle2onnx.export(str(program), str(params), str(onnx), opset_version=OPSET, optimize_tool="None")
    return told


def _cut_old(paddle: Any, program: Path, params: Path, target: Path) -> dict[str, Any]:
    """A .pdmodel: PaddleDetection's, whose boxes are decoded in a loop, is cut at the levels of its head."""
    from paddle.pir_utils import OldIrGuard

    static = paddle.static
    with OldIrGuard(), static.scope_guard(static.Scope()):
        executor = static.Executor(paddle.CPUPlace())
        network, _, _ = static.load_inference_model(
            str(program.parent), executor, model_filename=program.name, params_filename=params.name
        )
        block = network.global_block()
        nms = next((each for each in block.ops if each.type in NMS_OPERATORS), None)
        if nms is None:
            return {}
        told: dict[str, Any] = {"nms": {key: nms.attr(key) for key in NMS_KEYS}}
        if any(each.type == "while" for each in block.ops):
            wanted = _levels(block)
            told["levels"] = len(wanted) // 2
            feeds = ["image"]
        else:
            wanted = [nms.input("BBoxes")[0], nms.input("Scores")[0]]
            feeds = [name for name in ("image", "scale_factor") if block.has_var(name)]
        _keep(block, wanted)
        static.save_inference_model(
            str(target), [block.var(n) for n in feeds], [block.var(n) for n in wanted], executor, program=network
        )
    return told


def _levels(block: Any) -> list[str]:
    """score, sides, score, sides ... of each level: a head is split in two, and what is the score gets a sigmoid."""
    by_output = {name: each for each in block.ops for key in each.output_names for name in each.output(key)}
    by_input: dict[str, list[Any]] = {}
    for each in block.ops:
        for key in each.input_names:
            for name in each.input(key):
                by_input.setdefault(name, []).append(each)
    found = []
    for each in block.ops:
        turned = by_output.get(each.input("X")[0]) if each.type == "sigmoid" else None
        split = by_output.get(turned.input("X")[0]) if turned is not None and turned.type == "transpose2" else None
        if split is not None and split.type == "split":
            sides = next(op for op in by_input[split.output("Out")[1]] if op.type == "transpose2")
            found += [each.output("Out")[0], sides.output("Out")[0]]
    return found


def _keep(block: Any, wanted: list[str]) -> None:
    """Remove the operators that `wanted` does not need."""
    needed = set(wanted)
    for number in range(len(block.ops) - 1, -1, -1):
        each = block.ops[number]
        outputs = {name for key in each.output_names for name in each.output(key)}
        if outputs & needed and each.type != "while":  # a loop also gives out what it takes in
            needed |= {name for key in each.input_names for name in each.input(key)}
        elif each.type != "feed":
            block._remove_op(number)


def _cut_new(paddle: Any, program: Path, params: Path, target: Path) -> dict[str, Any]:
    """A .json."""
    static = paddle.static
    with static.scope_guard(static.Scope()):
        executor = static.Executor(paddle.CPUPlace())
        network, feeds, _ = static.load_inference_model(
            str(program.parent), executor, model_filename=program.name, params_filename=params.name
        )
        operators = network.global_block().ops
        nms = next((each for each in operators if each.name().removeprefix("pd_op.") in NMS_OPERATORS), None)
        if nms is None:
            return {}
        attributes = nms.attrs()
        values = {each.attrs()["name"]: each.result(0) for each in operators if each.name() in ("pd_op.data",)}
        inputs = [values[name] for name in feeds if name in ("image", "scale_factor")]
        outputs = [nms.operand_source(0), nms.operand_source(1)]
        static.save_inference_model(str(target), inputs, outputs, executor, program=network)
    return {"nms": {key: attributes[key] for key in NMS_KEYS}}


def main() -> None:
    program, params, onnx, report = (Path(each) for each in sys.argv[1:5])
    report.write_text(json.dumps(convert(program, params, onnx)), encoding="utf-8")


if __name__ == "__main__":
    main()
