"""The galleries of a service: names -> folders, and of each that is asked a recogniser that keeps up with it."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from shitu.config import Config
from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery import Facts, GalleryReader, open_writer
from shitu.gallery.change import GalleryWriter, new_facts
from shitu.made_with import image_root_of, load_config_for_gallery, settings_to_keep
from shitu.recognise.from_config import SystemPredictor
from shitu.recognise.system import Recogniser
from shitu.serve.models import Networks
from shitu.serve.pictures import PhotoStore
from shitu.serve.problems import HttpError
from shitu.serve.settings import DEFAULT_GALLERY, NAME, Settings, is_gallery_name

T = TypeVar("T")
POINTER = "gallery.json"
_PAUSE = 0.05  # seconds between two tries at a gallery that another process is changing


class Served:
    """One gallery. Any thread may read; changes go through one thread, one after the other."""

    def __init__(self, name: str, url: str, config: Config, networks: Networks, *, place: Path, managed: bool) -> None:
        self.name, self.url, self.config, self.place, self.managed = name, url, config, place, managed
        self._recogniser: Recogniser = SystemPredictor(config, parts=networks.parts(config))
        self._lock = threading.Lock()
        self._writing, self._closed = ThreadPoolExecutor(1, thread_name_prefix="shitu-write"), False
        root = image_root_of(url) if "://" not in url else ""
        self.photos = PhotoStore(place, root, config.IndexProcess.image_root or "")

    def recogniser(self) -> Recogniser:
        """With the gallery as it is on disk now. Raises GalleryError."""
        with self._lock:
            self._recogniser = self._recogniser.refreshed()
            return self._recogniser

    def reader(self) -> GalleryReader:
        return self.recogniser().gallery

    def facts(self) -> Facts:
        """Of the model that makes this service's vectors."""
        return facts_of(self.config, self.recogniser())

    def submit(self, work: Callable[[GalleryWriter], T], patience: float) -> Future[T]:
        """`work` as the gallery's one writer, after those that came before.

        It raises GalleryBusyError where another process writes for longer than `patience` seconds, HttpError 409 where
        the gallery was renamed, deleted or replaced meanwhile.
        """
        try:
            return self._writing.submit(self._write, work, time.monotonic() + patience)
        except RuntimeError:
            raise self._gone() from None

    def _gone(self) -> HttpError:
        return HttpError(409, "gallery_replaced", f"{self.name} was renamed, deleted or replaced just now; ask again")

    def _write(self, work: Callable[[GalleryWriter], T], until: float) -> T:
        if self._closed:
            raise self._gone()
        self.recogniser()  # is it there, and of this model? A writer would make its folder
        while True:
            try:
                with open_writer(self.url, delimiter=self.config.IndexProcess.delimiter) as writer:
                    return work(writer)
            except GalleryBusyError as error:
                if time.monotonic() > until:
                    raise GalleryBusyError(
                        f"the gallery {self.name} is being changed by another process; nothing was changed here, try "
                        "again later"
                    ) from error
                time.sleep(_PAUSE)

    @property
    def writable(self) -> bool:
        return "://" in self.url or os.access(self.url, os.W_OK)

    def close(self, wait: bool = True) -> None:
        self._closed = True
        self._writing.shutdown(wait=wait)


