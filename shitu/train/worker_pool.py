"""Batches made ahead by worker processes, in the order of their tasks.

Not paddle.io.DataLoader: with it, a worker that dies raises SystemError from a signal handler, wherever the trainer
happens to be, or stands still for 11 s first; a trainer that is killed leaves its workers, and its batches in /dev/shm.
Here the images lie in anonymous shared memory, which ends with the processes and needs no room in /dev/shm, and
everything else goes through one pipe per worker, which each side sees closed as soon as the other is gone.
"""

from __future__ import annotations

import atexit
import logging
import mmap
import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError
from shitu.train.batch_maker import BatchMaker, Made, Task

_log = logging.getLogger("shitu")
_AHEAD = 2  # batches per worker


def made_ahead(
    maker: BatchMaker, tasks: Iterable[Task], workers: int, *, use_shared_memory: bool = True
) -> Generator[Made, None, None]:
    """One batch per task. Its images are valid until the next is asked for; closing the generator ends the workers.

    `workers` 0: made in this process. Without shared memory, the images go through the pipes, which is slower.

    Raises EngineError where a worker dies.
    """
    if workers and "fork" not in multiprocessing.get_all_start_methods():
        _log.warning("num_workers: %d: this system cannot fork processes, images are loaded in this one", workers)
        workers = 0
    if not workers:
        yield from map(maker, tasks)
        return
    remaining = iter(tasks)
    first = list(islice(remaining, workers * _AHEAD))
    size = max((len(task.indices) for task in first), default=0) if use_shared_memory else 0
    team: list[_Worker] = []
    try:
        for _ in range(min(workers, len(first))):
            team.append(_Worker(maker, size, team))
        waiting = deque(team[number % workers] for number in range(len(first)))
        for worker, task in zip(waiting, first, strict=True):
            worker.give(task)
        while waiting:
            worker = waiting.popleft()
            yield worker.take()
            for task in islice(remaining, 1):
                worker.give(task)
                waiting.append(worker)
    finally:
        for worker in team:
            worker.end()


class _Worker:
    """One process, its end of the pipe, and memory for the `_AHEAD` batches of up to `size` images it works ahead."""

    def __init__(self, maker: BatchMaker, size: int, others: list[_Worker]) -> None:
        self.slots: list[NDArray[np.float32]] = [_shared_array((size, *maker.shape)) for _ in range(_AHEAD)]
        self.given = self.taken = 0
        context = multiprocessing.get_context("fork")
        self.pipe, far_end = context.Pipe()
        # Of the ends on the trainer's side the process keeps none, or it would not see them closed.
        ours = [self.pipe, *(other.pipe for other in others)]
        self.process = context.Process(target=_work, args=(maker, far_end, ours, self.slots), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the workers touch no Paddle
            self.process.start()
        far_end.close()
        atexit.register(self.end)  # before multiprocessing waits for it, should an error keep the generator open

    def give(self, task: Task) -> None:
        try:
            self.pipe.send((task, self.given % _AHEAD))
        except OSError:
            raise self._death() from None
        self.given += 1

    def take(self) -> Made:
        try:
            made: Made | str = self.pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        slot = self.slots[self.taken % _AHEAD]
        self.taken += 1
        if isinstance(made, str):
            raise EngineError(f"a process that loads images failed: {made}")
        in_slot = len(made.images) < len(made.index)
        return replace(made, images=slot[: len(made.index)]) if in_slot else made

    def _death(self) -> EngineError:
        self.process.join(5)
        code = self.process.exitcode
        how = f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended with status {code}"
        return EngineError(
            f"a process that loads images {how}; the system may have run out of memory: try fewer num_workers"
        )

    def end(self) -> None:
        """At once: a worker holds no locks and no files to be written."""
        atexit.unregister(self.end)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _shared_array(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros that a process forked from this one sees and changes as its own."""
    size = 4 * int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.float32, size // 4).reshape(shape)


def _work(maker: BatchMaker, pipe: Connection, ours: list[Connection], slots: list[NDArray[np.float32]]) -> None:
    """The process itself: makes batches until the trainer is gone."""
    import cv2

    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, they are for the trainer to act on
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    for end in ours:
        end.close()
    try:
        while True:
            task, number = pipe.recv()
            pipe.send(_make(maker, task, slots[number]))
    except (EOFError, OSError):
        return


def _make(maker: BatchMaker, task: Task, slot: NDArray[np.float32]) -> Made | str:
    try:
        if len(task.indices) > len(slot):
            return maker(task)
        return replace(maker(task, slot), images=slot[:0])  # they lie in the slot
    except Exception as error:  # MemoryError, or a fault of ours: the trainer ends with it, not without a word
        _log.debug("loading images", exc_info=True)
        return f"{type(error).__name__}: {error}"
