"""A list in shards, each of which one process turns into a part, a file; the driver reads the parts in their order.

A part lies whole in its place or not at all, and its name says what it was made of. So a shard that two processes did
is done once, and what a killed driver leaves is found by the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shitu.fleet.parts import Parts

LINES = 512  # of a shard: a minute's work for a core, 1 MB of vectors

Run = Callable[[Sequence[Any]], bytes]


class Work(Protocol):
    """What is to be done with a shard; can be pickled."""

    def open(self) -> Run:
        """Load the models, once in a process; what makes a part of a shard's lines. Raises ShituError."""
        ...


@dataclass(frozen=True)
class Shard:
    """Lines of a list, in their order, and the name of the part that they become."""

    name: str
    lines: tuple[Any, ...]


class Fleet(Protocol):
    """Who runs shards, in which order it likes."""

    def map(self, work: Work, shards: Sequence[Shard], parts: Parts) -> Iterator[str]:
        """Do each shard; its name as soon as its part is there. Raises ShituError."""
        ...


def cut(lines: Sequence[Any], says: Callable[[Any], object], size: int = LINES) -> list[Shard]:
    """Shards of `size` lines; `says`: all that a part depends on of a line, ready for JSON."""
    pieces = [tuple(lines[start : start + size]) for start in range(0, len(lines), size)]
    return [Shard(_name(map(says, piece)), piece) for piece in pieces]


def do_shard(run: Run, shard: Shard, parts: Parts) -> str:
    """What a process of the fleet does, whichever fleet it is."""
    parts.write(shard.name, run(shard.lines))
    return shard.name


def in_order(fleet: Fleet, work: Work, shards: Sequence[Shard], parts: Parts) -> Iterator[tuple[Shard, bytes]]:
    """Each shard and its part, in order; what is there already is not done again. Raises ShituError."""
    there = parts.names()
    made = fleet.map(work, [shard for shard in shards if shard.name not in there], parts)
    for shard in shards:
        while shard.name not in there:
            there.add(next(made))
        yield shard, parts.read(shard.name)


def _name(lines: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(json.dumps(line, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()[:32]
