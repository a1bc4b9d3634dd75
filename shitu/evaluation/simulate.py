"""Many settings tried on the same observations: what `settings.answer` says for each, a thousand times faster.

Boxes come best first, so a threshold and a limit only say how many of them are taken, and few such numbers occur.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from shitu.evaluation.observe import Observation
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import LEAST_OVERLAP, Settings
from shitu.images.boxes import iou_matrix
from shitu.recognise.vote import elect
from shitu.results import Match

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
WHOLE_IMAGE = ("never", "fallback", "always")  # from the cheapest
MAX_DET_RESULTS = (1, 2, 3, 5, 10, 15, 30)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
NMS_THRESHOLDS = (0.0, 0.05, 0.3, 0.5)


@dataclass(frozen=True)
class Case:
    """What a simulation needs of one observation; the n parts are its boxes, best first, and the whole photo.

    `scores` (n,) of the names that are given, greater is nearer, -inf without gallery entry; `right` whether it is the
    query's label; `hidden` the scores if the gallery did not have that label. `counts`: the part overlaps the box that
    is meant; `overlaps` (n, n) IoU between the parts that compete, None where it does not matter because all of them
    count; `hidden_overlaps` the same with that label hidden.
    """

    query: Query
    known: bool
    in_gallery: bool
    box_scores: Floats
    has_whole: bool
    scores: Floats
    right: Bools
    hidden: Floats
    counts: Bools
    overlaps: Floats | None
    hidden_overlaps: Floats | None = None


def case_of(seen: Observation, present: Settings) -> Case:
    """An observation without error, reduced; `present` says how matches vote and what their scores mean."""
    parts = seen.parts
    boxes = np.array([part.bbox for part in parts], np.float32).reshape(-1, 4)
    chosen = [_elected(part.matches, seen, present) for part in parts]
    hidden = [_elected(matches, seen, present) for matches in seen.other_label]
    target = seen.target
    overlaps = None if target is None else iou_matrix(boxes, boxes, plus_one=True)
    return Case(
        query=seen.query,
        known=seen.known,
        in_gallery=seen.in_gallery,
        box_scores=np.array([region.det_score for region in seen.candidates], np.float64),
        has_whole=seen.whole is not None,
        scores=_scores(chosen, present.sign),
        right=np.array([match is not None and match.label == seen.query.label for match in chosen], np.bool_),
        hidden=_scores(hidden, present.sign),
        counts=np.ones(len(parts), np.bool_) if target is None else iou_matrix([target], boxes)[0] >= LEAST_OVERLAP,
        overlaps=_competing(overlaps, chosen, present),
        hidden_overlaps=_competing(overlaps, hidden, present),
    )


def _competing(overlaps: Floats | None, named: Sequence[Match | None], present: Settings) -> Floats | None:
    """The overlaps, without those between parts of different names where only the same name competes."""
    if overlaps is None or not present.within_labels:
        return overlaps
    labels = np.array(["" if match is None else match.label for match in named])
    same: Floats = np.where(labels[:, None] == labels[None], overlaps, -1.0)
    return same


def _elected(matches: tuple[Match, ...], seen: Observation, present: Settings) -> Match | None:
    measure = present.measure
    dimension = measure.dimension(seen.vectors.shape[1])
    return matches[elect(matches, present.vote_k, measure, dimension)] if matches else None


def _scores(matches: Sequence[Match | None], sign: float) -> Floats:
    return np.array([-math.inf if match is None else sign * match.score for match in matches], np.float64)


def grid(present: Settings, cases: Sequence[Case]) -> list[Settings]:
    """The settings to try, `present` among them; only such as these cases can tell apart."""
    most = max((len(case.box_scores) for case in cases if case.has_whole), default=0)  # else boxes were given
    if not most:
        return [present]
    enough = next((number for number in MAX_DET_RESULTS if number >= most), MAX_DET_RESULTS[-1])
    limits = {number for number in MAX_DET_RESULTS if number <= enough} | {present.max_det_results}
    overlaps = {present.rec_nms_thresold}
    if any(case.overlaps is not None for case in cases):
        overlaps |= set(NMS_THRESHOLDS)
    thresholds = {*THRESHOLDS, present.threshold}
    return [
        replace(present, whole_image=whole, max_det_results=limit, threshold=threshold, rec_nms_thresold=overlap)
        for whole, limit, threshold, overlap in product(
            WHOLE_IMAGE, sorted(limits), sorted(thresholds), sorted(overlaps)
        )
    ]


@dataclass(frozen=True)
class Outcomes:
    """`scores` (s, n) float64 and `right` (s, n) bool: what n queries get under each of s settings; -inf: no answer.

    `hidden` (s, n): the scores if the gallery did not have the query's label.
    """

    scores: Floats
    right: Bools
    hidden: Floats


def simulate(cases: Sequence[Case], settings: Sequence[Settings]) -> Outcomes:
    """The score of every query's answer under every setting, whatever `score_thres` is."""
    shape = (len(settings), len(cases))
    outcomes = Outcomes(np.full(shape, -math.inf), np.zeros(shape, np.bool_), np.full(shape, -math.inf))
    for column, case in enumerate(cases):
        # One more place, which -1 reaches, stands for "no answer".
        scores, hidden = np.append(case.scores, -math.inf), np.append(case.hidden, -math.inf)
        first = _Answers(case, case.scores, case.overlaps)
        other = _Answers(case, case.hidden, case.overlaps if case.hidden_overlaps is None else case.hidden_overlaps)
        keys = [_key(case, one) for one in settings]
        found = np.array([first.best(*key) for key in keys])
        outcomes.scores[:, column] = scores[found]
        outcomes.right[:, column] = np.append(case.right, False)[found]
        outcomes.hidden[:, column] = hidden[[other.best(*key) for key in keys]]
    return outcomes


