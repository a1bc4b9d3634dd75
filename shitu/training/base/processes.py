"""What a training process knows of the others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from shitu.errors import EngineError


def start() -> tuple[int, int]:
    """Join the other processes where a launcher started several. Returns (rank, world size)."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        paddle.distributed.init_parallel_env()
    return paddle.distributed.get_rank(), paddle.distributed.get_world_size()


def same_start(network: nn.Layer, world: int) -> None:
    """Every process gets rank 0's weights and running statistics."""
    if world > 1:
        for value in network.state_dict().values():
            paddle.distributed.broadcast(value, src=0)


def same_statistics(network: nn.Layer, world: int) -> None:
    """Every process gets rank 0's running statistics, which differ since each saw its own batches."""
    if world > 1:
        for value in network.buffers():
            paddle.distributed.broadcast(value, src=0)


def summed(values: np.ndarray, world: int) -> np.ndarray:
    """(k,) float64 -> their sums over all processes."""
    if world == 1:
        return values
    tensor = paddle.to_tensor(values)
    paddle.distributed.all_reduce(tensor)
    result: np.ndarray = tensor.numpy()
    return result


def any_of(here: bool, world: int) -> bool:
    """Whether it is so in any process."""
    return bool(summed(np.array([float(here)]), world)[0])


def barrier(world: int) -> None:
    """Wait for all."""
    if world > 1:
        paddle.distributed.barrier()


@contextmanager
def losing_none(world: int) -> Iterator[None]:
    """Inside the block, an error that comes of another process's end is an EngineError that says so."""
    try:
        yield
    except RuntimeError as error:
        if world == 1:
            raise
        # the launcher takes the first that ends for the guilty one: let that be the one that died
        time.sleep(10)
        raise EngineError(
            f"lost the other processes: {str(error).strip().splitlines()[-1]}; their logs say why, --resume goes on"
        ) from error
