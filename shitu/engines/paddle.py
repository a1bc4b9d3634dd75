"""The one door to Paddle Inference: which programs it runs, and its sessions."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shitu.engines.base import Array, EngineOptions, Session
from shitu.engines.cpu import has_bf16
from shitu.errors import EngineError
from shitu.models import ModelFolder, Program
from shitu.models.files import check_files


class Paddle:
    """The engine: programs of Paddle's, in fp32 and bf16 (the fp32 program). Of a detector's, the one with its NMS."""

    def supports(self, model: ModelFolder, options: EngineOptions) -> Program | None:
        if options.precision == "bf16" and (options.use_gpu or not options.use_mkldnn or not has_bf16()):
            return None
        stored = "fp32" if options.precision == "bf16" else options.precision
        return model.find("paddle", stored) or model.find("paddle", stored, raw=True)

    def open(self, program: Program, options: EngineOptions) -> Session:
        return open_session(program.program, program.files[-1], options)


class PaddleSession:
    """Paddle Inference, for both kinds of exported program: `.pdmodel` and Paddle 3's `.json`."""

    def __init__(self, predictor: Any, program: Path) -> None:
        self._predictor = predictor
        self._program = program
        self.input_names: list[str] = list(predictor.get_input_names())
        self._inputs = {name: predictor.get_input_handle(name) for name in self.input_names}
        self._outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        try:
            for name, handle in self._inputs.items():
                handle.copy_from_cpu(np.ascontiguousarray(feeds[name]))
            self._predictor.run()
            return [output.copy_to_cpu() for output in self._outputs]
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(
                f"{self._program}: Paddle could not run it: {_reason(error)}; `shitu check` tests the installation"
            ) from error

    def clone(self) -> PaddleSession:
        return PaddleSession(self._predictor.clone(), self._program)


def open_session(program: Path, params: Path, options: EngineOptions) -> Session:
    """Load a program. Raises EngineError when Paddle is missing or refuses it, ModelError when a file is damaged."""
    check_files(program, params)
    inference = _paddle_inference()
    config = inference.Config(str(program), str(params))
    config.disable_glog_info()
    if options.use_gpu:
        config.enable_use_gpu(options.gpu_mem, 0)
    else:
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(options.threads)
        if options.use_mkldnn:
            config.enable_mkldnn()
            config.set_mkldnn_cache_capacity(10)  # as PaddleClas: batch sizes vary, unbounded it leaks
            if options.precision == "bf16":
                config.enable_mkldnn_bfloat16()
        else:
            config.disable_mkldnn()
    config.switch_ir_optim(options.ir_optim)
    # A .json program exists only in the new IR. The old one is as quick for .pdmodel and creates sooner.
    new_ir = program.suffix == ".json"
    config.enable_new_ir(new_ir)
    config.enable_new_executor(new_ir)
    config.enable_memory_optim()  # after the two lines above: "Not find predictor_id 0" otherwise
    if options.profile:
        config.enable_profile()
    try:
        return PaddleSession(inference.create_predictor(config), program)
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            f"{program}: Paddle could not load it: {_reason(error)}. Is the file whole and made for this version? "
            f"`shitu models verify {program.parent}` checks it, `shitu check` shows the versions"
        ) from error


@cache
def _paddle_inference() -> Any:
    # Read by Paddle's OpenMP when it is loaded: after each run its threads would go on spinning for 200 ms, on the
    # cores that the streams' threads want next (3 ms of 26 for 6 crops after a detector run).
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No ccache found": nothing is compiled here
        try:
            from paddle import inference
        except ImportError as error:
            raise EngineError(
                f"paddlepaddle cannot be imported ({error}); install it: pip install 'paddlepaddle>=3.2.2,<3.3'"
            ) from error
    return inference


@cache
def has_gpu() -> bool:
    _paddle_inference()
    from paddle import device

    return bool(device.is_compiled_with_cuda()) and device.cuda.device_count() > 0


def _reason(error: Exception) -> str:
    """Paddle's errors are pages of C++ stack; the reason begins with its kind, `(Fatal) ` or `FatalError: `."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("---")]
    told = [line for line in lines if re.match(r"\([A-Z]\w+\) |[A-Z]\w+Error: |\[json\.exception", line)]
    return (told or lines or [type(error).__name__])[-1][:300]
