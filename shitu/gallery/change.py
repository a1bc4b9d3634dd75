"""What a gallery is to those who change one: a writer, and changes that happen at one moment."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from numpy.typing import NDArray

from shitu.gallery.base import Facts, Item
from shitu.measure import measure_of


def new_facts(
    dimension: int,
    dist_type: str,
    index_method: str,
    fingerprint: str,
    model_name: str = "",
    *,
    settings: str = "",
    memory_limit: int = 0,
) -> Facts:
    """The facts of a gallery that is made now. Raises GalleryError where there is no such measure."""
    measure_of(dist_type).width(dimension)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Facts(
        dimension, dist_type, index_method, fingerprint, model_name, uuid.uuid4().hex, now, settings, memory_limit
    )


@dataclass(frozen=True)
class Changed:
    """What a change did: the ids of the entries added, in their order, and how many were removed."""

    ids: Sequence[int] = ()
    removed: int = 0


class Change(Protocol):
    """What will be done to a gallery: all of it at `commit`, or nothing."""

    def add(self, vectors: NDArray[Any], items: Iterable[Item], made_by: Facts | None = None) -> None:
        """Entries to add: (n, width) vectors and their items in that order; both may be read as late as `commit`.

        made_by: facts of the model that made them; a gallery that does not know its model takes this one's name.
        """

    def remove(self, ids: Iterable[int]) -> None:
        """Entries to remove; those that are not there are passed over."""

    def commit(self) -> Changed:
        """Raises GalleryError (GalleryWriteError for a full disk), ValueError (zero or infinite vectors)."""


class Gathered:
    """What a change is told before its `commit`, where a store's change begins: nothing is written until then."""

    def __init__(self) -> None:
        self._vectors: list[NDArray[Any]] = []
        self._items: list[Iterable[Item]] = []
        self._removed: set[int] = set()
        self._made_by: Facts | None = None

    def add(self, vectors: NDArray[Any], items: Iterable[Item], made_by: Facts | None = None) -> None:
        self._made_by = made_by or self._made_by
        self._vectors.append(vectors)
        self._items.append(items)

    def remove(self, ids: Iterable[int]) -> None:
        self._removed.update(ids)


class GalleryWriter(Protocol):
    """Who may change a gallery, from `with` to its end; there is one at a time, others get GalleryBusyError."""

    @property
    def staging(self) -> Path:
        """A folder for what an unfinished build has already computed."""

    def __enter__(self) -> GalleryWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, facts: Facts | None = None) -> Change:
        """A change of the gallery that is there; with `facts`, one that makes it anew. Raises GalleryError."""

    def undo(self) -> None:
        """Take the last change back, also an undo itself. Raises GalleryError where there is none that could be."""

    def compact(self) -> None:
        """Free what removed entries still occupy, and make the index anew. Ids stay."""
        ...
