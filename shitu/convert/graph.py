"""A converted network: a PicoDet's boxes are computed in it, weights shared with Paddle's, hard swishes made one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from shitu.errors import EngineError

INSTALL = "pip install 'shitu[onnx]'"
SHARED_FROM = 64  # bytes; smaller constants stay in the file


def load(path: Path) -> Any:
    """The ModelProto of a file, without what lies outside it. Raises EngineError without the library."""
    try:
        import onnx
    except ImportError as error:
        raise EngineError(f"onnx cannot be imported ({error}); install it: {INSTALL}") from error
    return onnx.load(str(path), load_external_data=False)


def share_weights(network: Any, params: Path) -> int:
    """Let the weights that `params` holds byte for byte lie there; how many bytes stay in the network."""
    from onnx import TensorProto

    _constants_as_weights(network.graph)
    store, left, places = params.read_bytes(), 0, dict[bytes, int]()
    for tensor in network.graph.initializer:
        raw = tensor.raw_data
        if len(raw) < SHARED_FROM:
            continue
        if raw not in places:
            places[raw] = store.find(raw)
        if places[raw] < 0:
            left += len(raw)
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", params.name), ("offset", places[raw]), ("length", len(raw))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    return left


def _constants_as_weights(graph: Any) -> None:
    """paddle2onnx writes weights as nodes without inputs."""
    nodes = list(graph.node)
    for node in nodes:
        value = next((each for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.op_type != "Constant")


def decode_levels(network: Any, levels: int) -> None:
    """Outputs (n, h, w, c) and (n, h, w, 4 * bins) of each level -> boxes (n, a, 4) and scores (n, c, a).

    As ppdet's PicoHead.post_process: the cell's middle, plus and minus the mean of each side's distribution times the
    stride, clipped to `im_shape` (n, 2), height and width, over `scale_factor` (n, 2), y and x: two new inputs. Strides
    follow from the input's size.
    """
    from onnx import TensorProto, helper

    graph = network.graph
    height, width = (each.dim_value for each in graph.input[0].type.tensor_type.shape.dim[2:])
    outputs = list(graph.output)
    nodes, scores, boxes = [], [], []

    def add(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(name: str, value: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    signs = constant("shitu/signs", [-1, -1, 1, 1])
    for level in range(levels):
        score, sides = outputs[2 * level : 2 * level + 2]
        rows, columns, channels = (each.dim_value for each in sides.type.tensor_type.shape.dim[1:])
        classes, bins = score.type.tensor_type.shape.dim[3].dim_value, channels // 4
        stride = 2 ** round(math.log2(max(height / rows, width / columns)))
        at, n = f"shitu/level{level}/", np.int64
        flat = add("Reshape", [score.name, constant(at + "by class", [0, -1, classes], n)], at + "flat")
        scores.append(add("Transpose", [flat], at + "scores", perm=[0, 2, 1]))
        flat = add("Reshape", [sides.name, constant(at + "by bin", [0, -1, bins], n)], at + "bins")
        shares = add("Softmax", [flat], at + "shares", axis=-1)
        steps = constant(at + "steps", np.arange(bins).reshape(bins, 1) * stride)
        mean = add("MatMul", [shares, steps], at + "mean")
        four = add("Reshape", [mean, constant(at + "by side", [0, -1, 4], n)], at + "distances")
        y, x = np.meshgrid((np.arange(rows) + 0.5) * stride, (np.arange(columns) + 0.5) * stride, indexing="ij")
        centres = constant(at + "centres", np.stack([x, y, x, y], -1).reshape(-1, 4))
        signed = add("Mul", [four, signs], at + "signed")
        boxes.append(add("Add", [signed, centres], at + "boxes"))
    together = add("Concat", boxes, "shitu/boxes of the input", axis=1)
    order, a_box = constant("shitu/x, y, x, y", [1, 0, 1, 0], np.int64), constant("shitu/a box", [-1, 1, 4], np.int64)
    four_of = {}
    for name in ("im_shape", "scale_factor"):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]))
        picked = add("Gather", [name, order], f"shitu/{name} as x, y, x, y", axis=1)
        four_of[name] = add("Reshape", [picked, a_box], f"shitu/{name} of a box")
    positive = add("Max", [together, constant("shitu/zero", 0.0)], "shitu/positive boxes")
    clipped = add("Min", [positive, four_of["im_shape"]], "shitu/clipped boxes")
    add("Div", [clipped, four_of["scale_factor"]], "boxes")
    add("Concat", scores, "scores", axis=2)
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, None, 4]))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None, None]))


def join_swish(network: Any) -> None:
    """x * HardSigmoid(x), into which ONNX Runtime takes HardSwish apart, is one again: OpenVINO knows it so only."""
    from onnx import helper

    graph, twins = network.graph, dict[str, Any]()
    for node in (each for each in graph.node if each.op_type == "HardSigmoid"):
        values = {each.name: each.f for each in node.attribute}
        readers = [each for each in graph.node if node.output[0] in each.input]
        alone = len(readers) == 1 and set(readers[0].input) == {node.input[0], node.output[0]}
        if alone and readers[0].op_type == "Mul" and abs(values.get("alpha", 0.2) - 1 / 6) < 1e-6:
            twins[node.name] = None
            twins[readers[0].name] = helper.make_node(
                "HardSwish", [node.input[0]], list(readers[0].output), name=readers[0].name
            )
    nodes = [twins.get(each.name, each) for each in graph.node]
    del graph.node[:]
    graph.node.extend(node for node in nodes if node is not None)
    for each in network.opset_import:
        if twins and not each.domain:
            each.version = max(each.version, 14)  # its first


def depthwise(graph: Any) -> set[str]:
    """Names of convolutions that see each channel alone."""
    shapes = {each.name: list(each.dims) for each in graph.initializer}
    return {node.name for node in graph.node if node.op_type == "Conv" and shapes.get(node.input[1], [0, 0])[1] == 1}
