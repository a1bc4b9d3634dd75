"""An ONNX file before an engine opens it: whole, and reading nothing but the file that its card names.

A weight may lie outside the file, at a place that the file states (`external_data`). The bundled models make use of it:
their ONNX programs hold no weights and point into Paddle's .pdiparams. A file of strangers could point anywhere.
"""

from __future__ import annotations

import os
from pathlib import Path

from shitu.errors import ModelError

# external_data's entry as protobuf writes it: key (field 1), 8 bytes, "location"; then value (field 2)
_KEY, _VALUE = b"\x0a\x08location", 0x12
_FIRST_FIELDS = frozenset(number << 3 | kind for number, kind in ((1, 0), (7, 2), (8, 2), (2, 2)))
_SMALLEST = 16


def read_onnx(program: Path, params: Path | None) -> bytes:
    """The file's bytes. Raises ModelError where it is damaged, no ONNX, or points to a file other than `params`."""
    try:
        content = program.read_bytes()
        if params is not None and not os.access(params, os.R_OK):
            raise ModelError(f"{params} cannot be read; check the path and its permissions")
    except OSError as error:
        raise ModelError(f"{program} cannot be read: {error.strerror}; check the path and its permissions") from error
    if len(content) < _SMALLEST or content[0] not in _FIRST_FIELDS:
        raise ModelError(
            f"{program} is damaged or not an ONNX file ({len(content)} bytes); copy or download it again; "
            f"`shitu models verify {program.parent}` compares it with what is on record"
        )
    for name in sorted(external_files(content)):
        if params is None or name != params.name:
            allowed = f"only {params.name} may" if params else "its card names no `params`, so nothing may"
            raise ModelError(
                f"{program} wants weights from {name!r} beside it, and {allowed} be read; save the model with its "
                "weights inside (onnx.save with save_as_external_data=False), or name that file as `params`"
            )
    return content


def external_files(content: bytes) -> set[str]:
    """The files that an ONNX file points to; what cannot be made out is told as it stands."""
    names, at = set(), content.find(_KEY)
    while at >= 0:
        value = at + len(_KEY)
        if content[value : value + 1] == bytes([_VALUE]) and content[value + 1] < 0x80:
            names.add(content[value + 2 : value + 2 + content[value + 1]].decode("utf-8", "replace"))
        else:
            names.add(repr(content[value : value + 24]))
        at = content.find(_KEY, value)
    return names
