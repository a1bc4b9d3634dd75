"""Images that kill: a Source for processes that are to die in the middle of a shard, at a moment known beforehand."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shitu.build.source import Files, Opened


@dataclass(frozen=True)
class Deadly(Files):
    """Whoever opens an image whose path ends so kills `pid` (0: itself), once: then the file `mark` is there."""

    ends: str
    mark: str
    pid: int = 0

    @contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        if path.endswith(self.ends) and not os.path.exists(self.mark):
            with open(self.mark, "x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
            os.kill(self.pid or os.getpid(), signal.SIGKILL)
            threading.Event().wait(60)  # this process ends as that one's does
        with super().open(path) as opened:
            yield opened
