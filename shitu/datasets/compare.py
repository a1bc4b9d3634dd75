"""Images that are listed more than once: in one list, under two labels, or in train and query."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from shitu.datasets.duplicates import group_numbers, groups_of_several
from shitu.datasets.examine import Seen
from shitu.datasets.findings import Finding


def find_equal(train: Seen, queries: Sequence[Seen]) -> Iterator[Finding]:
    """Duplicates and conflicts within each list, and overlaps of `train` with the others, by content and by path."""
    for seen in (train, *queries):
        yield from _within(seen)
    for query in queries:
        yield from _between(train, query)


def _within(seen: Seen) -> Iterator[Finding]:
    known = np.flatnonzero(seen.pixels.any(axis=1))
    for group in groups_of_several(group_numbers(seen.pixels[known])):
        places = known[group]
        lines = [seen.lines[place] for place in places]
        first = lines[0]
        if len({line.label for line in lines}) > 1:
            told = ", ".join(f"{line.label} in line {line.number}" for line in lines[:5])
            for line in lines:
                yield Finding("conflict", f"labels {told}", str(seen.source), line.number, line.image, line.label)
            continue
        for place, line in zip(places[1:], lines[1:], strict=True):
            detail = f"the same {_what(seen, place, seen, places[0])} as line {first.number}, {first.image}"
            yield Finding("duplicate", detail, str(seen.source), line.number, line.image, line.label)


def _between(train: Seen, query: Seen) -> Iterator[Finding]:
    """One finding for each line of train that is in the query list, too."""
    others = {tuple(digest): place for place, digest in reversed(list(enumerate(query.pixels.tolist()))) if any(digest)}
    paths = {os.path.realpath(line.path): place for place, line in enumerate(query.lines)}
    for place, line in enumerate(train.lines):
        other = others.get(tuple(train.pixels[place].tolist()))
        what = "path"
        if other is not None:
            what = _what(train, place, query, other)
        else:
            other = paths.get(os.path.realpath(line.path))
        if other is not None:
            there = query.lines[other]
            detail = f"the same {what} as {query.source}:{there.number}, {there.image}"
            yield Finding("overlap", detail, str(train.source), line.number, line.image, line.label)


def _what(seen: Seen, place: int, other: Seen, there: int) -> str:
    same_path = os.path.realpath(seen.lines[place].path) == os.path.realpath(other.lines[there].path)
    same_file = np.array_equal(seen.files[place], other.files[there])
    return "path" if same_path else "file" if same_file else "picture"
