"""ONNX Runtime's quantiser: a network in fp32 -> its int8 twin, some layers left as they are, and the error of each."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.convert.graph import INSTALL, depthwise, join_swish, load
from shitu.engines.onnxruntime import reason
from shitu.errors import EngineError
from shitu.models import Program
from shitu.models.onnx_file import read_onnx

METHODS = {"kl": "Entropy", "percentile": "Percentile", "minmax": "MinMax"}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What may run in int8 beside them. A product of two activations loses most, and is no quicker.
BESIDE = (
    "Add",
    "Clip",
    "Relu",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
    "Flatten",
    "Reshape",
    "Resize",
)
AT_ONCE = 4  # photos whose activations are in memory together
TOLD_OF = 8  # photos on which the error of each layer is measured
Feeds = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LayerError:
    """Signal over noise in decibels: of its weights, of its output after int8 has touched all before it."""

    name: str
    kind: str
    weights: float | None
    output: float | None


class Quantiser:
    """A network in fp32, ready to be quantised again and again with other layers left out.

    `feeds`: the network's inputs for each calibration photo. `detector`: what follows the last convolution (softmax,
    boxes) stays in fp32. `fused`: for an engine that computes what follows a layer within it, in fp32: only what layers
    take in has a range then, not what they give. It gains nothing by depthwise convolutions in int8, which lose most:
    they stay as they are. Raises EngineError where the libraries are missing or refuse the network.
    """

    def __init__(
        self,
        program: Program,
        folder: Path,
        feeds: Sequence[Feeds],
        method: str,
        *,
        detector: bool,
        fused: bool = False,
    ) -> None:
        self._library = quantiser_library()
        self._folder, self._method, self._fused = folder, METHODS[method], fused
        self._plain = folder / "fp32.onnx"
        with _quiet("prepare"):
            self._network = _prepared(program, self._plain)
        self._feeds = [{name: feed[name] for name in self.inputs} for feed in feeds]
        self.layers, self._rest = _layers(self._network.graph, ("Conv",) if detector else LAYERS)
        if fused:
            single = depthwise(self._network.graph)
            self.layers, self._rest = [each for each in self.layers if each not in single], [*self._rest, *single]

    @property
    def inputs(self) -> list[str]:
        constants = {each.name for each in self._network.graph.initializer}
        return [each.name for each in self._network.graph.input if each.name not in constants]

    @property
    def swish(self) -> int:
        """How many activations it has that ONNX Runtime does not compute in int8."""
        return sum(each.op_type == "HardSwish" for each in self._network.graph.node)

    def quantise(self, target: Path, left_out: Sequence[str] = ()) -> None:
        """Write the int8 program, weights inside; `left_out`: names of `layers` that stay in fp32."""
        excluded, beside, extra = {*self._rest, *left_out}, list(BESIDE), dict[str, Any]()
        if self._fused:
            beside, extra["OpTypesToExcludeOutputQuantization"] = [], list(LAYERS)
        else:
            kept, extra["TensorQuantOverrides"] = _borders(self._network, set(left_out))
            excluded |= {*kept, *_with_what_follows(self._network.graph, left_out)}
        quantize, kinds = self._library.quantize_static, self._library.QuantType
        at_once = next(size for size in range(AT_ONCE, 0, -1) if len(self._feeds) % size == 0)  # it wants a divisor
        more: dict[str, Any] = {}
        if "calibration_cache_path" in inspect.signature(quantize).parameters:  # since 1.27: calibrated only once
            more["calibration_cache_path"] = self._folder / "ranges.json"
        with _quiet("quantise"):
            quantize(
                str(self._plain),
                str(target),
                _Reader(self._feeds),
                quant_format=self._library.QuantFormat.QDQ,
                per_channel=True,
                activation_type=kinds.QUInt8,
                weight_type=kinds.QInt8,
                op_types_to_quantize=[*LAYERS, *beside],
                nodes_to_exclude=sorted(excluded),
                calibrate_method=self._library.CalibrationMethod[self._method],
                extra_options={"CalibStridedMinMax": at_once, **extra},
                **more,
            )

    def errors(self, program: Path) -> list[LayerError]:
        """Layer by layer what int8 costs in a program that `quantise` wrote, in the network's order."""
        from onnxruntime.quantization import qdq_loss_debug as debug

        seen = []
        with _quiet("measure"):
            for source in (self._plain, program):
                whole = self._folder / "with activations.onnx"
                debug.modify_model_output_intermediate_tensors(str(source), str(whole))
                seen.append(debug.collect_activations(str(whole), _Reader(self._feeds[:TOLD_OF])))
            outputs = debug.compute_activation_error(debug.create_activation_matching(seen[1], seen[0]))
            weights = debug.compute_weight_error(debug.create_weight_matching(str(self._plain), str(program)))
        found, graph = [], self._network.graph
        for node in (each for each in graph.node if each.name in self.layers):
            told = outputs.get(_after(node, graph)) or {}
            found.append(LayerError(node.name, node.op_type, weights.get(node.input[1]), told.get("xmodel_err")))
        return found