def _key(case: Case, settings: Settings) -> tuple[int, bool, float]:
    """How many boxes are taken, whether the whole photo is, and the overlap that is suppressed."""
    least = float(np.float32(settings.threshold))  # as settings.py compares
    taken = int(np.count_nonzero(case.box_scores[: settings.max_det_results] >= least))
    always = settings.whole_image == "always" or (settings.whole_image == "fallback" and not taken)
    return taken, case.has_whole and always, settings.rec_nms_thresold


class _Answers:
    """The best part that counts, for each key that occurs."""

    def __init__(self, case: Case, scores: Floats, overlaps: Floats | None) -> None:
        order = np.argsort(-scores, kind="stable")  # as nms: equal ones in the order of the parts
        self.order: list[int] = [int(part) for part in order if scores[part] > -math.inf]
        self.boxes, self.counts, self.overlaps = len(case.box_scores), case.counts.tolist(), overlaps
        self.known: dict[tuple[int, bool, float], int] = {}
        self.removed: dict[float, list[int]] = {}

    def best(self, taken: int, whole: bool, overlap: float) -> int:
        """Its place; -1 where there is none."""
        key = (taken, whole, overlap if self.overlaps is not None else 0.0)
        if key not in self.known:
            self.known[key] = self._search(*key)
        return self.known[key]

    def _search(self, taken: int, whole: bool, overlap: float) -> int:
        """Greedy suppression, nearest first, up to the first that stays and counts."""
        suppressed, removes = 0, self._removes(overlap)
        for part in self.order:
            if (part >= taken and not (whole and part == self.boxes)) or suppressed >> part & 1:
                continue
            if self.counts[part]:
                return part
            suppressed |= removes[part] if removes else 0
        return -1

    def _removes(self, overlap: float) -> list[int]:
        """For each part the parts that it suppresses, as bits; empty where it does not matter."""
        if self.overlaps is not None and overlap not in self.removed:
            rows = (self.overlaps > overlap).tolist()
            self.removed[overlap] = [sum(1 << place for place, bit in enumerate(row) if bit) for row in rows]
        return self.removed.get(overlap, [])


def cases_of(observations: Iterable[Observation], present: Settings) -> tuple[list[Case], list[tuple[str, str]]]:
    """The cases, and (image, error) of the observations that have one."""
    cases: list[Case] = []
    failed: list[tuple[str, str]] = []
    for seen in observations:
        if seen.error is None:
            cases.append(case_of(seen, present))
        else:
            failed.append((seen.query.image, seen.error))
    return cases, failed
