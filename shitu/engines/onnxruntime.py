"""The one door to ONNX Runtime: which programs it runs, and its sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from shitu.engines.base import Array, EngineOptions, Session, Told
from shitu.engines.cpu import has_int8
from shitu.errors import EngineError
from shitu.models import ModelFolder, Program
from shitu.models.onnx_file import read_onnx

INSTALL = "pip install 'onnxruntime>=1.20,<2'"
ONNX = "onnx"  # what model.yaml calls programs for this engine, and for OpenVINO


class OnnxRuntime:
    """The engine: ONNX programs in fp32 and int8, on the CPU."""

    def supports(self, model: ModelFolder, options: EngineOptions) -> Program | None:
        if options.use_gpu or options.precision not in ("fp32", "int8"):
            return None
        return model.find(ONNX, options.precision) or model.find(ONNX, options.precision, raw=True)

    def open(self, program: Program, options: EngineOptions) -> Session:
        content = read_onnx(program.program, program.params)
        library = _library()
        settings = library.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
        settings.log_severity_level = 3  # not a warning for each constant that a converter left over
        # Its threads would go on spinning after a run, on the cores that the other model wants next.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not has_int8():
            # Sums of two products of uint8 and int8 saturate at 16 bits then; of uint8 alone they do not. Where there
            # is VNNI they never do, and this would be slower.
            settings.add_session_config_entry("session.x64quantprecision", "1")
        if not options.ir_optim:
            settings.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
        if program.params is not None:
            weights = program.params.read_bytes()
            # Given from memory: it never looks for files of its own.
            settings.add_external_initializers_from_files_in_memory([program.params.name], [weights], [len(weights)])
        try:
            return OnnxSession(library.InferenceSession(content, settings, providers=["CPUExecutionProvider"]), program)
        except Exception as error:  # its errors are many classes without a base of their own
            raise EngineError(
                f"{program.program}: ONNX Runtime could not load it: {reason(error)}. Is the file whole, without "
                f"operators of its own? `shitu models verify {program.program.parent}` checks it"
            ) from error


class OnnxSession:
    """Any number of threads may run it at once."""

    def __init__(self, session: Any, program: Program) -> None:
        self._session, self._program = session, program
        self._shapes = {each.name: each.shape for each in session.get_inputs()}
        self.input_names: list[str] = list(self._shapes)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        check_shapes(self._program, self._shapes, feeds)
        try:
            found: list[Array] = self._session.run(
                None, {name: np.ascontiguousarray(feeds[name]) for name in self.input_names}
            )
        except Exception as error:
            raise EngineError(
                f"{self._program.program}: ONNX Runtime could not run it: {reason(error)}; `shitu check` tests the "
                "installation"
            ) from error
        return found

    def told(self) -> Told:
        """Inputs, outputs and notes that the file states."""
        inputs = {
            each.name: (
                # tensor(float) is how it writes float32
                {"float": "float32"}.get(kind := each.type.removeprefix("tensor(").removesuffix(")"), kind),
                tuple(side if isinstance(side, int) and side > 0 else None for side in each.shape),
            )
            for each in self._session.get_inputs()
        }
        outputs = tuple(each.name for each in self._session.get_outputs())
        return Told(inputs, outputs, dict(self._session.get_modelmeta().custom_metadata_map))

    def clone(self) -> OnnxSession:
        return self


def check_shapes(program: Program, shapes: Mapping[str, Sequence[Any]], feeds: Mapping[str, Array]) -> None:
    """Raises EngineError where an input has another shape than the program states; sides that are no int are free.

    OpenVINO runs on what does not fit, and returns what lay in memory.
    """
    for name, sides in shapes.items():
        given = feeds[name].shape
        wanted = [side if isinstance(side, int) and side >= 0 else "any" for side in sides]
        if len(wanted) != len(given) or any(side not in ("any", n) for side, n in zip(wanted, given, strict=True)):
            raise EngineError(
                f"{program.program}: its input {name} is {' x '.join(map(str, wanted))}, and the preprocessing makes "
                f"{' x '.join(map(str, given))}; state what it was trained with as `preprocess` in model.yaml, or take "
                "the program that belongs to it"
            )


@cache
def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported ({error}); install it: {INSTALL}") from error
    return onnxruntime


def reason(error: Exception) -> str:
    """The last words of its messages, which begin with codes and C++ signatures."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rpartition(" : ")[2][-300:]
