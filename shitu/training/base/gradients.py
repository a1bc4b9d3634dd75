"""Gradients averaged over processes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import paddle

_BUCKET = 32 * 2**20  # bytes of gradients sent at once


def average_gradients(parameters: Iterable[paddle.Tensor], world: int) -> None:
    """Make every process's gradients the mean over all of them; a parameter without gradient counts as zero.

    After the last of the accumulated batches and in large buckets: simpler than paddle.DataParallel, which has to be
    told of parameters that a step leaves out.
    """
    if world == 1:
        return
    bucket: list[paddle.Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.stop_gradient:
            continue
        bucket.append(parameter)
        size += int(np.prod(parameter.shape)) * 4
        if size >= _BUCKET:
            _average(bucket, world)
            bucket, size = [], 0
    if bucket:
        _average(bucket, world)


def _average(bucket: list[paddle.Tensor], world: int) -> None:
    gradients = [paddle.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    flat = paddle.concat([gradient.reshape([-1]) for gradient in gradients])
    paddle.distributed.all_reduce(flat)
    parts = paddle.split(flat / world, [int(np.prod(p.shape)) for p in bucket])
    for parameter, part in zip(bucket, parts, strict=True):
        parameter.grad = part.reshape(parameter.shape)
