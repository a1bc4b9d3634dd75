"""The one door to OpenVINO: which programs it runs, and its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from shitu.engines.base import Array, EngineOptions, Session
from shitu.engines.cpu import has_bf16
from shitu.engines.onnxruntime import ONNX, check_shapes, reason
from shitu.errors import EngineError
from shitu.models import ModelFolder, Program
from shitu.models.onnx_file import read_onnx

INSTALL = "pip install 'shitu[openvino]'"
OPENVINO = "openvino"  # what model.yaml calls programs that this engine alone runs well


class OpenVino:
    """The engine: ONNX programs in fp32, bf16 (the fp32 program) and int8, on the CPU."""

    def supports(self, model: ModelFolder, options: EngineOptions) -> Program | None:
        if options.use_gpu or (options.precision == "bf16" and not has_bf16()):
            return None
        stored = "fp32" if options.precision == "bf16" else options.precision
        found = (model.find(name, stored, raw=raw) for name in (OPENVINO, ONNX) for raw in (False, True))
        return next(filter(None, found), None)

    def open(self, program: Program, options: EngineOptions) -> Session:
        read_onnx(program.program, program.params)
        openvino = _library()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32",  # else bf16 where it can
            "ENABLE_CPU_PINNING": False,  # several sessions, and the threads that decode, share the cores
        }
        try:
            core = openvino.Core()
            network = core.read_model(str(program.program))
            if program.raw:  # a detector is given one photo at a time; with its size known it takes a sixth less
                network.reshape({port: [1, *list(port.partial_shape)[1:]] for port in network.inputs})
            compiled = core.compile_model(network, "CPU", settings)
        except Exception as error:
            raise EngineError(
                f"{program.program}: OpenVINO could not load it: {reason(error)}. Is the file whole, without operators "
                f"of its own? `shitu models verify {program.program.parent}` checks it"
            ) from error
        return OpenVinoSession(compiled, program)


class OpenVinoSession:
    """One request of a compiled program, for one thread at a time."""

    def __init__(self, compiled: Any, program: Program) -> None:
        self._compiled, self._program, self._request = compiled, program, compiled.create_infer_request()
        self._shapes = {
            port.get_any_name(): [side.get_length() if side.is_static else "any" for side in port.partial_shape]
            for port in compiled.inputs
        }
        self.input_names: list[str] = list(self._shapes)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        check_shapes(self._program, self._shapes, feeds)
        try:
            self._request.infer({name: np.ascontiguousarray(feeds[name]) for name in self.input_names})
            return [self._request.get_tensor(port).data.copy() for port in self._compiled.outputs]
        except Exception as error:
            raise EngineError(
                f"{self._program.program}: OpenVINO could not run it: {reason(error)}; `shitu check` tests the "
                "installation"
            ) from error

    def clone(self) -> OpenVinoSession:
        return OpenVinoSession(self._compiled, self._program)


@cache
def _library() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EngineError(f"openvino cannot be imported ({error}); install it: {INSTALL}") from error
    return openvino
