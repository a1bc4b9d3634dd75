"""What is wrong with a list before it is trained on: every image decoded, compared, and if wanted embedded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from shitu.datasets.examine import CheckOptions, Embedder, Progress, Seen, examine
from shitu.datasets.findings import BAD, CheckReport, Finding
from shitu.datasets.suspects import find_suspects
from shitu.datasets.write_list import read_classes


def check_list(
    list_file: Path,
    queries: Sequence[Path],
    options: CheckOptions,
    embedder: Embedder | None = None,
    progress: Progress = lambda count: None,
) -> CheckReport:
    """Look at every image of the lists once. `progress` is told how many images were looked at, and
    with an embedder how many were compared.

    Memory: about 500 bytes an image, 1 kB more with an embedder of 512 numbers. Raises ConfigError for a list that
    cannot be read or has no good line.
    """
    report, names = CheckReport(str(list_file)), read_classes(list_file)
    seen = examine(list_file, options.image_root, options, embedder, progress)
    query_root = options.image_root if options.query_root is None else options.query_root
    others = [examine(query, query_root, options, None, progress) for query in queries]
    report.findings += [finding for one in (seen, *others) for finding in one.findings]
    for one in (seen, *others):
        report.findings += _within(one)
    for other in others:
        report.findings += _between(seen, other)
    bad = {finding.line for finding in report.findings if finding.kind in BAD and finding.source == str(list_file)}
    report.counts = Counter(line.label for line in seen.lines if line.number not in bad)
    report.lines = len(seen.lines) + sum(
        finding.kind in ("columns", "label") and finding.source == report.source for finding in report.findings
    )
    if embedder:
        report.findings += _suspects(seen, report, names, progress)
    if not options.text_labels:  # a gallery may hold one image of a thing
        report.findings += _about_classes(report, options.k, names)
    return report


def clean_lines(list_file: Path, report: CheckReport, *, drop_suspects: bool = False) -> Iterator[str]:
    """The lines of the list as they are, without the bad ones."""
    kinds = BAD | ({"suspect"} if drop_suspects else set())
    bad = {finding.line for finding in report.findings if finding.kind in kinds and finding.source == report.source}
    with list_file.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and number not in bad:
                yield line.rstrip("\n") + "\n"


def _suspects(seen: Seen, report: CheckReport, names: Mapping[str, str], progress: Progress) -> Iterator[Finding]:
    lines = [line for line, good in zip(seen.lines, seen.good, strict=True) if good]
    report.embedded = len(lines)
    if not lines:
        return
    vectors = np.concatenate(seen.vectors).astype(np.float32)
    values, labels = np.unique([line.label for line in lines], return_inverse=True)
    pictures: dict[bytes, int] = {}
    digests = (digest for digest, good in zip(seen.pixels, seen.good, strict=True) if good)
    contents = np.array([pictures.setdefault(digest, len(pictures)) for digest in digests])
    for suspect in find_suspects(vectors, labels, contents, progress):
        line, other = lines[suspect.place], str(values[suspect.suggested])
        detail = f"looks like {names.get(other, other)}, not {names.get(line.label, line.label)}"
        told = f"{detail} (confidence {suspect.confidence:.2f})"
        yield line.finding("suspect", told, other, round(suspect.confidence, 4))


def _about_classes(report: CheckReport, k: int, names: Mapping[str, str]) -> Iterator[Finding]:
    values = sorted(map(int, report.counts))
    if values != list(range(len(values))):
        detail = (
            f"{len(values):,} different labels from {values[0]} to {values[-1]}; training wants 0 to "
            f"{len(values) - 1:,} (or relabel: True), evaluation does not mind"
        )
        yield Finding("gap", detail, report.source)
    for label, count in sorted(report.counts.items(), key=lambda item: (item[1], int(item[0]))):
        shown = f"label {label}" + (f" ({names[label]})" if label in names else "")
        if count == 1:
            yield Finding("single", f"{shown}: no second image to be near to", report.source, label=label)
        elif count < k:
            yield Finding("few", f"{shown}: {count} images, K is {k}", report.source, label=label)


def groups_of_several(digests: Iterable[bytes]) -> list[list[int]]:
    """The places, ascending, of every digest that occurs more than once; an empty one is none."""
    places: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        if digest:
            places.setdefault(digest, []).append(place)
    return [group for group in places.values() if len(group) > 1]


def _within(seen: Seen) -> Iterator[Finding]:
    for places in groups_of_several(seen.pixels):
        lines = [seen.lines[place] for place in places]
        first = lines[0]
        if len({line.label for line in lines}) > 1:
            told = ", ".join(f"{line.label} in line {line.number}" for line in lines[:5])
            for line in lines:
                yield line.finding("conflict", f"labels {told}")
            continue
        for place, line in zip(places[1:], lines[1:], strict=True):
            what = _what(seen, place, seen, places[0])
            yield line.finding("duplicate", f"the same {what} as line {first.number}, {first.image}")


def _between(train: Seen, query: Seen) -> Iterator[Finding]:
    """One finding for each line of train that is in the query list, too."""
    pixels = {digest: place for place, digest in reversed(list(enumerate(query.pixels))) if digest}
    paths = {os.path.realpath(line.path): place for place, line in enumerate(query.lines)}
    for place, line in enumerate(train.lines):
        other, what = pixels.get(train.pixels[place]), "path"
        if other is not None:
            what = _what(train, place, query, other)
        else:
            other = paths.get(os.path.realpath(line.path))
        if other is not None:
            there = query.lines[other]
            yield line.finding("overlap", f"the same {what} as {query.source}:{there.number}, {there.image}")


def _what(seen: Seen, place: int, other: Seen, there: int) -> str:
    same_path = os.path.realpath(seen.lines[place].path) == os.path.realpath(other.lines[there].path)
    return "path" if same_path else "file" if seen.files[place] == other.files[there] else "picture"
