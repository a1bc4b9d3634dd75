"""Annotated pictures, drawn and saved beside the recognition of the next image."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from shitu.draw.annotated_writer import AnnotatedWriter
from shitu.errors import ShituError
from shitu.images.read import Picture

WAITING = 4  # pictures kept in memory until they are drawn
log = logging.getLogger("shitu")


class PictureWriter:
    """A context in which `write` returns at once; leaving it waits for the last picture.

    With no `output_dir` or no `draw` function nothing is written. `failed` counts pictures that could not be saved.
    """

    def __init__(self, output_dir: str | None, draw: Callable[[Picture, Any], Picture] | None) -> None:
        self._draw = draw
        self._writer = AnnotatedWriter(output_dir) if output_dir and draw else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shitu-draw")
        self._waiting: deque[Future[bool]] = deque()
        self.count = 0
        self.failed = 0

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._waiting:
            self._settle()
        self._pool.shutdown()

    def write(self, name: str, image: Picture, result: Any) -> None:
        """Queue one picture; waits only when too many are queued."""
        if self._writer is None:
            return
        self._waiting.append(self._pool.submit(self._write, name, image, result))
        if len(self._waiting) > WAITING:
            self._settle()

    def _write(self, name: str, image: Picture, result: Any) -> bool:
        assert self._writer is not None
        assert self._draw is not None
        try:
            self._writer.write("stdin" if name == "-" else name, self._draw(image, result))
        except (ShituError, OSError) as error:
            log.error("%s: the annotated picture could not be saved: %s", name, error)
            return False
        return True

    def _settle(self) -> None:
        done = self._waiting.popleft().result()
        self.count += done
        self.failed += not done
