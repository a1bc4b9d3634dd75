"""What a gallery is to those who read one: facts, items and a reader, whatever keeps it. Who changes one: change.py.

A folder on disk is one kind (gallery.py, write/writer.py); open.py finds the kind by the URL in
IndexProcess.index_dir, and another kind registers itself there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.measure import Measure, measure_of
from shitu.results import Box, Match

log = logging.getLogger(__name__)
Block = tuple[NDArray[np.int64], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Item:
    """One gallery entry: its label, the image it came from, the sha256 of that file, and the box cut from it.

    `id` is -1 until the gallery has given one; ids are never reused.
    """

    label: str
    image: str
    sha256: str = ""
    box: Box | None = None
    id: int = -1


@dataclass(frozen=True, slots=True)
class LabelCount:
    """A label, how many entries have it, and the ids of the first and the newest of them."""

    label: str
    count: int
    first: int
    newest: int


@dataclass(frozen=True)
class Facts:
    """What holds for a whole gallery. `fingerprint` names the model that made its vectors, "" where nobody knows."""

    dimension: int
    dist_type: str
    index_method: str
    fingerprint: str = ""
    model_name: str = ""
    uid: str = ""  # stays through append, remove and compact; another one means another gallery
    created: str = ""
    settings: str = ""  # what else it was made with, as JSON; read by made_with.py alone, which trusts it little
    memory_limit: int = 0  # bytes that an index made by `index_method: auto` may take; 0: its own limit

    @property
    def measure(self) -> Measure:
        return measure_of(self.dist_type)

    def check_fits(self, where: object, *, fingerprint: str, dimension: int, dist_type: str, apart: str = "") -> None:
        """GalleryError where vectors of this model cannot be compared with the gallery's; `where` it is kept.

        `apart`: why they may not even be those of the model's other programs.
        """
        made_by = f", made by model {self.model_name}," if self.model_name else ""
        pairs = (("dimension", dimension, self.dimension), ("dist_type", dist_type, self.dist_type))
        for name, wanted, have in pairs:
            if wanted != have:
                raise GalleryError(
                    f"the gallery {where}{made_by} has {name} {have}, the model and configuration have {wanted}: "
                    f"rebuild it with `shitu build-gallery`, or use the model and {name} it was made with"
                )
        if self.fingerprint and fingerprint and self.fingerprint != fingerprint:
            advice = f"use model {self.model_name}" if self.model_name else "use the model it was made with"
            if apart:
                advice += f". Of this model, {apart}: set Global.precision to fp32 for galleries made in fp32"
            raise GalleryError(
                f"the gallery {where} was made by another model or preprocessing (its fingerprint is "
                f"{self.fingerprint}, the model's {fingerprint}): rebuild it with `shitu build-gallery`, or {advice}"
            )
        if not self.fingerprint and self.uid not in _WARNED:
            _WARNED.add(self.uid)
            log.warning("%s does not say which model made it; with another model its labels mean nothing", where)


_WARNED: set[str] = set()  # the galleries of which this process has said so


class GalleryReader(Protocol):
    """A gallery as it was when opened or refreshed; may be shared among threads."""

    @property
    def url(self) -> str: ...

    @property
    def facts(self) -> Facts: ...

    def __len__(self) -> int: ...

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        """The k nearest entries of each query, nearest first, ties by lower id; fewer in a smaller gallery.

        vectors: (n, d) float32 unit vectors, or (n, d / 8) uint8 codes. Raises ValueError for other shapes and for zero
        or infinite vectors.
        """

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        """Ids, ascending, of the entries that match any of the requests."""

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        """The entries of those ids that are there."""

    def items(self) -> Iterator[Item]:
        """All entries, by id."""

    def page(self, *, after: int = -1, limit: int = 100, label: str | None = None, text: str = "") -> list[Item]:
        """The first `limit` entries by id, with an id above `after`: of that label, and with `text` in their label.

        Upper and lower case of A to Z are the same in `text`.
        """

    def labels(self, *, text: str = "", after: str = "", limit: int | None = None) -> list[LabelCount]:
        """The labels by name, those behind `after` alone, that contain `text`, as `page` compares it."""

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        """(m, width) vectors of the entries of those ids, in that order. Raises GalleryError where one is not there."""

    def blocks(self) -> Iterator[Block]:
        """All ids, ascending, (m,) int64 with their vectors (m, width), some thousands at a time."""

    def refreshed(self) -> GalleryReader:
        """This reader where nothing has changed since, which is cheap to ask; otherwise another one.

        This one goes on as it is. The other may be of another model: `facts.check_fits` tells. Raises GalleryError.
        """

    def info(self) -> dict[str, Any]:
        """What there is to say about the gallery, ready for JSON: at least path, entries, labels and the facts."""

    def verify(self) -> list[str]:
        """What is wrong with the gallery, a sentence each; empty when it is sound. Reads everything."""

    def unchecked(self) -> list[str]:
        """What `verify` could not look at, a sentence each; empty where it vouches for everything."""

    def close(self) -> None: ...
