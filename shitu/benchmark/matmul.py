"""An ONNX file of one matrix product, written byte by byte: the library `onnx` need not be there to measure a peak."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # TensorProto's data types
_KINDS = {"fp32": ("MatMul", _FLOAT, _FLOAT, _FLOAT), "int8": ("MatMulInteger", _UINT8, _INT8, _INT32)}


def write_matmul(folder: Path, side: int, precision: str) -> Path:
    """`a` (side, side), float32 or for int8 uint8, times a constant of that size, float32 or int8."""
    operator, left, right, out = _KINDS[precision]
    rng = np.random.default_rng(1)
    weights = rng.integers(-63, 63, (side, side)).astype(np.int8)
    raw = weights.tobytes() if precision == "int8" else (weights.astype(np.float32) / 64).tobytes()
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, operator)
    constant = _number(1, side) * 2 + _number(2, right) + _text(8, "b") + _bytes(9, raw)
    graph = _bytes(1, node) + _text(2, "product") + _bytes(5, constant)
    graph += _bytes(11, _value("a", left, side)) + _bytes(12, _value("c", out, side))
    model = _number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 13))
    path = folder / f"matmul_{precision}.onnx"
    path.write_bytes(model)
    return path


def _value(name: str, kind: int, side: int) -> bytes:
    shape = _bytes(1, _number(1, side)) * 2
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
