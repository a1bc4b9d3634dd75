"""`shitu.Client`: the words of a `Pipeline`, spoken to a `shitu serve` elsewhere; docs/service.md."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from shitu.api.answers import Answer, Answers
from shitu.api.connection import Connection, File
from shitu.api.uploads import Upload, read_file, uploads
from shitu.errors import ImageError, ServiceError, ShituError, UsageError
from shitu.files import replace_file
from shitu.images.find import find_images
from shitu.images.read_ahead import map_ahead
from shitu.results import Box, Recognition

PARCEL, PARCEL_BYTES = 16, 16 << 20  # files of one request that adds
PAGE = 1000  # entries or labels of one request
AT_ONCE = 4  # requests on their way; the service recognises together what arrives together
OPTIONS = ("return_k", "score_thres", "threshold", "whole_image", "regions")
OF_THE_PICTURE = ("bad_image", "not_recognised", "too_large")  # refused for what was sent: other pictures go on
log = logging.getLogger("shitu")


@dataclass(frozen=True)
class Added:
    """What an addition did: the new entries; how many were there already, and how many of these under another label;
    how many entries there are now."""

    ids: tuple[int, ...] = ()
    already_there: int = 0
    relabelled: int = 0
    total: int = 0

    def then(self, other: Added) -> Added:
        sums = (self.already_there + other.already_there, self.relabelled + other.relabelled)
        return Added((*self.ids, *other.ids), *sums, other.total or self.total)


class Client:
    """A gallery of a service. Any number of threads may share it.

    url: where `shitu serve` answers. gallery: its name; None is the one that the service was started with. token: None
    is $SHITU_TOKEN, or none. timeout: seconds without a sign of the service. Raises UsageError for what is no address;
    every other method ServiceError for what the service refuses, and where none answers.
    """

    def __init__(
        self, url: str, gallery: str | None = None, *, token: str | None = None, timeout: float = 60.0
    ) -> None:
        self._connection = Connection(url, token or os.environ.get("SHITU_TOKEN"), timeout)
        self._gallery = gallery

    # --- recognising -------------------------------------------------------------------------------------------------

    def predict(self, source: Any, *, bgr: bool = False, **options: Any) -> Answers:
        """Find the objects in pictures and name them: one Answer for each picture, in order; `Pipeline.predict`.

        options: return_k, score_thres, threshold, whole_image, each for the config's of the service; regions: boxes to
        be named in place of what the detector finds. Web addresses are fetched here. A picture that cannot be read has
        an Answer with `error`, and a warning is logged. Raises UsageError as `Pipeline.predict`, and for other options.
        """
        answers = Answers(list(self.answers(source, bgr=bgr, **options)))
        for one in answers:
            if one.error:
                log.warning("failed: %s", one.error)
        return answers

    def answers(self, source: Any, *, bgr: bool = False, **options: Any) -> Iterator[Answer]:
        """The same one by one, each as soon as it and those before it are there."""
        return self.recognised(uploads(source, bgr), **options)

    def recognised(
        self, groups: Iterable[Iterable[Upload]], at_once: int = AT_ONCE, **options: Any
    ) -> Iterator[Answer]:
        """The same of what is on its way already; `at_once` groups are asked for side by side."""
        if unknown := sorted(options.keys() - OPTIONS):
            raise UsageError(f"{', '.join(unknown)}: no option of predict, which are {', '.join(OPTIONS)}")
        if options.get("regions") is not None:
            options["regions"] = json.dumps([list(box) for box in options["regions"]])
        place = ("v1", "galleries", self.gallery, "recognise")

        def ask(group: Iterable[Upload]) -> list[Answer]:
            return [Answer(self._recognised(one, place, options), one.kept) for one in group]

        for some in map_ahead(ask, groups, at_once, at_once):
            yield from some

    def _recognised(self, upload: Upload, place: Sequence[str], options: dict[str, Any]) -> Recognition:
        if isinstance(upload.content, ImageError):
            return Recognition(upload.name, error=str(upload.content))
        try:
            # the service need not know what a file is called here, nor where it lies
            told = self._connection.send(*place, files=[("picture", upload.content)], fields={}, **options)
        except ServiceError as error:
            if error.code not in OF_THE_PICTURE:
                raise
            return Recognition(upload.name, error=f"{upload.name}: {error.reason.removeprefix('picture: ')}")
        with self._connection.reading():
            return replace(Recognition.from_dict(told["answers"][0]), image=upload.name)

    # --- teaching ----------------------------------------------------------------------------------------------------

    def add(
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        label: str,
        bbox: Box | None = None,
    ) -> Added:
        """Add image files (a path, a folder, a pattern, or several); up to 16 at a time are one change.

        bbox: what of each picture is added: left, top, right, bottom in pixels; by default what the service's
        IndexProcess.crop says. What is there already is passed over, and what is there under another label gets this
        one. Raises UsageError; ImageError where none of the images can be read.
        """
        paths = [source] if isinstance(source, str | os.PathLike) else source
        fields = {"label": label} | ({"bbox": json.dumps(bbox)} if bbox else {})
        done, failed = Added(), list[str]()
        for files in _parcels(find_images([os.fspath(path) for path in paths]), failed):
            done = done.then(self._taught(files, fields, failed))
        if failed and done == Added():
            raise ImageError(failed[0])
        for reason in failed:
            log.warning("failed: %s", reason)
        return done

    def _taught(self, files: Sequence[File], fields: dict[str, str], failed: list[str]) -> Added:
        """One request; where a file is refused, one for each, so that it does not take the others with it."""
        try:
            told = self._connection.send("v1", "galleries", self.gallery, "items", files=files, fields=fields)
        except ServiceError as error:
            if error.code not in OF_THE_PICTURE:
                raise
            if len(files) > 1:
                return reduce(Added.then, (self._taught([file], fields, failed) for file in files))
            failed.append(str(error))
            return Added()
        with self._connection.reading():
            return Added(tuple(told["ids"]), told["already_there"], told["relabelled"], told["entries"])

    def remove(self, ids: Iterable[int]) -> int:
        """Remove entries; those that are not there are passed over. Returns how many entries there are now."""
        return self._entries("POST", "items", "remove", body={"ids": list(ids)})

    def relabel(self, ids: Iterable[int], label: str) -> tuple[int, ...]:
        """Give entries another label, and with it new ids, which are returned."""
        return self._ids("PATCH", "items", body={"ids": list(ids), "label": label})

    def rename(self, old: str, new: str, *, merge: bool = False) -> tuple[int, ...]:
        """Rename a label; merge: also where `new` is there already. Returns the new ids of its entries."""
        return self._ids("POST", "labels", "rename", body={"from": old, "to": new, "merge": merge})

    def undo(self) -> int:
        """Take the last change back, also an undo itself. Returns how many entries there are now."""
        return self._entries("POST", "undo")

    def _ids(self, method: str, *path: str, body: Any) -> tuple[int, ...]:
        told = self._connection.ask(method, "v1", "galleries", self.gallery, *path, body=body)
        with self._connection.reading():
            return tuple(map(int, told["ids"]))

    def _entries(self, method: str, *path: str, body: Any = None) -> int:
        told = self._connection.ask(method, "v1", "galleries", self.gallery, *path, body=body)
        with self._connection.reading():
            return int(told["entries"])

    # --- what is there -----------------------------------------------------------------------------------------------

    def items(self, label: str | None = None, text: str | None = None) -> Iterator[dict[str, Any]]:
        """The entries by id, as {id, label, image, bbox, sha256}; of one label, or of those that hold a text."""
        return self._pages("items", label=label, text=text)

    def labels(self, text: str | None = None) -> Iterator[dict[str, Any]]:
        """The labels in their order, as {label, count, first, newest}; those that hold a text."""
        return self._pages("labels", text=text)

    def _pages(self, what: str, **query: Any) -> Iterator[dict[str, Any]]:
        place, after = ("v1", "galleries", self.gallery, what), None
        while True:
            told = self._connection.ask("GET", *place, after=after, limit=PAGE, **query)
            with self._connection.reading():
                rows, after = list(told[what]), told.get("next")
            yield from rows
            if after is None:
                return

    @property
    def gallery(self) -> str:
        """The name of the gallery."""
        if self._gallery is None:
            told = self._connection.ask("GET", "v1", "galleries")
            with self._connection.reading():
                named = [str(one["name"]) for one in told["galleries"] if one["default"]]
            if not named:
                raise ServiceError(f"{self._connection.url}: has no gallery yet; make one by create(name)")
            self._gallery = named[0]
        return self._gallery

    def __len__(self) -> int:
        """How many entries the gallery has."""
        return int(self.info()["entries"])

    def info(self) -> dict[str, Any]:
        """What there is to say about the gallery: at least name, entries, labels, model."""
        told: dict[str, Any] = self._connection.ask("GET", "v1", "galleries", self.gallery)
        return told

    def __repr__(self) -> str:
        return f"<shitu {self._connection.url} {self.gallery}: {len(self):,} entries>"

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the gallery, with its pictures, into a zip archive, whole or not at all. Raises ShituError."""
        path, blocks = Path(path), self._connection.blocks("v1", "galleries", self.gallery, "export")
        try:
            replace_file(path, lambda file: file.writelines(blocks))
        except OSError as error:
            raise ShituError(f"{path}: cannot be written: {error.strerror}; check space and permissions") from None
        return path

    # --- galleries ---------------------------------------------------------------------------------------------------

    def galleries(self) -> list[dict[str, Any]]:
        """All of the service, as {name, entries, labels, model, writable}."""
        told = self._connection.ask("GET", "v1", "galleries")
        with self._connection.reading():
            return list(told["galleries"])

    def create(self, name: str) -> Client:
        """Make an empty gallery; returns a client of it."""
        self._connection.ask("POST", "v1", "galleries", body={"name": name})
        return self.of(name)

    def of(self, name: str) -> Client:
        """A client of another gallery of the service."""
        other = copy(self)
        other._gallery = name
        return other

    def delete(self) -> None:
        """Delete the gallery with all that is in it: no undo brings it back."""
        self._connection.ask("DELETE", "v1", "galleries", self.gallery)

    def run(self, kind: str, **settings: Any) -> Any:
        """Do long work, such as "compact", "verify", "map" or "evaluate" (docs/service.md), and return its result.

        Raises ServiceError where it fails, or is called off.
        """
        told = self._connection.ask("POST", "v1", "galleries", self.gallery, "jobs", body={"kind": kind, **settings})
        with self._connection.reading():
            place = ("v1", "jobs", str(told["job"]["id"]))
        deque(self._connection.blocks(*place, "events"), maxlen=0)  # which end with it
        job = self._connection.ask("GET", *place)
        with self._connection.reading():
            if job["state"] != "done":
                raise ServiceError(f"{self._connection.url}: {kind}: {job['error'] or job['state']}", "job_failed")
            return job["result"]


def _parcels(paths: Iterable[str], failed: list[str]) -> Iterator[list[File]]:
    """(name, content) of some files at a time; why one cannot be read goes into `failed`."""
    parcel: list[File] = []
    for path in paths:
        try:
            parcel.append((os.path.basename(path), read_file(path)))
        except ImageError as error:
            failed.append(str(error))
        if len(parcel) == PARCEL or sum(len(content) for _, content in parcel) > PARCEL_BYTES:
            yield parcel
            parcel = []
    if parcel:
        yield parcel
