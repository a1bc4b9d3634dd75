"""The service behind its routes: workers for photos, a writer for each gallery, recent answers, jobs."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from shitu.cores import available_cores
from shitu.gallery.change import GalleryWriter
from shitu.images.room import Room
from shitu.serve.audit import Audit
from shitu.serve.galleries import Galleries, Served, make_empty
from shitu.serve.jobs import Jobs
from shitu.serve.metrics import Metrics
from shitu.serve.models import Networks
from shitu.serve.pictures import Answers
from shitu.serve.problems import without_paths
from shitu.serve.review import Review
from shitu.serve.settings import DEFAULT_GALLERY, Settings

T = TypeVar("T")
Item = TypeVar("Item")
Note = Callable[[T], tuple[str, Mapping[str, Any], str] | None]
LEFT = (".job-", ".export-", ".deleted-")


class Service:
    """Raises ConfigError, ModelError, EngineError, GalleryError where it cannot start."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.audit = Audit(settings.root / "audit.jsonl")
        self._in_work, self._numbers, self._lock = 0, itertools.count(), threading.Lock()
        self._room = Room()
        self.networks = Networks(lambda: self._in_work, self.metrics.crops.observe)
        self.galleries = Galleries(settings, self.networks)
        self.stopping = threading.Event()
        _clear_up(settings.root)
        self.jobs = Jobs(self.told, self.stopping)
        self.review = Review(settings.collect, settings.collect_below)
        self._kept = tempfile.TemporaryDirectory(prefix="shitu-serve-")
        self.reports = Path(self._kept.name)
        self.answers = Answers(settings.keep_answers, settings.keep_seconds)
        self.workers = settings.workers or available_cores() + 1
        self._workers = ThreadPoolExecutor(self.workers, thread_name_prefix="shitu-work")
        self._shown = ThreadPoolExecutor(1, thread_name_prefix="shitu-show")
        self._first_galleries()

    def _first_galleries(self) -> None:
        """Those that were named and are not there yet are made, empty; where there would be none, one is."""
        for name, url in self.settings.fixed.items():
            if "://" not in url and not (os.path.isdir(url) and any(name[0] != "." for name in os.listdir(url))):
                make_empty(url, self.settings.config, self.networks)
                self.audit.write(name, "create", {})
        if not self.galleries.names():
            self.galleries.create(DEFAULT_GALLERY)
            self.audit.write(DEFAULT_GALLERY, "create", {})
        for name in self.settings.fixed:  # who starts it is told what is wrong, and the first answer is quick
            self.galleries.get(name)

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """`work(*given)` by a worker: what takes a network, or pixels."""
        return await asyncio.wrap_future(self._workers.submit(self._counted, work, *given))

    async def run_all(self, work: Callable[[Item], T], items: Sequence[Item]) -> list[T]:
        """`work` of every one, in order; no more of them at a time than workers, so that others get theirs."""
        room = asyncio.Semaphore(self.workers)

        async def one(item: Item) -> T:
            async with room:
                return await self.run(work, item)

        return await asyncio.gather(*map(one, items))

    async def show(self, work: Callable[..., T], *given: Any) -> T:
        """The same beside these, for pictures that are only shown."""
        return await asyncio.wrap_future(self._shown.submit(work, *given))

    def _counted(self, work: Callable[..., T], *given: Any) -> T:
        with self._lock:
            self._in_work += 1
            number = next(self._numbers)
        self._room.enter(number)
        try:
            return work(*given)
        finally:
            self._room.give_back(number)
            with self._lock:
                self._in_work -= 1

    async def change(self, gallery: Served, work: Callable[[GalleryWriter], T], note: Note[T] | None = None) -> T:
        """As `changing`; waits for it without a thread. Once begun it is done, also where who asked has gone."""
        return await asyncio.shield(asyncio.wrap_future(self.changing(gallery, work, note)))

    def changing(self, gallery: Served, work: Callable[[GalleryWriter], T], note: Note[T] | None = None) -> Future[T]:
        """`work` as the gallery's writer, after those that came before.

        note: what the audit log says of it: kind of change, what, who; None for nothing. Raises HttpError 409.
        """

        def noted(writer: GalleryWriter) -> T:
            done = work(writer)
            if note is not None and (told := note(done)) is not None:
                self.noted(gallery.name, *told)
            return done

        return gallery.submit(noted, self.settings.busy_wait)

    def noted(self, gallery: str, change: str, told: Mapping[str, Any], by: str) -> None:
        """Counted, and in the audit log."""
        self.metrics.changes.labels(gallery, change).inc()
        self.audit.write(gallery, change, told, by)

    def told(self, text: str) -> str:
        """A message without a path of this machine."""
        return without_paths(
            text, self.galleries.folders(), (str(self.settings.root), os.getcwd(), os.path.expanduser("~"))
        )

    def told_all(self, value: Any, names: Mapping[str, str]) -> Any:
        """A record whose texts have names for these paths, and else no path of this machine."""
        if isinstance(value, str):
            return names.get(value) or self.told(value)
        if isinstance(value, dict):
            return {key: self.told_all(each, names) for key, each in value.items()}
        return [self.told_all(each, names) for each in value] if isinstance(value, list | tuple) else value

    def close(self) -> None:
        """Ends when all that was accepted is done; jobs are called off."""
        self.stopping.set()
        self.jobs.close()
        self._workers.shutdown(wait=True)
        self._shown.shutdown(wait=True)
        self.galleries.close()
        self.networks.close()
        self._kept.cleanup()


def _clear_up(root: Path) -> None:
    """Delete what a server that was killed left there, once it is a day old: another may be at work."""
    for path in root.glob(".*"):
        if path.name.startswith(LEFT) and path.is_dir() and path.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(path, ignore_errors=True)
