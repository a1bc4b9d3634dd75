"""The lines of a list file as training reads them, what `shitu dataset check` can find in them, and its report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shitu.datasets.read_text import lines_of
from shitu.list_line import is_whole, split_label, splitter

KINDS = {  # as they stand after a count
    "columns": "lines with wrong columns",
    "label": "labels that are no whole number",
    "gap": "gaps in the labels",
    "missing": "missing files",
    "unreadable": "unreadable images",
    "small": "images that are too small",
    "conflict": "images listed under different labels",
    "duplicate": "images listed before",
    "overlap": "images that are in a query list, too",
    "suspect": "labels that look wrong",
    "single": "classes with one image",
    "few": "classes with fewer than K images",
}
BAD = frozenset(KINDS) - {"gap", "suspect", "single", "few"}  # such lines are left out of the clean list


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` counts from 1; 0 and an empty path where a whole class or list is meant. `source` is the list's file.

    `label` is what the line says; `suggested`, for a suspect, what its neighbours are called.
    """

    kind: str
    detail: str
    source: str
    line: int = 0
    path: str = ""
    label: str = ""
    suggested: str = ""
    confidence: float | None = None


@dataclass
class CheckReport:
    """`counts`: images per label among the lines of the list that are not bad."""

    source: str
    lines: int = 0
    embedded: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def histogram(self) -> list[tuple[int, int, int]]:
        """(from, to, classes): how many classes have that many images, in powers of two.

        >>> CheckReport("", counts=Counter(a=1, b=3, c=9)).histogram()
        [(1, 1, 1), (2, 3, 1), (4, 7, 0), (8, 15, 1)]
        """
        bins = Counter(count.bit_length() for count in self.counts.values())
        return [(1 << bits - 1, (1 << bits) - 1, bins[bits]) for bits in range(1, max(bins, default=0) + 1)]

    def as_json(self) -> dict[str, Any]:
        """Everything; `findings` by kind, `images_per_label` in the order of the counts."""
        return {
            "list": self.source,
            "lines": self.lines,
            "usable": self.counts.total(),
            "classes": len(self.counts),
            "embedded": self.embedded,
            "found": {kind: len(self.of(kind)) for kind in KINDS},
            "findings": {kind: [_brief(finding) for finding in self.of(kind)] for kind in KINDS},
            "histogram": [{"from": low, "to": high, "classes": n} for low, high, n in self.histogram()],
            "images_per_label": dict(self.counts.most_common()),
        }


def _brief(finding: Finding) -> dict[str, Any]:
    return {key: value for key, value in asdict(finding).items() if value not in ("", None, 0) and key != "kind"}


@dataclass(frozen=True, slots=True)
class Line:
    """One good line: its number from 1, the path as written and where the image lies, and the label as text."""

    source: str
    number: int
    image: str
    path: str
    label: str

    def finding(self, kind: str, detail: str, suggested: str = "", confidence: float | None = None) -> Finding:
        return Finding(kind, detail, self.source, self.number, self.image, self.label, suggested, confidence)


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
            yield Line(str(list_file), number, fields[0], os.path.join(image_root, fields[0]), label)


def is_integer(text: str) -> bool:
    """Whether it is an int64 in plain digits; int() takes 1_000, too."""
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18


def _columns(line: str, delimiter: str) -> int:
    if delimiter != " ":
        return 3 if line.count(delimiter) == 2 else 2
    fields = line.rsplit(None, 2)
    return 3 if len(fields) == 3 and is_integer(fields[1]) and is_integer(fields[2]) else 2
