"""Batches made ahead in processes, through paddle.io.DataLoader, which hands arrays on through shared memory."""

from __future__ import annotations

import ctypes
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import paddle
from numpy.typing import NDArray

from shitu.errors import EngineError

_log = logging.getLogger("shitu")
_AHEAD = 2  # batches per worker; Paddle's prefetch_factor

Arrays = tuple[NDArray[Any], ...]  # none of them empty: nothing does not pass through shared memory


def made_ahead(
    make: Callable[[Any], Arrays], tasks: Sequence[Any], workers: int, shared_bytes: int | None
) -> Generator[Arrays, None, None]:
    """`make(task)` of each task, in order; closing the generator ends the workers.

    `workers` 0: made in this process. `shared_bytes`: of one batch at most, to see whether /dev/shm has room; None:
    through pipes. Raises EngineError where a worker dies.
    """
    if not workers:
        yield from map(make, tasks)
        return
    loader = paddle.io.DataLoader(
        _Tasks(make, tasks),
        batch_sampler=cast(Any, _OneByOne(len(tasks))),
        collate_fn=cast(Any, _only),
        num_workers=min(workers, len(tasks)),
        prefetch_factor=_AHEAD,
        use_shared_memory=_has_room(shared_bytes, workers),
        places=paddle.CPUPlace(),
        return_list=True,
        worker_init_fn=_begin_worker,
    )
    iterator: Any = iter(loader)
    try:
        yield from _results(iterator)
    finally:
        # Paddle's own clean-up is in __del__, which does not come while its reading thread holds the iterator
        iterator._try_shutdown_all(5)


def _results(iterator: Iterator[Any]) -> Iterator[Arrays]:
    while True:
        try:
            tensors = next(iterator)
        except StopIteration:
            return
        except (SystemError, RuntimeError, OSError, ValueError) as error:
            raise EngineError(
                f"a process that loads images died ({str(error).strip().splitlines()[0]}); the system may have run "
                "out of memory, or of /dev/shm: try a smaller worker_num, or use_shared_memory: false in the reader"
            ) from None
        yield tuple(tensor.numpy() for tensor in tensors)


class _Tasks(paddle.io.Dataset[Any]):
    """To Paddle, a sample is a whole batch."""

    def __init__(self, make: Callable[[Any], Arrays], tasks: Sequence[Any]) -> None:
        super().__init__()
        self.make, self.tasks = make, tasks

    def __getitem__(self, number: int) -> Arrays:
        return self.make(self.tasks[number])

    def __len__(self) -> int:
        return len(self.tasks)


class _OneByOne:
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[int]]:
        return ([number] for number in range(self.count))

    def __len__(self) -> int:
        return self.count


def _only(results: list[Arrays]) -> list[Any]:
    return list(results[0])


def _begin_worker(_: int) -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the trainer, which ends its workers
    if sys.platform == "linux":
        # otherwise it would wait for its next task for ever after a trainer that was killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    cv2.setNumThreads(0)


def _has_room(batch_bytes: int | None, workers: int) -> bool:
    """Containers often have 64 MB of /dev/shm; a worker that finds it full is killed by a bus error."""
    folder = Path("/dev/shm")
    if batch_bytes is None or not folder.is_dir():
        return batch_bytes is not None
    free, wanted = shutil.disk_usage(folder).free, batch_bytes * (workers * _AHEAD + 1)
    if free < wanted:
        _log.warning(
            "/dev/shm has %d MB free, the batches of %d workers take up to %d MB; doing without, which is slower",
            *(free >> 20, workers, wanted >> 20),
        )
    return free >= wanted