class _Reader:
    """ONNX Runtime's CalibrationDataReader."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds, self._left = feeds, iter(feeds)

    def __len__(self) -> int:
        return len(self._feeds)

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> Feeds:
        return next(self._left)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._feeds[start_index:end_index])


def quantiser_library() -> Any:
    """onnxruntime.quantization. Raises EngineError where it, or onnx, is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime.quantization
    except ImportError as error:
        raise EngineError(f"the quantiser cannot be imported ({error}); install it: {INSTALL}") from error
    return onnxruntime.quantization


def _prepared(program: Program, target: Path) -> Any:
    """The network with its weights inside, batch norms folded, every node named and every shape known; in `target`."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model
    from onnxruntime.quantization.shape_inference import quant_pre_process

    read_onnx(program.program, program.params)  # it points to no file but the one that the card names
    network = load(program.program)
    if any(each.op_type in ("QuantizeLinear", "QLinearConv", "QLinearMatMul") for each in network.graph.node):
        raise EngineError(
            f"{program.program} is quantised already; name the fp32 program as `onnx: fp32` in model.yaml, "
            "or use it as it is, as `onnx: int8`"
        )
    load_external_data_for_model(network, str(program.program.parent))
    whole = target.with_name("whole.onnx")  # of a network in memory it forgets the weights
    onnx.save(network, str(whole))
    quant_pre_process(str(whole), str(target), skip_symbolic_shape=True)
    network = onnx.load(str(target))
    taken = {node.name for node in network.graph.node}
    for number, node in enumerate(network.graph.node):
        name = f"{node.op_type}.{number}"
        node.name = node.name or (f"{name} of its own" if name in taken else name)
    join_swish(network)
    onnx.save(network, str(target))
    return network


def _layers(graph: Any, kinds: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the nodes that may be quantised and hold weights, and of those that follow the last of them."""
    constants, makers = {each.name for each in graph.initializer}, _makers(graph)
    layers = [node for node in graph.node if node.op_type in kinds and node.input[1] in constants]
    before, open_ones = set[str](), list(layers)
    while open_ones:
        node = open_ones.pop()
        if node.name not in before:
            before.add(node.name)
            open_ones += [makers[name] for name in node.input if name in makers]
    return [node.name for node in layers], [node.name for node in graph.node if node.name not in before]


def _with_what_follows(graph: Any, left_out: Sequence[str]) -> set[str]:
    """These layers, and what stands between them and the next ones."""
    found, reached = set(left_out), set[str]()
    for node in graph.node:  # in the order of computation
        if node.name in found or (node.op_type not in LAYERS and reached.intersection(node.input)):
            found.add(node.name)
            reached.update(node.output)
    return found


def _borders(network: Any, left_out: set[str]) -> tuple[list[str], dict[str, Any]]:
    """Where int8 meets a layer that stays in fp32: activations to keep, and the ranges of what they are given.

    The quantiser takes a ReLU6 out, since its output's range of 0 to 6 does the same. Before a layer in fp32, ONNX
    Runtime then takes that range out, too (cosine 0.93 instead of 0.99). Kept, its input gets its range.
    """
    from onnx import numpy_helper

    graph, makers = network.graph, _makers(network.graph)
    constants = {each.name: each for each in graph.initializer}
    kept, limits = [], dict[str, Any]()
    for node in (each for each in graph.node if each.name in left_out):
        before = makers.get(node.input[0])
        if before is None or before.op_type not in ("Clip", "Relu"):
            continue
        kept.append(before.name)
        maker = makers.get(before.input[0])
        if maker is None or maker.name in left_out:
            continue
        ends = [numpy_helper.to_array(constants[name]) for name in before.input[1:3] if name in constants]
        limits[before.input[0]] = [dict(zip(("rmin", "rmax"), (np.float32(end) for end in ends), strict=False))]
        if before.op_type == "Relu":
            limits[before.input[0]] = [{"rmin": np.float32(0)}]
    return kept, {name: value for name, value in limits.items() if value[0]}


def _after(node: Any, graph: Any) -> str:
    """The layer's output, behind its activation where that is all that reads it."""
    readers = [each for each in graph.node if node.output[0] in each.input]
    one = len(readers) == 1 and readers[0].op_type in ("Clip", "Relu", "HardSwish")
    return str(readers[0].output[0] if one else node.output[0])


def _makers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """It prints, and warns by the root logger. Its errors, of any class, become EngineError."""
    import onnxruntime

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(
            f"ONNX Runtime's quantiser could not {what} the network: {reason(error)}; `shitu models verify` tells "
            "whether its files are whole; go on in fp32 where they are"
        ) from error
    finally:
        root.setLevel(level)
        onnxruntime.set_default_logger_severity(2)
