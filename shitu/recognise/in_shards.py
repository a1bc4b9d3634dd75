"""Recognising by a fleet: what another process does with a shard of photos, and how its records come back in order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shitu.config import Config
from shitu.errors import ShituError, UsageError
from shitu.fleet.parts import Parts
from shitu.fleet.shards import LINES, Fleet, Run, Shard, cut, in_order
from shitu.images.read_ahead import map_ahead, read_ahead
from shitu.object_store import identity_of, is_stored
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor
from shitu.recognise.system import Recogniser
from shitu.results import Recognition
from shitu.sources.read import read_sources

STATS_AHEAD = 64  # photos whose identity is asked for at a time


@dataclass(frozen=True)
class RecogniseWork:
    """Photos to lines of JSON by a predictor that is opened once in a process; `key` is that of the driver's.

    typed: the names are what a user typed, or what was found there, and may be web addresses.
    """

    config: Config
    key: str
    typed: bool = True

    def open(self) -> Run:
        predictor = SystemPredictor(self.config, many=True)
        if key_of(predictor, self.config) != self.key:
            raise UsageError(
                "a machine of the fleet has other models than this one, or another gallery, or it was changed "
                "meanwhile; install the same shitu on all, keep the gallery where all see it, and start again"
            )

        def run(names: Sequence[str]) -> bytes:
            read = read_sources(names) if self.typed else read_ahead(names)
            records = (record for _, record in recognize_files(predictor, read, self.config.Global.batch_size))
            return b"".join(json.dumps(record.to_dict(unnamed=True)).encode() + b"\n" for record in records)

        return run


def recognise_in_shards(
    config: Config, names: Sequence[str], fleet: Fleet, place: str, *, typed: bool = True, size: int = LINES
) -> Iterator[Recognition]:
    """What a fleet recognises in photos, in their order; parts lie in `place` until all has been told.

    Raises ConfigError, ModelError, EngineError, GalleryError, ShituError.
    """
    key = key_of(SystemPredictor(config), config)  # here first: what is wrong shows before a fleet starts
    parts = Parts(place, key)
    seen = zip(names, map_ahead(_identity, names, STATS_AHEAD), strict=True)
    pieces = cut(list(seen), list, size)
    shards = [Shard(piece.name, tuple(name for name, _ in piece.lines)) for piece in pieces]
    for _, part in in_order(fleet, RecogniseWork(config, key, typed), shards, parts):
        for line in part.splitlines():
            yield _record(line)
    parts.delete()


def _identity(name: str) -> str:
    """What changes when a photo does; "" where that cannot be told."""
    if is_stored(name) and not os.path.lexists(name):
        return identity_of(name)
    try:
        status = os.stat(name)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def key_of(predictor: Recogniser, config: Config) -> str:
    """What the answers depend on besides the photos: settings, models, and the gallery at this moment."""
    gallery, det = predictor.gallery, predictor.det_predictor
    said = [repr(config), predictor.rec_predictor.fingerprint, det.model.fingerprint() if det else ""]
    said += [repr(gallery.facts), str(len(gallery))]
    return hashlib.sha256("\n".join(said).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _record(line: bytes) -> Recognition:
    try:
        return Recognition.from_dict(json.loads(line))
    except (ValueError, TypeError, KeyError, StopIteration, RecursionError) as error:
        raise ShituError(f"a part of the fleet cannot be read: {error}; delete the folder of parts") from error
