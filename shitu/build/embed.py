"""Images -> staged embeddings, with reading, decoding and preprocessing running ahead in threads.

A bounded number of images is in memory, however long the list is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shitu.build.list_file import Entry
from shitu.build.staging import Staging
from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture, read_image
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead
from shitu.recognise.from_config import DetPredictor, RecPredictor
from shitu.results import Box

BATCHES_AHEAD = 2
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry: an error, or `len(boxes)` vectors from row `start` of the staging area."""

    sha256: str = ""
    start: int = -1
    boxes: tuple[Box | None, ...] = ()
    resumed: bool = False
    error: str = ""
    missing: bool = False


@dataclass(frozen=True)
class _Loaded:
    """What a worker thread hands over: the whole image as a tensor, or the image itself where it is to be cropped."""

    sha256: str
    tensor: NDArray[np.float32] | None = None
    image: Picture | None = None


class EmbedAhead:
    """Fills `staging`; `crop` is IndexProcess.crop: none, largest or all."""

    def __init__(
        self, rec: RecPredictor, det: DetPredictor | None, staging: Staging, *, crop: str, batch_size: int
    ) -> None:
        self._rec, self._det, self._staging = rec, det, staging
        self._crop, self._batch_size = crop, batch_size

    def run(self, entries: Sequence[Entry], progress: Progress, known: Set[str] = frozenset()) -> list[Outcome]:
        """Embed what is not staged yet and whose content is not `known`; outcomes in the order of `entries`."""
        outcomes: list[Outcome] = [Outcome()] * len(entries)
        batch: list[tuple[int, _Loaded]] = []
        for number, loaded in self._load(entries, known):
            if isinstance(loaded, Outcome):
                outcomes[number] = loaded
                progress(1)
                continue
            batch.append((number, loaded))
            if len(batch) == self._batch_size:
                self._embed(batch, entries, outcomes, progress)
                batch = []
        self._embed(batch, entries, outcomes, progress)
        return outcomes

    def _load(self, entries: Sequence[Entry], known: Set[str]) -> Iterator[tuple[int, _Loaded | Outcome]]:
        window = BATCHES_AHEAD * self._batch_size if self._crop == "none" else PICTURES_AHEAD
        return enumerate(map_ahead(lambda entry: self._load_one(entry, known), entries, window))

    def _load_one(self, entry: Entry, known: Set[str]) -> _Loaded | Outcome:
        if staged := self._staging.get(entry.path):
            return Outcome(staged.sha256, staged.start, staged.boxes, resumed=True)
        try:
            sha256 = file_sha256(entry.path)
            if sha256 in known:
                return Outcome(sha256)
            image = read_image(entry.path)
        except ImageError as error:
            return Outcome(error=str(error), missing=not os.path.exists(entry.path))
        if self._crop == "none":
            return _Loaded(sha256, tensor=self._rec.prepare(image))
        return _Loaded(sha256, image=image)

    def _embed(
        self,
        batch: Sequence[tuple[int, _Loaded]],
        entries: Sequence[Entry],
        outcomes: list[Outcome],
        progress: Progress,
    ) -> None:
        if not batch:
            return
        try:
            boxes = [self._boxes(loaded) for _, loaded in batch]
            vectors = self._vectors(batch, boxes)
        except EngineError as error:
            if len(batch) == 1:
                outcomes[batch[0][0]] = Outcome(error=str(error))
                progress(1)
                return
            for one in batch:  # so that one image does not take the others with it
                self._embed([one], entries, outcomes, progress)
            return
        start = 0
        for (number, loaded), wanted in zip(batch, boxes, strict=True):
            outcomes[number] = Outcome(loaded.sha256, self._staging.count, wanted)
            self._staging.add(entries[number].path, loaded.sha256, wanted, vectors[start : start + len(wanted)])
            start += len(wanted)
        progress(len(batch))

    def _vectors(
        self, batch: Sequence[tuple[int, _Loaded]], boxes: Sequence[Sequence[Box | None]]
    ) -> NDArray[np.float32] | NDArray[np.uint8]:
        pairs = zip((loaded for _, loaded in batch), boxes, strict=True)
        return self._rec.predict_tensors([tensor for pair in pairs for tensor in self._tensors(*pair)])

    def _boxes(self, loaded: _Loaded) -> tuple[Box | None, ...]:
        """The parts to index; None stands for the whole image."""
        if loaded.image is None or self._det is None:
            return (None,)
        return tuple(self._det.bodies(loaded.image, largest_only=self._crop == "largest"))

    def _tensors(self, loaded: _Loaded, boxes: Sequence[Box | None]) -> Iterator[NDArray[np.float32]]:
        if loaded.tensor is not None:
            yield loaded.tensor
            return
        assert loaded.image is not None
        for box in boxes:
            left, top, right, bottom = box or (0, 0, loaded.image.shape[1], loaded.image.shape[0])
            yield self._rec.prepare(loaded.image[top:bottom, left:right])


def file_sha256(path: str) -> str:
    """Hex digest of a regular file; empty where it cannot be read, which reading it as an image explains."""
    if not os.path.isfile(path):
        return ""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()
