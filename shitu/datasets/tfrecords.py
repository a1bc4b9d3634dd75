"""104flowers' TFRecord files -> `<split>/<class>/<id>.jpeg`, without TensorFlow.

A record is its length (uint64, little endian), 4 bytes of check, the data, 4 bytes of check; the data is a
`tf.train.Example` in protocol-buffer form. The check sums (CRC-32C) are not verified; image files are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from shitu.datasets.layouts.folders import find_folder
from shitu.errors import ConfigError, UsageError

_LARGEST = 1 << 28  # bytes; a picture of 512 px is 50 kB


def unpack(root: Path, target: Path, told: Callable[[int], object] = lambda count: None) -> int:
    """Write the labelled images (train, val) of a TFRecord folder below `target`; returns how many.

    Of several sizes the largest is taken. Raises ConfigError for a folder without records or a damaged one.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; wanted the unpacked TFRecords of 104flowers")
    sizes = (f"tfrecords-jpeg-{size}x{size}/train" for size in (512, 331, 224, 192))
    base = find_folder(root, *sizes, "train").parent
    written = 0
    for split in ("train", "val"):
        for path in sorted((base / split).glob("*.tfrec")):
            for example in _examples(path):
                _write_image(path, example, target / split)
                written += 1
                told(1)
    if not written:
        raise ConfigError(f"{base}: no train/*.tfrec with labelled images in it; unpack 104flowers there")
    return written


def _write_image(path: Path, example: dict[str, bytes | int], target: Path) -> None:
    image, number, name = (example.get(key) for key in ("image", "class", "id"))
    if not (isinstance(image, bytes) and isinstance(number, int) and isinstance(name, bytes)):
        raise ConfigError(
            f"{path}: wanted records with image, class and id; found {', '.join(example) or 'none'}. Fetch it anew"
        )
    if not re.fullmatch(rb"[0-9A-Za-z_-]{1,64}", name):
        raise ConfigError(f"{path}: the id {name[:80]!r} cannot be a file name; fetch the file anew")
    if not image.startswith(b"\xff\xd8"):
        raise ConfigError(f"{path}: the image {name.decode()} is not a JPEG file; fetch the file anew")
    folder = target / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name.decode()}.jpeg").write_bytes(image)


def _examples(path: Path) -> Iterator[dict[str, bytes | int]]:
    with path.open("rb") as file:
        while head := file.read(12):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else _LARGEST
            data = file.read(length) if length < _LARGEST else b""
            if len(data) != length or len(file.read(4)) != 4:
                raise ConfigError(f"{path} is cut off or no TFRecord file; fetch it anew")
            try:
                yield dict(_features(data))
            except (IndexError, ValueError, RecursionError) as error:
                raise ConfigError(f"{path}: a record is damaged ({error}); fetch the file anew") from error


def _features(example: bytes) -> Iterator[tuple[str, bytes | int]]:
    """Example{1: Features{1: map entry{1: key, 2: Feature{1: bytes_list | 3: int64_list}}}}, first values only."""
    for features in _fields(example, 1):
        for entry in _fields(features, 1):
            name = b"".join(_fields(entry, 1)).decode("utf-8")
            for feature in _fields(entry, 2):
                for texts in _fields(feature, 1):
                    yield name, next(_fields(texts, 1), b"")
                for integers in _fields(feature, 3):  # packed or not
                    start = 1 if integers[:1] == b"\x08" else _varint(integers, 1)[1]
                    yield name, _varint(integers, start)[0]


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Length-delimited fields of a message with that number; others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field is longer than its record")
            if wanted == tag >> 3:
                yield message[at : at + length]
            at += length
        elif tag & 7 == 0:
            _, at = _varint(message, at)
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            raise ValueError(f"wire type {tag & 7}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")