class Galleries:
    """By name: those that the service was started with, and all in the root folder, also such as come to lie there."""

    def __init__(self, settings: Settings, networks: Networks) -> None:
        self.settings, self._networks = settings, networks
        self.root = settings.root
        self._open: dict[str, Served] = {}
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        found = set(self.settings.fixed)
        with suppress(OSError):
            found |= {
                each.name
                for each in self.root.iterdir()
                if is_gallery_name(each.name) and not each.is_symlink() and (each / POINTER).is_file()
            }
        return sorted(found)

    def default(self) -> str:
        """Of who names none: the first that the service was started with, else that which it made then.

        Raises HttpError 404.
        """
        names = self.names()
        found = [*self.settings.fixed, *(name for name in names if name == DEFAULT_GALLERY), *names]
        if not found:
            raise HttpError(404, "gallery_not_found", "there is no gallery; make one by POST /v1/galleries")
        return found[0]

    def url_of(self, name: str) -> str:
        """Raises HttpError 404."""
        if name in self.settings.fixed:
            return self.settings.fixed[name]
        if is_gallery_name(name) and not (self.root / name).is_symlink() and (self.root / name / POINTER).is_file():
            return str(self.root / name)
        there = ", ".join(self.names()[:10]) or "none"
        raise HttpError(
            404, "gallery_not_found", f"there is no gallery {name!r}; there are: {there}. Make it by POST /v1/galleries"
        )

    def get(self, name: str) -> Served:
        """Raises HttpError 404, GalleryError where it cannot be used."""
        url = self.url_of(name)
        with self._lock:
            found = self._open.get(name)
            if found is None:
                found = self._open[name] = self._opened(name, url)
                return found
        try:
            found.recogniser()
        except GalleryError:  # put in its place was another one: opened with its own settings, if that can be done
            with self._lock:
                if self._open.get(name) is found:
                    del self._open[name]
            found.close(wait=False)
            return self.get(name)
        return found

    def _opened(self, name: str, url: str) -> Served:
        managed = name not in self.settings.fixed
        place = self.root / name if "://" in url else Path(url)
        return Served(name, url, self._config(url), self._networks, place=place, managed=managed)

    def _config(self, url: str) -> Config:
        index_dir = f"IndexProcess.index_dir={json.dumps(url, ensure_ascii=False)}"
        return load_config_for_gallery(self.settings.config_path, (*self.settings.overrides, index_dir))

    def create(self, name: str) -> Served:
        """An empty gallery in the root folder. Raises HttpError where the name will not do."""
        check_name(name)
        with self._lock:
            if name in self.names():
                raise HttpError(409, "gallery_exists", f"there is a gallery {name!r} already; choose another name")
            self.root.mkdir(parents=True, exist_ok=True)
            make_empty(str(self.root / name), self.settings.config, self._networks)
            return self.get(name)

    def rename(self, name: str, new: str) -> None:
        check_name(new)
        served = self._managed(name)
        with self._lock:
            if new in self.names() or (self.root / new).exists():
                raise HttpError(409, "gallery_exists", f"there is a gallery {new!r} already; choose another name")
            self._leave(served, lambda: os.rename(self.root / name, self.root / new))

    def delete(self, name: str) -> None:
        served = self._managed(name)
        aside = self.root / f".deleted-{name}-{time.time_ns()}"
        self._leave(served, lambda: os.rename(self.root / name, aside))
        shutil.rmtree(aside, ignore_errors=True)

    def _managed(self, name: str) -> Served:
        served = self.get(name)
        if not served.managed:
            raise HttpError(
                409,
                "gallery_fixed",
                f"the gallery {name!r} was named when the service was started: it is renamed or deleted by hand",
            )
        return served

    def _leave(self, served: Served, move: Callable[[], object]) -> None:
        def leave(writer: GalleryWriter) -> None:
            move()
            served.close(wait=False)

        served.submit(leave, self.settings.busy_wait).result()
        with self._lock:
            self._open.pop(served.name, None)

    def described(self, name: str) -> dict[str, Any]:
        """What is told of a gallery, also of one that cannot be used."""
        told: dict[str, Any] = {"name": name, "entries": 0, "labels": 0, "model": None, "writable": False}
        told |= {"managed": name not in self.settings.fixed, "default": name == self.default(), "error": None}
        try:
            served = self.get(name)
            info = served.reader().info()
        except GalleryError as error:
            return told | {"error": str(error)}
        told |= {"entries": info["entries"], "labels": info["labels"], "model": info["model_name"]}
        return told | {"writable": served.writable}

    def folders(self) -> dict[str, str]:
        """Folders, as given and in full, -> the names of their galleries."""
        found = {self.settings.fixed[name]: name for name in self.settings.fixed}
        found |= {str(self.root / name): name for name in self._open if name not in self.settings.fixed}
        return found | {os.path.abspath(url): name for url, name in found.items() if "://" not in url}

    def close(self) -> None:
        for each in list(self._open.values()):
            each.close()


def check_name(name: str) -> None:
    if not is_gallery_name(name):
        raise HttpError(
            422,
            "bad_name",
            f"{name!r} is no name of a gallery: wanted are up to 64 letters, digits, blanks and . _ - ({NAME})",
        )


def facts_of(config: Config, recogniser: Recogniser | None = None, rec: Any = None) -> Facts:
    index, rec = config.IndexProcess, rec or (recogniser and recogniser.rec_predictor)
    settings = settings_to_keep(config)
    method = index.index_method
    return new_facts(rec.dimension, index.dist_type, method, rec.fingerprint, rec.model.name, settings=settings)


def make_empty(url: str, config: Config, networks: Networks) -> None:
    """A gallery without entries, whose pictures will lie in its own folder. Raises GalleryError."""
    own = {} if "://" in url else {"image_root": url}
    config = config.replace("IndexProcess", index_dir=url, **own)
    with open_writer(url) as writer:
        writer.begin(facts_of(config, rec=networks.extractor(config))).commit()
