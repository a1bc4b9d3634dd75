"""What a database says of a gallery as a whole: where its rows are, and which version of them is the gallery."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Facts, Item
from shitu.gallery.read.schema import REBUILD

FORMAT = 1
FOREVER = 2**62  # the version at which an entry is gone that nobody has removed
LONGEST = 65_535  # bytes of a label or a path
_LONGEST = 1_000_000  # characters; ours have some thousand


@dataclass(frozen=True)
class State:
    """One moment: the rows of `table` with added <= version < gone, `count` of them.

    latest: the highest version that the table has ever had. previous: what `undo` puts in this one's place; it has no
    previous itself.
    """

    table: str
    facts: Facts
    count: int = 0
    version: int = 0
    latest: int = 0
    next_id: int = 0
    previous: State | None = None

    def to_text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def from_text(cls, text: str, where: str, table: str) -> State:
        """table: a pattern of the gallery's tables, the only ones that are ever read or dropped.

        Raises GalleryError for what this shitu could not have written.
        """
        try:
            if len(text) > _LONGEST:
                raise ValueError(f"{len(text)} characters")
            state = cls._of(json.loads(text))
            if not all(re.fullmatch(table, each.table) for each in (state, state.previous) if each):
                raise ValueError("tables that are not its own")
            return state
        except (ValueError, TypeError, KeyError, RecursionError, GalleryError) as error:
            raise GalleryError(f"{where}: what it says of itself is damaged ({str(error)[:200]}); {REBUILD}") from error

    @classmethod
    def _of(cls, told: dict[str, Any], depth: int = 0) -> State:
        facts = Facts(**_typed(told["facts"], Facts))
        facts.measure.width(facts.dimension)
        previous = told["previous"]
        if previous is not None and depth:
            raise ValueError("more than one state of before")
        numbers = {name: told[name] for name in ("count", "version", "latest", "next_id")}
        if any(type(number) is not int or not 0 <= number < FOREVER for number in numbers.values()):
            raise ValueError(f"numbers {numbers}")
        if not isinstance(told["table"], str):
            raise TypeError("no table")
        return cls(told["table"], facts, **numbers, previous=None if previous is None else cls._of(previous, 1))

    def after(self, before: State | None) -> State:
        """This one, with `before` as what an undo goes back to."""
        return replace(self, previous=None if before is None else replace(before, previous=None))

    def undone(self) -> State:
        """The previous state as the next one, with this one as its previous. Call it where there is a previous."""
        assert self.previous is not None
        other = self.previous
        if other.table == self.table:  # versions and ids are never used twice
            other = replace(other, latest=self.latest, next_id=max(self.next_id, other.next_id))
        return other.after(self)

    @property
    def oldest(self) -> int:
        """The lowest version of its table that this state, or an undo, shows."""
        other = self.previous
        return min(self.version, other.version) if other and other.table == self.table else self.version


def _typed(told: Any, of: type) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise TypeError("no facts")
    wanted = {field.name: int if field.type == "int" else str for field in fields(of)}
    wrong = [name for name, kind in wanted.items() if type(told.get(name)) is not kind]
    if wrong or told["dimension"] < 1 or told["memory_limit"] < 0:
        raise ValueError(f"{', '.join(wrong) or 'dimension'} of its facts")
    return {name: told[name] for name in wanted}


@dataclass(frozen=True)
class Rows:
    """Some entries; `sums` as they were written, `vectors` (n, width) where they were asked for."""

    items: list[Item]
    sums: list[int]
    vectors: NDArray[Any] | None = None

    @property
    def ids(self) -> NDArray[np.int64]:
        return np.array([item.id for item in self.items], np.int64)


def storable(text: str) -> bool:
    """Whether both databases can hold it: UTF-8 without NUL, and no longer than Milvus takes."""
    try:
        return "\0" not in text and len(text.encode("utf-8")) <= LONGEST
    except UnicodeEncodeError:
        return False


def sum_of(item: Item, vector: NDArray[Any]) -> int:
    """A checksum, 56 bits, of all that an entry is but its id, so that the same entry has the same one in any store."""
    text = json.dumps([item.label, item.image, item.sha256, item.box], ensure_ascii=True)
    return int.from_bytes(blake2b(text.encode() + b"\0" + vector.tobytes(), digest_size=7).digest(), "big")
