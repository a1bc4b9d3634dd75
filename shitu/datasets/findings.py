"""What `shitu dataset check` can find, and the report it adds up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`bad`: such a line is left out of the clean list. `plural` stands after a count."""

    plural: str
    bad: bool


KINDS = {
    "columns": Kind("lines with wrong columns", bad=True),
    "label": Kind("labels that are no whole number", bad=True),
    "gap": Kind("gaps in the labels", bad=False),
    "missing": Kind("missing files", bad=True),
    "unreadable": Kind("unreadable images", bad=True),
    "small": Kind("images that are too small", bad=True),
    "conflict": Kind("images listed under different labels", bad=True),
    "duplicate": Kind("images listed before", bad=True),
    "overlap": Kind("images that are in a query list, too", bad=True),
    "suspect": Kind("labels that look wrong", bad=False),
    "single": Kind("classes with one image", bad=False),
    "few": Kind("classes with fewer than K images", bad=False),
}


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
