"""Arithmetic that half precision is too coarse for: losses, margins and vectors of unit length."""

from __future__ import annotations

import paddle


def full_precision(x: paddle.Tensor) -> paddle.Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay. Autocast is the caller's to end."""
    return x.astype("float32") if x.dtype in (paddle.float16, paddle.bfloat16) else x


def unit_vectors(x: paddle.Tensor, axis: int = -1) -> paddle.Tensor:
    """`x` divided by its L2 norm along `axis`; vectors with a norm below 1e-12 stay as they are.

    These have no direction. Dividing them makes NaN, and an epsilon in the divisor makes gradients of 1e12.
    """
    squares = (x * x).sum(axis=axis, keepdim=True)
    return x * paddle.rsqrt(paddle.where(squares > 1e-24, squares, paddle.ones_like(squares)))
