"""The lines of a list file, good and bad, as training reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shitu.datasets.findings import Finding
from shitu.datasets.layouts.text import lines_of
from shitu.list_line import is_whole, split_label, splitter


@dataclass(frozen=True, slots=True)
class Line:
    """One good line: its number from 1, the path as written and where the image lies, and the label as text."""

    number: int
    image: str
    path: str
    label: str


def read_lines(
    list_file: Path, image_root: str, *, delimiter: str | None = None, text_labels: bool = False
) -> Iterator[Line | Finding]:
    """The lines in order; a Finding (columns, label) for one that cannot be used.

    Columns are split at TABs where the first line holds one, otherwise at spaces from the right, so that paths may
    hold spaces; there are as many as in the first line, two or three. `delimiter` is another one. `text_labels`: a
    data_file of build-gallery. Raises ConfigError for a list that is missing or not UTF-8.
    """
    columns = 0
    for number, line in lines_of(list_file):
        if not columns:
            delimiter = delimiter or ("\t" if "\t" in line else " ")
            columns = 2 if text_labels else _columns(line, delimiter)
            split = splitter(delimiter, columns)
        assert delimiter is not None
        fields = split_label(line, delimiter)[:2] if text_labels else split(line)
        shown = line.strip()[:80]
        if not is_whole(fields, columns) or "\0" in line:
            wanted = " ".join(["path", "label", "unique_id"][:columns])
            detail = f"{len(fields)} columns: {shown!r}; wanted {wanted}"
            yield Finding("columns", detail, str(list_file), number)
        elif not text_labels and not all(is_integer(field) for field in fields[1:]):
            yield Finding("label", f"{fields[1]!r}", str(list_file), number, fields[0], fields[1])
        else:
            label = fields[1] if text_labels else str(int(fields[1]))
            yield Line(number, fields[0], os.path.join(image_root, fields[0]), label)


def is_integer(text: str) -> bool:
    """Whether it is an int64 in plain digits; int() takes 1_000, too."""
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18


def _columns(line: str, delimiter: str) -> int:
    if delimiter != " ":
        return 3 if line.count(delimiter) == 2 else 2
    fields = line.rsplit(None, 2)
    return 3 if len(fields) == 3 and is_integer(fields[1]) and is_integer(fields[2]) else 2
