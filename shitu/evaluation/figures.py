"""Answers -> shares of queries answered rightly, by class and at a threshold, and what is taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shitu.evaluation.settings import Answer, Settings

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


def confusions(known: Iterable[Answer]) -> tuple[Confusion, ...]:
    """Known queries that would be given another name, whatever the threshold; the most frequent first."""
    queries: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for answer in known:
        queries[answer.query.label] += 1
        if answer.label is not None and not answer.right:
            pairs[answer.query.label, answer.label] += 1
    found = [Confusion(*pair, count, count / queries[pair[0]]) for pair, count in pairs.items()]
    return tuple(sorted(found, key=lambda one: (-one.count, -one.share, one.label, one.taken_for)))
