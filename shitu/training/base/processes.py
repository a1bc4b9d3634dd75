"""What a training process is, its device and its place among the others, and what it does with these."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import paddle
from numpy.typing import NDArray

from shitu.errors import EngineError, UsageError

STOP_FILE = "SHITU_STOP_FILE"  # in the environment of processes that `launch` started: a file that asks them to stop
_log = logging.getLogger("shitu")
Scalar = TypeVar("Scalar", np.float32, np.int64)


def use_device(name: str) -> None:
    """The GPU of this process where "gpu", or the one of "gpu:3", is wanted and there is one, else the CPU.

    Raises UsageError on any other name than those and "cpu".
    """
    if name.startswith("gpu"):
        if paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            number = paddle.distributed.ParallelEnv().device_id  # type: ignore[no-untyped-call]
            paddle.device.set_device(f"gpu:{number}" if name == "gpu" else name)
            return
        _log.warning("the config wants a GPU, but this Paddle sees none; the CPU is used")
    elif name != "cpu":
        raise UsageError(f"Global.device is {name}; gpu or cpu is wanted")
    paddle.device.set_device("cpu")


def gpu_memory() -> float | None:
    """The most that Paddle has taken of this process's GPU so far, in GB of 1e9 bytes; None on the CPU."""
    if not paddle.device.get_device().startswith("gpu"):
        return None
    return round(paddle.device.cuda.max_memory_allocated() / 1e9, 2)


def start() -> tuple[int, int]:
    """Join the other processes where a launcher started several. Returns (rank, world size)."""
    count = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if count > 1 and not paddle.distributed.is_initialized():
        where = os.environ.get("PADDLE_MASTER") or os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")[0]
        _log.info("process %s of %d waits for the others at %s", os.environ.get("PADDLE_TRAINER_ID"), count, where)
        paddle.distributed.init_parallel_env()
        if stop_file := os.environ.get(STOP_FILE):
            met_file(Path(stop_file)).touch()
    return paddle.distributed.get_rank(), paddle.distributed.get_world_size()


def met_file(stop_file: Path) -> Path:
    """There once the processes have met, and so can be asked to stop."""
    return stop_file.with_name(f"{stop_file.name}_heard")


def same(tensors: Iterable[paddle.Tensor], world: int) -> None:
    """Every process gets rank 0's: weights at the start, and running statistics, since each saw its own batches."""
    if world > 1:
        for value in tensors:
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
