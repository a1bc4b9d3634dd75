"""The device that a process works on."""

from __future__ import annotations

import logging

import paddle

from shitu.errors import UsageError

_log = logging.getLogger("shitu")


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
