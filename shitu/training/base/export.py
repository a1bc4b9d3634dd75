"""What a network goes through before its export, and how its program becomes ONNX, for other engines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import EngineError
from shitu.models.write import ONNX, PARAMS, PROGRAM
from shitu.training.base.toolkits import imported

OPSET = 13  # what every ONNX Runtime since 1.8 reads
_ADVICE = "--onnx needs it: pip install 'shitu[onnx]'"
Floats = NDArray[np.float32]


def fuse_batch_norms(network: nn.Layer) -> int:
    """Fold every batch norm that follows a convolution in its layer, in place; for inference only. Returns how many.

    Paddle would do the same at every loading of the program, operator by operator.
    """
    count = 0
    for layer in network.sublayers(include_self=True):
        conv = None
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Conv2D):
                conv = child
            elif conv is not None and isinstance(child, nn.BatchNorm | nn.BatchNorm2D):
                _fold(conv, child)
                layer._sub_layers[name] = nn.Identity()
                conv, count = None, count + 1
    return count


def _fold(conv: nn.Conv2D, norm: nn.BatchNorm | nn.BatchNorm2D) -> None:
    assert norm.weight is not None
    assert norm.bias is not None
    factor = norm.weight / paddle.sqrt(norm._variance + norm._epsilon)
    shift = norm.bias - norm._mean * factor
    if conv.bias is None:
        conv.bias = conv.create_parameter([len(factor)], is_bias=True)
    else:
        shift = shift + conv.bias * factor
    conv.weight.set_value(conv.weight * factor.reshape([-1, 1, 1, 1]))
    conv.bias.set_value(shift)


def re_parameterise(network: nn.Layer) -> int:
    """Make one convolution of each set of parallel branches (PaddleClas's), in place, for inference only.

    Returns how many sets there were.
    """
    count = 0
    for layer in network.sublayers():
        if hasattr(layer, "re_parameterize") and getattr(layer, "use_rep", True) and not layer.is_repped:
            layer.re_parameterize()
            for branches in ("dw_conv_list", "rbr_dense", "rbr_1x1", "rbr_identity"):
                layer._sub_layers.pop(branches, None)  # else they would be exported, too
            count += 1
    return count


def write_onnx(folder: Path) -> None:
    """inference.onnx beside inference.json; the same input `x`. Raises EngineError."""
    paddle2onnx: Any = imported("paddle2onnx", _ADVICE)
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
    onnxruntime: Any = imported("onnxruntime", _ADVICE)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # not a warning for each constant that paddle2onnx left over
    session = onnxruntime.InferenceSession(str(program), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"x": images})[0]


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
