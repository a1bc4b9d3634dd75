"""Every image of a list decoded once: its faults, a digest that tells it from others, if wanted its embedding."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shitu.datasets.findings import Finding, Line, read_lines
from shitu.errors import ConfigError, EngineError, ImageError
from shitu.images.read import Picture, read_with_sha256
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead

DIGEST = 16  # of SHA-256's 32 bytes: among a billion pictures two meet by chance with a probability of 1e-21
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
    """What is known of the images of one list.

    As long as `lines`: `good`; digests of the `files` and their `pixels`, shape included, empty for an unreadable one.
    `vectors`, (n, d) each, are of the good ones.
    """

    source: Path
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    pixels: list[bytes] = field(default_factory=list)
    vectors: list[NDArray[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Looked:
    finding: tuple[str, str] | None  # kind, detail
    file: bytes = b""
    pixels: bytes = b""
    tensor: Any = None


def examine(
    list_file: Path, image_root: str, options: CheckOptions, embedder: Embedder | None, progress: Progress
) -> Seen:
    """Read the list and look at each of its images. Raises ConfigError where it has no good line."""
    seen = Seen(list_file)
    for one in read_lines(list_file, image_root, delimiter=options.delimiter, text_labels=options.text_labels):
        if isinstance(one, Line):
            seen.lines.append(one)
        else:
            seen.findings.append(one)
    if not seen.lines:
        raise ConfigError(f"{list_file}: no line of `path label` in it ({len(seen.findings)} others); name a list file")
    tensors: list[Any] = []
    looked = map_ahead(lambda line: _look_at(line, embedder, options.min_size), seen.lines, 2 * PICTURES_AHEAD)
    for line, look in zip(seen.lines, looked, strict=True):
        progress(1)
        seen.files.append(look.file)
        seen.pixels.append(look.pixels)
        seen.good.append(look.finding is None)
        if look.finding:
            seen.findings.append(line.finding(*look.finding))
        elif embedder:
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
        return _Looked(("missing", f"no file {line.path}"))
    try:
        picture, sha256 = read_with_sha256(line.path)
    except ImageError as error:
        return _Looked(("unreadable", str(error)))
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    file, pixels = bytes.fromhex(sha256)[:DIGEST], digest.digest()[:DIGEST]
    height, width = picture.shape[:2]
    if min(height, width) < min_size:
        return _Looked(("small", f"{width} x {height} pixels"), file, pixels)
    return _Looked(None, file, pixels, embedder.prepare(picture) if embedder else None)
