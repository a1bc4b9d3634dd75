"""Every image of a list decoded once: its faults, a digest that tells it from others, if wanted its embedding."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shitu.datasets.findings import Finding, Line, read_lines
from shitu.errors import ConfigError, EngineError, ImageError
from shitu.images.read import Picture, read_with_sha256
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead

Digests = NDArray[np.uint64]
WORDS = 2  # 128 of SHA-256's bits: among a billion pictures two meet by chance with a probability of 1e-21


def pixel_digest(picture: Picture) -> NDArray[np.uint64]:
    """(2,) uint64 of the shape and the pixels."""
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return first_words(digest.digest())


def first_words(digest: bytes) -> NDArray[np.uint64]:
    """(2,) uint64, the first 128 bits."""
    return np.frombuffer(digest, np.uint64, WORDS)


def group_numbers(digests: Digests) -> NDArray[np.int64]:
    """(n, 2) -> (n,) the same number for the same digest, numbers being 0, 1, 2 ..."""
    if not len(digests):
        return np.empty(0, np.int64)
    order = np.lexsort(digests.T)
    changed = np.any(digests[order[1:]] != digests[order[:-1]], axis=1)
    numbers = np.empty(len(digests), np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(changed)])
    return numbers


def groups_of_several(numbers: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """The places, ascending, of every number that occurs more than once."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(numbers[order]) != 0])) if len(order) else order
    for places in np.split(order, starts[1:]):
        if len(places) > 1:
            yield places


BATCH = 32  # pictures embedded at once
Progress = Callable[[int], object]


class Embedder(Protocol):
    """shitu.recognise.embed.Extractor is one."""

    dimension: int

    def prepare(self, image: Picture) -> Any: ...
    def predict_tensors(self, tensors: Sequence[Any]) -> NDArray[Any]: ...


@dataclass(frozen=True)
class CheckOptions:
    """`k`: the images per class that a P×K batch takes. `min_size`: pixels on the shorter side."""

    image_root: str = ""
    query_root: str | None = None  # of the query lists; None: image_root
    delimiter: str | None = None
    text_labels: bool = False
    k: int = 4
    min_size: int = 1


@dataclass
class Seen:
    """What is known of the images of one list; arrays as long as `lines`. An unreadable image has `good` False."""

    source: Path
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    good: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    files: NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, WORDS), np.uint64))
    pixels: NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, WORDS), np.uint64))
    vectors: list[NDArray[Any]] = field(default_factory=list)  # of the good ones


@dataclass(frozen=True)
class _Looked:
    finding: tuple[str, str] | None  # kind, detail
    file: NDArray[np.uint64]
    pixels: NDArray[np.uint64]
    tensor: Any


_NOTHING = np.zeros(WORDS, np.uint64)


def examine(
    list_file: Path, image_root: str, options: CheckOptions, embedder: Embedder | None, progress: Progress
) -> Seen:
    """Read the list and look at each of its images. Raises ConfigError where it has no good line."""
    seen = Seen(list_file)
    read = read_lines(list_file, image_root, delimiter=options.delimiter, text_labels=options.text_labels)
    for one in read:
        if isinstance(one, Line):
            seen.lines.append(one)
        else:
            seen.findings.append(one)
    if not seen.lines:
        raise ConfigError(f"{list_file}: no line of `path label` in it ({len(seen.findings)} others); name a list file")
    count = len(seen.lines)
    seen.good = np.zeros(count, np.bool_)
    seen.files, seen.pixels = np.zeros((count, WORDS), np.uint64), np.zeros((count, WORDS), np.uint64)
    tensors: list[Any] = []
    looked = map_ahead(lambda line: _look_at(line, embedder, options.min_size), seen.lines, 2 * PICTURES_AHEAD)
    for number, (line, look) in enumerate(zip(seen.lines, looked, strict=True)):
        progress(1)
        seen.files[number], seen.pixels[number] = look.file, look.pixels
        if look.finding:
            kind, detail = look.finding
            seen.findings.append(Finding(kind, detail, str(list_file), line.number, line.image, line.label))
            continue
        seen.good[number] = True
        if embedder:
            tensors.append(look.tensor)
            if len(tensors) == BATCH:
                seen.vectors.append(_embed(embedder, tensors))
                tensors = []
    if embedder and tensors:
        seen.vectors.append(_embed(embedder, tensors))
    return seen


def _embed(embedder: Embedder, tensors: Sequence[Any]) -> NDArray[np.float16]:
    """(n, d); zeros, which are like nothing, for an image that the network makes nothing of."""
    try:
        return embedder.predict_tensors(tensors).astype(np.float16)
    except EngineError:
        if len(tensors) > 1:
            return np.concatenate([_embed(embedder, [tensor]) for tensor in tensors])
        return np.zeros((1, embedder.dimension), np.float16)


def _look_at(line: Line, embedder: Embedder | None, min_size: int) -> _Looked:
    if not os.path.lexists(line.path):
        return _Looked(("missing", f"no file {line.path}"), _NOTHING, _NOTHING, None)
    try:
        picture, sha256 = read_with_sha256(line.path)
    except ImageError as error:
        return _Looked(("unreadable", str(error)), _NOTHING, _NOTHING, None)
    file, pixels = first_words(bytes.fromhex(sha256)), pixel_digest(picture)
    height, width = picture.shape[:2]
    if min(height, width) < min_size:
        return _Looked(("small", f"{width} x {height} pixels"), file, pixels, None)
    return _Looked(None, file, pixels, embedder.prepare(picture) if embedder else None)
