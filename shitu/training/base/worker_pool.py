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
import pickle
import signal
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from math import prod
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError

_log = logging.getLogger("shitu")
_AHEAD = 2  # batches per worker
_FOR_THE_TRAINER = (signal.SIGINT, signal.SIGTERM)  # when sent to the whole group

Task = TypeVar("Task")
Made = TypeVar("Made")
Slot = NDArray[np.uint8]  # (bytes,): where a worker may put arrays of a batch, to be handed over without a copy
Make = Callable[[Task, Slot], Made]  # what a worker does; of the result, all that does not lie in the slot is pickled


def array_in(slot: Slot, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array of this shape at the beginning of the slot, or elsewhere if that is too small; its values are any."""
    size = 4 * prod(shape)
    return slot[:size].view(np.float32).reshape(shape) if size <= len(slot) else np.empty(shape, np.float32)


def made_ahead(
    make: Make[Task, Made], tasks: Iterable[Task], workers: int, *, bytes_of: Callable[[Task], int] | None = None
) -> Generator[Made, None, None]:
    """`make` of each task. Its arrays are valid until the next is asked for; closing the generator ends the workers.

    `workers` 0: made in this process. `bytes_of`: how large a slot a task wants at most; the first tasks say how much
    memory is shared, and what does not fit goes through the pipes, which is slower. None: no slots.

    Raises EngineError where a worker dies.
    """
    if workers and "fork" not in multiprocessing.get_all_start_methods():
        _log.warning("%d workers wanted, but this system cannot fork processes; images are loaded in this one", workers)
        workers = 0
    if not workers:
        no_slot = np.empty(0, np.uint8)
        yield from (make(task, no_slot) for task in tasks)
        return
    remaining = iter(tasks)
    first = list(islice(remaining, workers * _AHEAD))
    size = max(map(bytes_of, first), default=0) if bytes_of else 0
    team: list[_Worker[Task, Made]] = []
    try:
        for _ in range(min(workers, len(first))):
            team.append(_Worker(make, size, team))
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


class _Worker(Generic[Task, Made]):
    """One process, its end of the pipe, and slots of `size` bytes for the `_AHEAD` batches it works ahead."""

    def __init__(self, make: Make[Task, Made], size: int, others: list[_Worker[Task, Made]]) -> None:
        self.slots = [_shared_memory(size) for _ in range(_AHEAD)]
        self.given = self.taken = 0
        context = multiprocessing.get_context("fork")
        self.pipe, far_end = context.Pipe()
        # Of the ends on the trainer's side the process keeps none, or it would not see them closed.
        ours = [self.pipe, *(other.pipe for other in others)]
        self.process = context.Process(target=_work, args=(make, far_end, ours, self.slots), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the workers touch no Paddle
            # held back until the process ignores them
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_TRAINER)
            try:
                self.process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
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
            made: _Packed | str = self.pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        slot = self.slots[self.taken % _AHEAD]
        self.taken += 1
        if isinstance(made, str):
            raise EngineError(f"a process that loads images failed: {made}")
        pickled, in_slot = made
        unpacked: Made = pickle.loads(pickled, buffers=[slot[start:end] for start, end in in_slot])
        return unpacked

    def _death(self) -> EngineError:
        self.process.join(5)
        code = self.process.exitcode
        how = f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended with status {code}"
        return EngineError(
            f"a process that loads images {how}; the system may have run out of memory: try fewer num_workers "
            "(in a detector's config: worker_num)"
        )

    def end(self) -> None:
        """At once: a worker holds no locks and no files to be written."""
        atexit.unregister(self.end)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _shared_memory(size: int) -> Slot:
    """Zeros that a process forked from this one sees and changes as its own."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8, size)


def _work(make: Make[Any, Any], pipe: Connection, ours: list[Connection], slots: list[Slot]) -> None:
    """The process itself: makes batches until the trainer is gone."""
    for number in _FOR_THE_TRAINER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_TRAINER)
    import cv2

    cv2.setNumThreads(0)
    for end in ours:
        end.close()
    try:
        while True:
            task, number = pipe.recv()
            pipe.send(_made(make, task, slots[number]))
    except (EOFError, OSError):
        return


def _made(make: Make[Any, Any], task: Any, slot: Slot) -> _Packed | str:
    try:
        return _packed(make(task, slot), slot)
    except Exception as error:  # MemoryError, or a fault of ours: the trainer ends with it, not without a word
        _log.debug("loading images", exc_info=True)
        return f"{type(error).__name__}: {error}"


_Packed = tuple[bytes, list[tuple[int, int]]]


def _packed(made: object, slot: Slot) -> _Packed:
    """Pickled but for the arrays in the slot, of which only first and last byte are named."""
    in_slot: list[tuple[int, int]] = []

    def goes_by_pipe(array: pickle.PickleBuffer) -> bool:
        values = np.frombuffer(array.raw(), np.uint8)
        start = values.ctypes.data - slot.ctypes.data
        if not (values.size and 0 <= start < len(slot)):
            return True
        in_slot.append((start, start + values.size))
        return False

    return pickle.dumps(made, protocol=5, buffer_callback=goes_by_pipe), in_slot
