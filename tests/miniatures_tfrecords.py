"""A miniature of 104flowers as TFRecords."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.miniature import jpeg, write


def write_tfrecords(root: Path) -> Path:
    """104flowers as the competition gives it; the bytes are put together by hand after the two formats' papers."""
    records = {"train": [("0a1b2c3d4", 67), ("0a1b2c3d5", 300)], "val": [("00000000f", 0)]}
    for split, examples in records.items():
        data = b"".join(record(example(jpeg(), name.encode(), number)) for name, number in examples)
        write(root / "tfrecords-jpeg-224x224" / split / f"00-224x224-{len(examples)}.tfrec", data)
    write(root / "tfrecords-jpeg-224x224" / "test" / "00-224x224-1.tfrec", b"not read")
    return root


def record(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + b"crc1" + data + b"crc2"


def example(image: bytes, name: bytes, number: int, *, packed: bool = True) -> bytes:
    """A tf.train.Example with image, id and class."""
    value = _varint(number)
    integers = _field(1, value) if packed else b"\x08" + value
    features = {b"image": _field(1, _field(1, image)), b"id": _field(1, _field(1, name)), b"class": _field(3, integers)}
    entries = (_field(1, _field(1, key) + _field(2, feature)) for key, feature in features.items())
    return _field(1, b"".join(entries))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + [groups[-1]])
