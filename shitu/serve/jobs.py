"""Long work: one job after the other, each with its progress, to be watched and called off."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shitu.errors import ShituError
from shitu.serve.problems import BUG, HttpError, log_bug

KEPT = 100  # jobs that are told of after their end
MOST_WAITING = 20
BEAT_SECONDS = 15.0
ENDED = ("done", "failed", "cancelled")


class CancelledJob(ShituError):  # noqa: N818 (it is no error)
    """Asked to end."""


@dataclass
class Job:
    """`folder` holds what was sent for it, until its end. `work` is called with this. `by`: who asked for it."""

    kind: str
    gallery: str
    work: Callable[[Job], Any]
    folder: Path | None = None
    by: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    created: float = field(default_factory=time.time)
    state: str = "queued"
    done: int = 0
    total: int = 0
    error: str | None = None
    result: Any = None
    changes: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)

    def progress(self, count: int = 1) -> None:
        """So much more is done. Raises CancelledJob where the job was called off."""
        if self.cancel.is_set():
            raise CancelledJob("called off")
        self.done += count
        self.changes += 1

    def to_dict(self) -> dict[str, Any]:
        names = ("id", "kind", "gallery", "created", "state", "done", "total", "error", "result")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """Of one service. `told`: takes paths out of messages; `stopping`: no further jobs then."""

    def __init__(self, told: Callable[[str], str], stopping: threading.Event) -> None:
        self._told, self._stopping = told, stopping
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shitu-job")
        self._lock = threading.Lock()

    def start(self, job: Job) -> Job:
        """Raises HttpError 429 where many wait already."""
        with self._lock:
            waiting = sum(each.state == "queued" for each in self._jobs.values())
            if waiting >= MOST_WAITING or self._stopping.is_set():
                raise HttpError(429, "too_many_jobs", f"{waiting} jobs are waiting already; come again", retry=10)
            self._jobs[job.id] = job
            ended = [each.id for each in self._jobs.values() if each.state in ENDED]
            for old in ended[: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[old]
        self._pool.submit(self._run, job)
        return job

    def get(self, number: str) -> Job:
        found = self._jobs.get(number)
        if found is None:
            raise HttpError(404, "job_not_found", "there is no such job; those of before a restart are not kept")
        return found

    def all(self) -> list[Job]:
        return list(self._jobs.values())

    def _run(self, job: Job) -> None:
        try:
            job.progress(0)
            job.state = "running"
            job.result = job.work(job)
            job.state = "done"
        except CancelledJob:
            job.state = "cancelled"
        except ShituError as error:
            job.error, job.state = self._told(str(error)), "failed"
        except Exception as error:
            log_bug(f"job {job.kind}", error)
            job.error, job.state = BUG, "failed"
        finally:
            job.changes += 1
            _clear(job)

    async def events(self, job: Job) -> AsyncIterator[str]:
        """Server-sent events: the job as often as it changes, five times a second at most, to its end."""
        seen, beat = -1, time.monotonic()
        while True:
            if job.changes != seen or job.state in ENDED:
                seen, beat = job.changes, time.monotonic()
                yield _event(job)
            elif time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                yield ": still there\n\n"
            if job.state in ENDED or self._stopping.is_set():
                return
            await asyncio.sleep(0.2)

    def close(self) -> None:
        for job in self.all():
            job.cancel.set()
        self._pool.shutdown(wait=True)


def _event(job: Job) -> str:
    return f"event: job\ndata: {json.dumps(job.to_dict(), ensure_ascii=False)}\n\n"


def _clear(job: Job) -> None:
    if job.folder is not None:
        shutil.rmtree(job.folder, ignore_errors=True)
