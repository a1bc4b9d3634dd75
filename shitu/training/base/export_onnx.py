"""The exported program as ONNX, for other engines; paddle2onnx converts it, ONNX Runtime checks it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError
from shitu.models.write import ONNX, PARAMS, PROGRAM

OPSET = 13  # what every ONNX Runtime since 1.8 reads
_INSTALL = "pip install 'shitu[onnx]'"
Floats = NDArray[np.float32]


def write_onnx(folder: Path) -> None:
    """inference.onnx beside inference.json; the same input `x`. Raises EngineError."""
    paddle2onnx = _imported("paddle2onnx")
    files = [str(folder / name) for name in (PROGRAM, PARAMS, ONNX)]
    try:
        with _stdout_on_stderr():
            # Not its default optimiser, Polygraphy: that one installs packages on its own.
            paddle2onnx.export(*files, opset_version=OPSET, optimize_tool="None")
    except Exception as error:  # its own errors are RuntimeErrors and SystemErrors of C++
        raise EngineError(f"paddle2onnx could not convert the program: {error}; export without --onnx") from error
    if not (folder / ONNX).is_file():
        raise EngineError("paddle2onnx could not convert the program and does not say why; export without --onnx")


def onnx_runner(program: Path) -> Callable[[Floats], Any]:
    """Images -> features by ONNX Runtime. Raises EngineError."""
    onnxruntime = _imported("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # not a warning for each constant that paddle2onnx left over
    session = onnxruntime.InferenceSession(str(program), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"x": images})[0]


def _imported(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise EngineError(f"--onnx needs {library} ({error}): {_INSTALL}") from error


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """The converter, and the C++ below it, report their progress on stdout, where results go."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
