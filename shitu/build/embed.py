"""Images -> embeddings, with reading, decoding and preprocessing running ahead of the network in threads.

A bounded number of images is in memory, however long the list is. `embed_shard` is all that another machine would run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shitu.build.list_file import Entry
from shitu.build.source import Source
from shitu.config import Config
from shitu.digest import sha256_of_stream
from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture, read_stream
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead
from shitu.images.room import give_room_back
from shitu.recognise.detect import Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.from_config import DetPredictor, RecPredictor
from shitu.results import Box

BATCHES_AHEAD = 2
STATS_AHEAD = 64  # files whose identity is asked for at a time


@dataclass(frozen=True)
class Spec:
    """How entries become vectors; can be pickled. `known`: the sha256 of contents that need none."""

    config: Config
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Models:
    """The extractor of a config and, where `IndexProcess.crop` wants one, its detector."""

    rec: Extractor
    det: Detector | None

    @classmethod
    def open(cls, config: Config) -> Models:
        """Raises ConfigError, ModelError, EngineError."""
        crop = config.IndexProcess.crop
        whole = crop == "none" or (crop == "both" and not config.Global.det_inference_model_dir)
        return cls(RecPredictor(config), None if whole else DetPredictor(config, many=True))

    @property
    def key(self) -> str:
        """Names what makes the vectors: other models, or another threshold, make others."""
        det = self.det
        return self.rec.fingerprint + (f" {det.model.fingerprint()} {det.threshold} {det.max_results}" if det else "")


@dataclass(frozen=True)
class Embedded:
    """What became of one entry: an error, or `vectors` (m, width) of `boxes`, of which None is the whole image.

    `vectors` is None where the content is known. resumed: a run that was broken off had made them.
    """

    entry: Entry
    identity: str = ""
    sha256: str = ""
    boxes: tuple[Box | None, ...] = ()
    vectors: NDArray[Any] | None = None
    error: str = ""
    missing: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class _Image:
    """What a thread has read; `tensors` are the network's inputs, one for each box, once they are made."""

    entry: Entry
    identity: str
    sha256: str
    picture: Picture | None
    boxes: tuple[Box | None, ...] = (None,)
    tensors: tuple[NDArray[np.float32], ...] = ()


Loaded = _Image | Embedded


class Executor(Protocol):
    """Who runs the shards of a list; cuts it as it likes."""

    def map(self, entries: Sequence[Entry], source: Source, spec: Spec) -> Iterator[Embedded]:
        """What became of every entry, in their order."""
        ...


@dataclass(frozen=True)
class InThreads:
    """In this process, all entries as one shard, by models that are open already."""

    models: Models

    def map(self, entries: Sequence[Entry], source: Source, spec: Spec) -> Iterator[Embedded]:
        return embed_shard(entries, source, spec, self.models)


def embed_shard(
    entries: Sequence[Entry], source: Source, spec: Spec, models: Models | None = None
) -> Iterator[Embedded]:
    """What became of every entry, in their order; `models` are those of the spec, opened where they are not given.

    Keeps nothing between calls. What is wrong with one image stands in its record.
    """
    models = models or Models.open(spec.config)
    batches = _batches(_prepared(entries, source, spec, models), _batch_size(spec))
    # The next batch runs while this one is stored.
    for done in map_ahead(lambda batch: list(_embed(batch, models.rec)), batches, BATCHES_AHEAD, BATCHES_AHEAD):
        yield from done


def _batches(prepared: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    batch: list[Loaded] = []
    waiting = 0
    for one in prepared:
        batch.append(one)
        waiting += isinstance(one, _Image)
        if waiting in (0, size):  # failures wait for nobody
            yield batch
            batch, waiting = [], 0
    yield batch


def _prepared(entries: Sequence[Entry], source: Source, spec: Spec, models: Models) -> Iterator[Loaded]:
    """Read, and made ready in threads: an image from its file to the network's inputs in one of them."""
    crop = spec.config.IndexProcess.crop

    def prepare(entry: Entry) -> Loaded:
        one = _load(entry, source, spec.known)
        return _ready(_detected(one, models.det, crop) if models.det else one, models.rec)

    # An image may have many bodies.
    return map_ahead(prepare, entries, PICTURES_AHEAD if models.det else BATCHES_AHEAD * _batch_size(spec))


def _batch_size(spec: Spec) -> int:
    return int(spec.config.IndexProcess.batch_size)


def _load(entry: Entry, source: Source, known: frozenset[str]) -> Loaded:
    try:
        with source.open(entry.path) as image:
            sha256 = sha256_of_stream(image.stream)
            if sha256 in known:
                return Embedded(entry, image.identity, sha256)
            image.stream.seek(0)
            return _Image(entry, image.identity, sha256, read_stream(image.stream, entry.path))
    except ImageError as error:
        return Embedded(entry, error=str(error), missing=not source.identity(entry.path))


def _detected(one: Loaded, det: Detector, crop: str) -> Loaded:
    if isinstance(one, Embedded):
        return one
    assert one.picture is not None
    try:
        boxes = tuple(det.bodies(one.picture, crop))
    except EngineError as error:
        return Embedded(one.entry, error=str(error))
    return _Image(one.entry, one.identity, one.sha256, one.picture, boxes)


def _ready(one: Loaded, rec: Extractor) -> Loaded:
    """With the network's inputs in place of the picture, which is much larger."""
    if isinstance(one, Embedded):
        return one
    assert one.picture is not None
    crops = [one.picture if box is None else one.picture[box[1] : box[3], box[0] : box[2]] for box in one.boxes]
    tensors = tuple(map(rec.prepare, crops))
    give_room_back()
    return _Image(one.entry, one.identity, one.sha256, None, one.boxes, tensors)


def _embed(batch: Sequence[Loaded], rec: Extractor) -> Iterator[Embedded]:
    made = iter(_vectors([one for one in batch if isinstance(one, _Image)], rec))
    for one in batch:
        if isinstance(one, Embedded):
            yield one
            continue
        vectors = next(made)
        if isinstance(vectors, EngineError):
            yield Embedded(one.entry, error=str(vectors))
        else:
            yield Embedded(one.entry, one.identity, one.sha256, one.boxes, vectors)


def _vectors(images: Sequence[_Image], rec: Extractor) -> list[NDArray[Any] | EngineError]:
    """One call for all; image by image when that fails, so that one does not take the others with it."""
    if not images:
        return []
    try:
        rows = rec.predict_tensors([tensor for one in images for tensor in one.tensors])
    except EngineError as error:
        if len(images) == 1:
            return [error]
        return [each for one in images for each in _vectors([one], rec)]
    return list(np.split(rows, np.cumsum([len(one.boxes) for one in images])[:-1]))
