"""What a database must be able to do to keep galleries; reader.py and writer.py make a gallery of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from shitu.gallery.base import Facts, Item, LabelCount
from shitu.gallery.stores.state import Rows, State


class Store(Protocol):
    """The place of one gallery. Its methods may be called by many threads; all raise GalleryError.

    format: what `gallery info` calls it. url: holds no password. most: how many neighbours one search may ask for.
    promises: what a user should know, a sentence each; `gallery info` and `verify` print them.
    """

    format: str
    url: str
    most: int

    def head(self) -> State | None:
        """The gallery as it is now; cheap. None where there is none."""

    # --- reading a state -------------------------------------------------------------------------------------------

    def nearest(self, state: State, queries: NDArray[Any], k: int, thorough: int | None) -> list[Rows]:
        """Of each query about k rows, with vectors, that are likely the nearest, in any order."""

    def rows(
        self,
        state: State,
        *,
        after: int = -1,
        label: str | None = None,
        text: str = "",
        vectors: bool = False,
        at_once: int | None = None,
    ) -> Iterator[Rows]:
        """Rows by ascending id above `after`, `at_once` or some thousands at a time; else as `GalleryReader.page`."""

    def fetch(self, state: State, ids: Collection[int], *, vectors: bool = False) -> Iterator[Rows]:
        """The rows of those ids that are there, in any order."""

    def find(self, state: State, column: str, values: Collection[str]) -> list[int]:
        """Ids of the rows whose label, image or sha256 is one of the values, in any order."""

    def labels(self, state: State, text: str, after: str, limit: int | None) -> list[LabelCount]: ...

    def told(self, state: State) -> dict[str, Any]:
        """What else `gallery info` says of it."""

    def unchecked(self) -> list[str]: ...

    def close(self) -> None: ...

    # --- changing it -----------------------------------------------------------------------------------------------

    def writing(self) -> AbstractContextManager[Any]:
        """Be the one writer; GalleryBusyError where there is another."""

    def transaction(self) -> AbstractContextManager[Any]:
        """Where the store can: all inside is done together, or nothing."""

    def make(self, facts: Facts) -> State:
        """A new, empty table that no gallery is in yet."""

    def numbered(
        self, state: State, items: list[Item], vectors: NDArray[Any], removed: Collection[int]
    ) -> tuple[list[int], list[bool], int]:
        """An id for each item, whether it is a new entry (one that is there is not written again), the next id."""

    def insert(self, state: State, version: int, items: list[Item], vectors: NDArray[Any], sums: list[int]) -> None:
        """Rows that are there from `version` on."""

    def hide(self, state: State, ids: Collection[int], version: int) -> None:
        """These rows are gone from `version` on."""

    def sweep(self, state: State) -> None:
        """Make undone what a change has written that was never published: all beyond the state's version."""

    def finish(self, state: State) -> None:
        """After the last insert of a new table: make its index."""

    def publish(self, state: State, before: State | None) -> None:
        """The commit: from here on `state` is the gallery. GalleryBusyError where `before` is no longer."""

    def purge(self, state: State, *, others: bool) -> None:
        """Free the rows that are gone for `state` and its previous; others: and all of this gallery's other tables."""

    def compact(self, state: State) -> None:
        """Let the database free room, and make its index anew."""
        ...
