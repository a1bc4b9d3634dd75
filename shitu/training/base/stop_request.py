"""Ctrl-C and SIGTERM as a wish that the training loop grants between two steps."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shitu.training.base import processes
from shitu.training.base.launch import asked_to_stop

_log = logging.getLogger("shitu")


class StopRequest:
    """The first signal asks to stop, the second stops at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside the block, SIGINT and SIGTERM are this request."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        _log.warning("stopping after this step; again to stop at once")

    def granted(self, world: int, *, due: bool) -> bool:
        """Whether to stop now.

        Several processes must stop at the same step. They ask each other where it is `due`, which is not at every step,
        since it takes time.
        """
        stop = self._asked.is_set()
        return stop if world == 1 else due and processes.any_of(stop or asked_to_stop(), world)
