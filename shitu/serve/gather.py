"""Requests that arrive together share calls of the extractor, whatever gallery they ask.

One thread takes what waits and makes one call of it; what comes meanwhile waits for the next. Where others are on their
way (`expected`), the first waits a few milliseconds for them; alone it is served at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError
from shitu.images.read import Picture
from shitu.recognise.embed import Extractor

WINDOW = 0.004  # seconds: a twentieth of what a photo takes
MOST = 64  # crops in a call

Piece = tuple[Sequence[Picture], "Future[NDArray[Any]]"]


class SharedExtractor(Extractor):
    """An extractor whose `predict` may be called by many threads and runs for all of them together.

    expected: how many requests are in work now. seen: told the number of crops of each call.
    """

    def __init__(
        self, rec: Extractor, expected: Callable[[], int], seen: Callable[[int], object] = lambda count: None
    ) -> None:
        self.__dict__.update(rec.__dict__)
        self._rec, self._expected, self._seen = rec, expected, seen
        self._queue: SimpleQueue[Piece | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="shitu-gather", daemon=True)
        self._thread.start()

    def predict(self, images: Sequence[Picture]) -> NDArray[Any]:
        return self.submit(images).result() if images else self._rec.predict(images)

    def submit(self, images: Sequence[Picture]) -> Future[NDArray[Any]]:
        future: Future[NDArray[Any]] = Future()
        self._queue.put((images, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            pieces, end = self._collect(first)
            self._run(pieces)
            if end:
                return

    def _collect(self, first: Piece) -> tuple[list[Piece], bool]:
        """What belongs to one call, and whether it is the last."""
        pieces, count, until = [first], len(first[0]), time.monotonic() + WINDOW
        while count < MOST and (not self._queue.empty() or len(pieces) < self._expected()):
            try:
                piece = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except Empty:
                break
            if piece is None:
                return pieces, True
            pieces.append(piece)
            count += len(piece[0])
        return pieces, False

    def _run(self, pieces: Sequence[Piece]) -> None:
        """One call for all; one by one where that fails, so that a bad picture does not take the others with it."""
        self._seen(sum(len(images) for images, _ in pieces))
        try:
            rows = self._rec.predict([image for images, _ in pieces for image in images])
        except Exception as error:
            if len(pieces) == 1 or not isinstance(error, EngineError):
                for _, future in pieces:
                    future.set_exception(error)
                return
            for piece in pieces:
                self._run([piece])
            return
        ends = np.cumsum([len(images) for images, _ in pieces])
        for (_, future), part in zip(pieces, np.split(rows, ends[:-1]), strict=True):
            future.set_result(part)
