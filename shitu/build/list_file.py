"""Lists of images with labels, `path<delimiter>label` per line: `IndexProcess.data_file`, and queries to evaluate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shitu.errors import ConfigError
from shitu.list_line import is_whole, split_label


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: `image` as written, `path` where it lies, `label` with its spaces, `line` from 1; `more` columns."""

    image: str
    path: str
    label: str
    line: int
    more: tuple[str, ...] = ()


def read_list(
    data_file: str | Path,
    image_root: str | Path | None,
    delimiter: str,
    *,
    name: str = "IndexProcess.data_file",
    purpose: str = "it lists the gallery",
) -> Iterator[Entry]:
    """Lines of a list file, read as they are needed. Empty lines and a byte-order mark are passed over.

    The label is what stands after the first delimiter, spaces included; further TAB-separated columns go to `more`.
    `name` and `purpose` say in a message which key or option wanted the file, and what for.
    Raises ConfigError for a missing file, a line without label, or text that is not UTF-8.
    """
    path = Path(data_file)
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield parse_line(line, image_root, delimiter, where=f"{path}:{number}", number=number)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first, for Chinese text "
            f"often: iconv -f GB18030 -t UTF-8 {path}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{name} {path}: {error.strerror or error}; check the path: {purpose}, one `path<delimiter>label` per line"
        ) from error


def parse_line(line: str, image_root: str | Path | None, delimiter: str, *, where: str, number: int) -> Entry:
    """One line -> Entry. Raises ConfigError that shows the line and the delimiter."""
    fields = split_label(line, delimiter)
    if not is_whole(fields[:2], 2):
        shown = line.strip()[:80]
        raise ConfigError(
            f"{where}: {shown!r}: wanted an image and a label with {delimiter!r} between them; "
            "IndexProcess.delimiter sets another one (-o 'IndexProcess.delimiter=\" \"')"
        )
    if "\0" in fields[0]:
        raise ConfigError(f"{where}: the path holds a NUL byte; take it out")
    image, label, *more = fields
    return Entry(image, os.path.join(image_root or "", image), label, number, tuple(more))
