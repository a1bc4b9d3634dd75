"""Arrays of all processes one after another."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import paddle
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", np.float32, np.int64)


def gather_rows(rows: NDArray[Scalar], world: int) -> NDArray[Scalar]:
    """(n, w) float32 or int64 of this process -> those of all in the order of their ranks; n may differ, and be 0.

    A process without rows need not know the width. Every process must call this, or the others wait.
    """
    if world == 1:
        return rows
    shapes = _all(np.array([rows.shape], np.int64))
    counts = [int(shape[0, 0]) for shape in shapes]
    width = max(int(shape[0, 1]) for shape in shapes)
    # All tensors of an all_gather must be of one size.
    padded = np.zeros((max(counts), width), rows.dtype)
    padded[: len(rows), : rows.shape[1]] = rows
    if not padded.size:
        return padded
    return np.concatenate([part[:count] for part, count in zip(_all(padded), counts, strict=True)])


def _all(array: NDArray[Scalar]) -> list[NDArray[Scalar]]:
    parts: list[paddle.Tensor] = []
    paddle.distributed.all_gather(parts, paddle.to_tensor(array))
    return [part.numpy() for part in parts]
