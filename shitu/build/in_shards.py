"""Embedding by a fleet: what another process does with a shard of a list, and how its vectors come back in order."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shitu.build.embed import STATS_AHEAD, Embedded, Models, Spec, embed_shard
from shitu.build.list_file import Entry
from shitu.build.source import Source
from shitu.errors import ShituError, UsageError
from shitu.fleet.parts import Parts
from shitu.fleet.shards import Fleet, Run, Shard, cut, in_order
from shitu.images.read_ahead import map_ahead


@dataclass(frozen=True)
class EmbedWork:
    """`embed_shard` with models that are opened once in a process; `key` those of the driver."""

    source: Source
    spec: Spec
    key: str

    def open(self) -> Run:
        models = Models.open(self.spec.config)
        if models.key != self.key:
            raise UsageError(
                "a machine of the fleet has other models than this one; install the same shitu and models on all"
            )
        return lambda entries: to_part(list(embed_shard(entries, self.source, self.spec, models)))


@dataclass(frozen=True)
class InShards:
    """An Executor: entries as shards, embedded by a fleet; what a killed run left in `place` is taken first."""

    models: Models
    fleet: Fleet
    place: str

    def map(self, entries: Sequence[Entry], source: Source, spec: Spec) -> Iterator[Embedded]:
        parts = Parts(self.place, self._key(spec))
        left = _Left(parts)
        found = left.find(entries, source)
        fresh = [entry for entry, where in zip(entries, found, strict=True) if where is None]
        run = uuid.uuid4().hex  # an image may have changed since: a part of an earlier run never passes for one of this
        made = self._made(cut(fresh, lambda entry: [run, entry.path]), source, spec, parts)
        for entry, where in zip(entries, found, strict=True):
            yield next(made) if where is None else left.take(entry, *where)
        parts.delete()

    def _key(self, spec: Spec) -> str:
        """Of what a part depends on besides its images."""
        digest = hashlib.sha256(f"{self.models.key} {spec.config.IndexProcess.crop}".encode())
        for sha256 in sorted(spec.known):
            digest.update(sha256.encode())
        return digest.hexdigest()[:16]

    def _made(self, shards: Sequence[Shard], source: Source, spec: Spec, parts: Parts) -> Iterator[Embedded]:
        for shard, part in in_order(self.fleet, EmbedWork(source, spec, self.models.key), shards, parts):
            done = from_part(part, shard.lines)
            if all(one.missing for one in done) and any(source.identity(entry.path) for entry in shard.lines):
                raise UsageError(
                    f"{shard.lines[0].path} is there, and a machine of the fleet does not see it; images have to lie "
                    "where all machines see them: on a network disk, or in an object store"
                )
            yield from done
            parts.delete(shard.name)  # the builder keeps what it has got


class _Left:
    """The images in parts that a killed run left; of these, one part at a time is in memory."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._where: dict[str, tuple[str, int]] = {}
        for name in parts.names():
            try:
                done = from_part(parts.read(name))
            except ShituError:  # damaged: made again
                parts.delete(name)
                continue
            self._where |= {one.identity: (name, number) for number, one in enumerate(done) if not one.error}
        self._open: tuple[str, list[Embedded]] = ("", [])

    def find(self, entries: Sequence[Entry], source: Source) -> list[tuple[str, int] | None]:
        """Where each of them is; None for those to be embedded, changed ones among them."""
        if not self._where:
            return [None] * len(entries)
        identities = map_ahead(lambda entry: source.identity(entry.path), entries, STATS_AHEAD)
        return [self._where.get(identity) for identity in identities]

    def take(self, entry: Entry, name: str, number: int) -> Embedded:
        if self._open[0] != name:
            self._open = (name, from_part(self._parts.read(name)))
        return replace(self._open[1][number], entry=entry, resumed=True)


def to_part(done: Sequence[Embedded]) -> bytes:
    """A line of JSON, a line break, and the vectors, row after row."""
    keys = ("identity", "sha256", "boxes", "error", "missing")
    rows = [{key: getattr(one, key) for key in keys} | {"known": one.vectors is None} for one in done]
    made = [one.vectors for one in done if one.vectors is not None and len(one.vectors)]
    vectors = np.concatenate(made) if made else np.empty((0, 1), np.float32)
    head = json.dumps([vectors.dtype.name, vectors.shape[1], rows], default=int)
    return head.encode() + b"\n" + vectors.tobytes()


def from_part(part: bytes, entries: Sequence[Entry] | None = None) -> list[Embedded]:
    """The records of a part, in order, of these entries. Raises ShituError where they cannot be."""
    head, _, body = part.partition(b"\n")
    try:
        dtype, width, rows = json.loads(head)
        vectors = np.frombuffer(body, np.dtype(dtype)).reshape(-1, width)
        done, start = [], 0
        for entry, row in zip(entries or [_NOBODY] * len(rows), rows, strict=True):
            boxes = tuple(None if box is None else tuple(box) for box in row.pop("boxes"))
            stop = start + (0 if row.pop("known") else len(boxes))
            own = vectors[start:stop] if stop > start else None
            done.append(Embedded(entry, **row, boxes=boxes, vectors=own))
            start = stop
        if start != len(vectors):
            raise ValueError(f"{len(vectors)} vectors for {start} boxes")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ShituError(f"a part of the fleet cannot be read: {error}; delete the folder of parts") from error
    return done


_NOBODY = Entry("", "", "", 0)
