"""A source's frames, one every so many seconds: all of a file's that are due, of what is live the newest alone."""

from __future__ import annotations

import atexit
import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence

from shitu.video.capture import Capture, Frame, is_camera, is_stream

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # before each try to connect again; the last one for ever
STOP_S = 3.0  # how long a frame that is under way is waited for at the end
log = logging.getLogger("shitu")


def frames(source: str, every: float, pauses: Sequence[float] = PAUSES_S) -> Iterator[Frame]:
    """A frame every `every` seconds. A file ends; a camera or stream goes on until the consumer stops.

    A stream that breaks off is connected again after `pauses`. Raises ShituError where it cannot be opened at first.
    """
    capture = Capture(source)
    if is_camera(source) or (is_stream(source) and not capture.count):
        return _newest(capture, every, pauses)
    return _due(capture, every)


def _due(capture: Capture, every: float) -> Iterator[Frame]:
    """Those of a file, by the times that it states; where these are nonsense, by its rate."""
    t, wanted, start, number = 0.0, 0.0, 0.0, 0
    with capture:
        while capture.grab():
            stated = capture.time() - start
            if number == 0 and math.isfinite(stated):
                start, stated = stated, 0.0
            ahead = stated - t
            t = stated if math.isfinite(stated) and 0 <= ahead < 3600 else t + 1 / capture.rate
            number += 1
            if t + 1e-6 < wanted:
                continue
            wanted = max(wanted + every, t + every / 2)
            picture = capture.picture()
            if picture is not None:
                yield Frame(t, picture)
        if number < 0.9 * capture.count:
            log.warning("%s: ended after %d of %d frames; is it damaged?", capture.name, number, capture.count)


def _newest(capture: Capture, every: float, pauses: Sequence[float]) -> Iterator[Frame]:
    """A thread reads all that comes, as fast as it comes; a frame is decoded when somebody wants one."""
    newest: queue.Queue[Frame] = queue.Queue()
    wanted, stopped = threading.Event(), threading.Event()
    start = time.monotonic()

    def read() -> None:
        for opened in _connected(capture, pauses, stopped):
            with opened:
                while not stopped.is_set() and opened.grab():
                    if wanted.is_set() and (picture := opened.picture()) is not None:
                        wanted.clear()
                        newest.put(Frame(time.monotonic() - start, picture))

    # A daemon: a camera that has fallen silent must not keep the process for long.
    reader = threading.Thread(target=read, daemon=True, name="shitu-camera")
    reader.start()

    def stop() -> None:
        stopped.set()
        reader.join(STOP_S)

    # Python ends a process with SIGABRT where a thread comes back from OpenCV into an interpreter that is going down.
    atexit.register(stop)
    due = start
    try:
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - every) + every
            wanted.set()
            yield newest.get()
    finally:
        atexit.unregister(stop)
        stop()


def _connected(capture: Capture, pauses: Sequence[float], stopped: threading.Event) -> Iterator[Capture]:
    """The capture, and when that has broken off, the next one, as often as it takes."""
    yield capture
    failed = 0
    while not stopped.is_set():
        pause = pauses[min(failed, len(pauses) - 1)]
        log.warning("%s: nothing comes any more; connecting again in %g s", capture.name, pause)
        if stopped.wait(pause):
            return
        try:
            again = Capture(capture.source)
        except Exception:  # whatever it is now, a camera may come back
            failed += 1
            continue
        log.info("%s: connected again", capture.name)
        failed = 0
        yield again
