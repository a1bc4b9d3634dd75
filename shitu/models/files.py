"""Whether the two files of a model are whole, before Paddle opens them.

Paddle crashes (SIGSEGV) on a `.pdmodel` that is something else, and takes a `.pdiparams` whose last tensor is cut
short for good: it recognises with what happened to be in memory. Neither is read here, only walked through.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from shitu.errors import ModelError

# framework.proto, VarType.Type: bytes per number
_WIDTHS = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}
_LARGEST_DESCRIPTION = 1000  # bytes for a type and some dimensions


class _BrokenError(Exception):
    """What does not fit, in a few words."""


def check_files(program: Path, params: Path) -> None:
    """Raises ModelError where one of the files is missing, cut short, or something else."""
    for path, check in ((program, _check_program), (params, _check_params)):
        try:
            check(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
        except _BrokenError as error:
            raise ModelError(
                f"{path} is damaged or not a Paddle file ({error}, {path.stat().st_size} bytes); copy or download it "
                f"again; `shitu models verify {path.parent}` compares it with what is on record"
            ) from None


def _check_program(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            whole = isinstance(json.loads(data), dict)
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise _BrokenError("it is not JSON")
        return
    # A ProgramDesc: nothing but length-delimited fields, of which 1 is a block
    position, blocks = 0, 0
    while position < len(data):
        tag, position = _varint(data, position)
        length, position = _varint(data, position)
        if tag & 7 != 2 or not 1 <= tag >> 3 <= 16:
            raise _BrokenError("it is not a program")
        blocks += tag >> 3 == 1
        position += length
    if position != len(data):
        raise _BrokenError("it is cut short")
    if not blocks:
        raise _BrokenError("it is not a program")


def _check_params(path: Path) -> None:
    """Tensor after tensor: two versions (0), the type and the dimensions, and then as many numbers."""
    size, count = path.stat().st_size, 0
    with path.open("rb") as file:
        while file.tell() < size:
            _skip_tensor(file, size, count)
            count += 1
    if not count:
        raise _BrokenError("it is empty")


def _skip_tensor(file: BinaryIO, size: int, number: int) -> None:
    broken = _BrokenError(f"no tensor where number {number + 1} should begin" if number else "it holds no tensor")
    version, levels = _integer(file, 4), _integer(file, 8)
    if version != 0 or levels > 8:
        raise broken
    for _ in range(levels):
        file.seek(_integer(file, 8), os.SEEK_CUR)
    version, length = _integer(file, 4), _integer(file, 4)
    if version != 0 or length > _LARGEST_DESCRIPTION:
        raise broken
    end = file.tell() + length
    count = _bytes_of(file.read(length), broken)
    if end + count > size:
        raise _BrokenError(f"it ends inside tensor {number + 1}")
    file.seek(end + count)


def _bytes_of(description: bytes, broken: _BrokenError) -> int:
    """How many bytes a tensor has: a TensorDesc is its type (field 1) and its dimensions (field 2)."""
    kind, count, position = -1, 1, 0
    while position < len(description):
        tag, position = _varint(description, position)
        if tag == 0x12:  # dimensions packed into one field
            end, position = _varint(description, position)
            end += position
            while position < end:
                value, position = _varint(description, position)
                count *= value
            continue
        value, position = _varint(description, position)
        if tag == 0x08:
            kind = value
        elif tag == 0x10:
            count *= value
        else:
            raise broken
    if kind not in _WIDTHS:
        raise broken
    return count * _WIDTHS[kind]


def _integer(file: BinaryIO, width: int) -> int:
    data = file.read(width)
    if len(data) < width:
        raise _BrokenError("it is cut short")
    return int.from_bytes(data, "little")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Protobuf's whole number at `position`, and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _BrokenError("it is cut short")
        value |= (data[position] & 0x7F) << shift
        position += 1
        if data[position - 1] < 0x80:
            return value, position
    raise _BrokenError("a number without end")
