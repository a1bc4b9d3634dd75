"""Which of many settings is chosen for a wanted rate of false accepts, and what the choice is worth elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shitu.errors import UsageError
from shitu.evaluation.cut import SEED, Cuts, Floats, cuts, place, reachable, recall_error, shares
from shitu.evaluation.settings import Settings
from shitu.evaluation.simulate import WHOLE_IMAGE, Case, Outcomes, simulate
from shitu.measure import Measure

FOLDS = 5
SEARCHED = ("whole_image", "max_det_results", "threshold", "rec_nms_thresold")
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Figures:
    """`recall`: share of the known queries that are named rightly; `false_accepts`: share of the unknown named."""

    recall: float
    false_accepts: float


@dataclass(frozen=True)
class CrossValidation:
    """Settings and threshold chosen without a fold, measured on it; `same`: folds that chose the final settings."""

    folds: int
    figures: Figures
    same: int


@dataclass(frozen=True)
class Task:
    """Scores (s, k) of the known queries where they are named rightly, else -inf, and (s, u) of the unknown ones.

    `away` (s, 3): how far a setting is from the present one and what it costs, the less the better. `known_groups`
    (k,) and `unknown_groups` (u,): numbers of queries that belong together when folds are made. `hidden`: there are no
    unknown queries, each known one stands for one with its label hidden.
    """

    right: Floats
    unknown: Floats
    away: Rows
    known_groups: Rows
    unknown_groups: Rows
    hidden: bool
    measure: Measure
    rate: float

    @classmethod
    def of(cls, cases: Sequence[Case], tried: Sequence[Settings], present: Settings, rate: float) -> Task:
        known = np.array([case.known for case in cases], np.bool_)
        if not known.any():
            raise UsageError("no query has a label of the gallery: nothing can be recognised; check list and gallery")
        outcomes = simulate(cases, tried)
        listed = not known.all()
        unknown = outcomes.scores[:, ~known] if listed else outcomes.hidden
        _check(outcomes, unknown, listed)
        photos = _numbered([case.query.path for case in cases])
        labels = _numbered([case.query.label for case in cases])
        return cls(
            np.where(outcomes.right, outcomes.scores, -np.inf)[:, known],
            unknown,
            np.array([_away(one, present, tried) for one in tried], np.int64),
            # Hidden labels: a label that is unknown in a fold must not be known to it in the others.
            (photos if listed else labels)[known],
            labels[~known] if listed else labels,
            not listed,
            present.measure,
            rate,
        )

    def only(self, known: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> Task:
        return replace(self, right=self.right[:, known], unknown=self.unknown[:, unknown])

    def choose(self) -> tuple[int, Cuts]:
        """Of the settings within a standard error of the best recall, the nearest to the present one; all the cuts.

        Breiman et al. 1984, "Classification and regression trees", the one standard error rule. The error is that of
        a share of (x + 1) / (n + 2), since 8 right of 8 is no certain 1, or of the whole procedure if that is greater.
        """
        found = cuts(self.right, self.unknown, self.rate)
        recall = np.where(reachable(found, self.measure), found.recall, -1.0)
        best, count = int(recall.argmax()), self.right.shape[1]
        share = (max(recall[best], 0.0) * count + 1) / (count + 2)
        procedure = recall_error(self.right[best], self.unknown[best], self.rate, paired=self.hidden)
        error = max(math.sqrt(share * (1 - share) / count), procedure) if recall[best] > 0 else 0.0
        order = np.lexsort((-recall, *self.away.T[::-1], recall < recall[best] - error))
        return int(order[0]), found

    def figures(self, setting: int, threshold: float) -> Figures:
        recall, accepted = shares(self.right[[setting]], self.unknown[[setting]], threshold)
        return Figures(float(recall[0]), float(accepted[0]))


def _check(outcomes: Outcomes, unknown: Floats, listed: bool) -> None:
    if not np.isfinite(outcomes.scores).any():
        raise UsageError(
            "nothing was found in any query; check the photos, their boxes and that the gallery has images"
        )
    if not listed and not np.isfinite(unknown).any():
        raise UsageError(
            "all queries are known and the gallery has a single label, so nothing says what a wrong name scores; list "
            "some photos of things that are not in the gallery, under any other label"
        )


def _numbered(names: Sequence[Hashable]) -> Rows:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _away(one: Settings, present: Settings, tried: Sequence[Settings]) -> tuple[int, int, int]:
    """Keys that differ, steps on the scale of what was tried, boxes to look at."""
    steps = 0
    for key in SEARCHED:
        scale = WHOLE_IMAGE if key == "whole_image" else sorted({getattr(each, key) for each in tried})
        steps += abs(scale.index(getattr(one, key)) - scale.index(getattr(present, key)))
    changed = sum(getattr(one, key) != getattr(present, key) for key in SEARCHED)
    return changed, steps, one.max_det_results


# --- how sure it is ------------------------------------------------------------------------------------------------


def cross_validate(task: Task, best: int) -> CrossValidation | None:
    """None where there are not two photos of known and two labels of unknown things to make folds of."""
    count = min(FOLDS, len(set(task.known_groups.tolist())), len(set(task.unknown_groups.tolist())))
    if count < 2:
        return None
    # The same groups where labels are hidden, and so the same folds: for each query both or neither.
    folds = [_folds(groups, count) for groups in (task.known_groups, task.unknown_groups)]
    named = accepted = same = 0
    for fold in range(count):
        inside = [each == fold for each in folds]
        setting, found = task.only(~inside[0], ~inside[1]).choose()
        threshold = place(found.lower, found.upper, task.measure)[setting]
        same += setting == best
        named += int((task.right[setting, inside[0]] >= threshold).sum())
        accepted += int((task.unknown[setting, inside[1]] >= threshold).sum())
    return CrossValidation(count, Figures(named / task.right.shape[1], accepted / task.unknown.shape[1]), same)


def _folds(groups: Rows, count: int) -> Rows:
    """A fold for each query: groups stay together, the greatest go first, always into the smallest fold."""
    sizes = Counter(groups.tolist())
    names = np.random.default_rng(SEED).permutation(sorted(sizes)).tolist()
    filled, fold_of = [0] * count, {}
    for name in sorted(names, key=lambda name: -sizes[name]):
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += sizes[name]
    return np.array([fold_of[group] for group in groups.tolist()], np.int64)
