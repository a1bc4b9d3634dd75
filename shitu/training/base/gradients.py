"""Gradients averaged over processes."""

from __future__ import annotations

from collections.abc import Iterable

import paddle


def average_gradients(parameters: Iterable[paddle.Tensor], world: int) -> None:
    """Make every process's gradients the mean over all of them; a parameter without gradient counts as zero.

    After the last of the accumulated batches and in buckets of 128 MB, by what Paddle's own hybrid parallelism uses.
    That leaves out who has no gradient, and would so average unlike things where one process lacks what another has.
    """
    if world == 1:
        return
    from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients_with_group

    learning = [parameter for parameter in parameters if not parameter.stop_gradient]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = paddle.zeros_like(parameter)
    # A bucket ends where the dtype changes; AMP O2 has float32 norms between its float16 layers.
    learning.sort(key=lambda parameter: str(parameter.dtype))
    fused_allreduce_gradients_with_group(learning, None)  # type: ignore[no-untyped-call]
