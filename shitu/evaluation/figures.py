"""Answers -> shares of queries answered rightly, by class and at a threshold; average precision over the gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.evaluation.observe import Observation
from shitu.evaluation.settings import Answer, Settings
from shitu.gallery import GalleryReader

RECALL_AT = (1, 5)


@dataclass(frozen=True)
class ClassFigures:
    """One label of the gallery: shares of its queries. `named_right`: at the config's threshold; `ap`: their mean."""

    label: str
    queries: int
    gallery_entries: int
    recall1: float
    recall5: float
    ap: float | None
    named_right: float


@dataclass(frozen=True)
class Confusion:
    """`count` queries of `label` are taken for `taken_for`; `share` of all of that label."""

    label: str
    taken_for: str
    count: int
    share: float


@dataclass(frozen=True)
class AtThreshold:
    """What happens at a config's threshold (in the gallery's own scores): shares of the known queries, adding up to 1.

    `unknown_named`: the share of the unknown queries that are given a name; None where there are none.
    """

    threshold: float
    named_right: float
    named_wrong: float
    not_named: float
    unknown_named: float | None


def hit(answer: Answer, k: int) -> bool:
    """Whether the query's label is among those of its k nearest gallery entries; for k 1, with a vote, the elected."""
    return answer.right if k == 1 else any(match.label == answer.query.label for match in answer.ranking[:k])


def share(answers: Sequence[Answer], holds: Callable[[Answer], bool]) -> float:
    """Of at least one answer."""
    return sum(map(holds, answers)) / len(answers)


def at_threshold(known: Sequence[Answer], unknown_scores: Sequence[float], settings: Settings) -> AtThreshold:
    """Of known queries, at least one, and the scores of unknown ones."""
    assert settings.accept_at is not None
    named = [answer for answer in known if settings.accepts(answer.score)]
    right = sum(answer.right for answer in named)
    unknown = [settings.accepts(score) for score in unknown_scores]
    return AtThreshold(
        settings.accept_at,
        right / len(known),
        (len(named) - right) / len(known),
        1 - len(named) / len(known),
        sum(unknown) / len(unknown) if unknown else None,
    )


def per_class(
    known: Sequence[Answer], precisions: Sequence[float] | None, settings: Settings, entries: Mapping[str, int]
) -> tuple[ClassFigures, ...]:
    """The worst first: by Recall@1, Recall@5, the name. `entries`: gallery entries of each label."""
    groups: dict[str, list[int]] = {}
    for number, answer in enumerate(known):
        groups.setdefault(answer.query.label, []).append(number)
    found = []
    for label, numbers in groups.items():
        answers = [known[number] for number in numbers]
        found.append(
            ClassFigures(
                label,
                len(answers),
                entries[label],
                share(answers, lambda answer: hit(answer, 1)),
                share(answers, lambda answer: hit(answer, 5)),
                None if precisions is None else sum(precisions[number] for number in numbers) / len(numbers),
                share(answers, lambda answer: answer.right and settings.accepts(answer.score)),
            )
        )
    return tuple(sorted(found, key=lambda one: (one.recall1, one.recall5, one.label)))


def confusions(known: Sequence[Answer]) -> tuple[Confusion, ...]:
    """Known queries that would be given another name, whatever the threshold; the most frequent first."""
    queries = Counter(one.query.label for one in known)
    pairs = Counter((one.query.label, one.label) for one in known if one.label is not None and not one.right)
    found = [Confusion(label, taken_for, n, n / queries[label]) for (label, taken_for), n in pairs.items()]
    return tuple(sorted(found, key=lambda one: (-one.count, -one.share, one.label, one.taken_for)))


MOST_ENTRIES = 100_000  # beyond, only when asked for: 10,000 queries against these take minutes
REGIONS_AT_ONCE = 128  # x entries x 4 bytes are in memory at once

Vectors = NDArray[Any]
Nearness = NDArray[np.float32]


class Precision:
    """Average precisions of queries added one by one; `finish` gives them in that order.

    Gallery entries are ranked by their best score over the regions that count, ties by lower id. The vectors of at most
    REGIONS_AT_ONCE regions (or one query's) are kept.
    """

    def __init__(self, gallery: GalleryReader) -> None:
        self._gallery = gallery
        self._codes: dict[str, int] = {}
        ids, labels = [], []
        for item in gallery.items():
            ids.append(item.id)
            labels.append(self._codes.setdefault(item.label, len(self._codes)))
        self._ids, self._labels = np.array(ids, np.int64), np.array(labels, np.int64)
        self._waiting: list[tuple[Vectors, str, frozenset[int]]] = []
        self._found: list[float] = []

    def add(self, seen: Observation, answer: Answer) -> None:
        """One known query."""
        places = {part.bbox: number for number, part in enumerate(seen.parts)}
        rows = seen.vectors[[places[region.bbox] for region in answer.regions]]
        self._waiting.append((rows, seen.query.label, seen.left_out))
        if sum(len(rows) for rows, _, _ in self._waiting) >= REGIONS_AT_ONCE:
            self._work()

    def finish(self) -> list[float]:
        self._work()
        return self._found

    def _work(self) -> None:
        parts = [rows for rows, _, _ in self._waiting if len(rows)]
        every = nearness(np.concatenate(parts), self._gallery) if parts else np.empty((0, 0))
        start = 0
        for rows, label, left_out in self._waiting:
            own = every[start : start + len(rows)]
            start += len(rows)
            if not len(rows):
                self._found.append(0.0)
                continue
            scores, positive = own.max(axis=0), self._labels == self._codes[label]
            if left_out:
                gone = np.isin(self._ids, list(left_out))
                scores, positive = np.where(gone, -np.inf, scores), positive & ~gone
            self._found.append(average_precision(scores, positive))
        self._waiting = []


def average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Mean over the positives of (positives up to this one) / (its rank); equal scores rank by their place.

    scores, positive: (n,), greater is nearer, at least one positive.
    """
    places = np.flatnonzero(positive)
    ascending = np.sort(scores)
    up_to = np.searchsorted(ascending, scores[places], "right")
    tied = up_to - np.searchsorted(ascending, scores[places], "left")
    before = [int((scores[:place] == scores[place]).sum()) if ties > 1 else 0 for place, ties in zip(places, tied)]  # noqa: B905
    ranks = np.sort(len(scores) - up_to + np.array(before) + 1)
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def nearness(queries: Vectors, gallery: GalleryReader) -> Nearness:
    """(q, n) float32 of (q, width) queries with all entries by id: `Measure.nearness`, block by block."""
    measure = gallery.facts.measure
    found = np.empty((len(queries), len(gallery)), np.float32)
    start = 0
    for ids, vectors in gallery.blocks():
        found[:, start : start + len(ids)] = measure.nearness(queries, vectors)
        start += len(ids)
    return found
