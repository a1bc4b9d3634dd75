"""Many settings tried on the same observations: what `settings.answer` says for each, a thousand times faster.

Boxes come best first, so a threshold and a limit only say how many of them are taken, and few such numbers occur.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shitu.evaluation.observe import Observation
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import LEAST_OVERLAP, Settings, takes_whole
from shitu.images.boxes import iou_matrix
from shitu.recognise.suppress import SURENESS, whole_tells, without_parts
from shitu.recognise.vote import elect
from shitu.results import Match, Region

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# How many boxes are taken, whether the whole photo is, whether it competes with them, the overlap that is suppressed.
Key = tuple[int, bool, bool, float]
WHOLE_IMAGE = ("never", "fallback", "compete", "always")  # from the cheapest
MAX_DET_RESULTS = (1, 2, 3, 5, 10, 15, 30)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
NMS_THRESHOLDS = (0.0, 0.05, 0.3, 0.5)


class Rivals(NamedTuple):
    """Of n parts, what `compete` goes by: `standing` (n,) for `without_parts`; `whole_tells` (n,), as the only box."""

    standing: Floats
    whole_tells: Bools


@dataclass(frozen=True)
class Case:
    """What a simulation needs of one observation; the n parts are its boxes, best first, and the whole photo.

    `scores` (n,) of the names that are given, greater is nearer, -inf without gallery entry; `right` whether it is the
    query's label; `hidden` the scores if the gallery did not have that label. `counts`: the part overlaps the box that
    is meant; `overlaps` (n, n) IoU between the parts that compete, None where it does not matter because all of them
    count; `hidden_overlaps` and `hidden_rivals` with that label hidden. `xyxy` (n, 4) of the parts.
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
    xyxy: Floats
    rivals: Rivals
    hidden_rivals: Rivals
    hidden_overlaps: Floats | None = None


def case_of(seen: Observation, present: Settings) -> Case:
    """An observation without error, reduced; `present` says how matches vote and what their scores mean."""
    parts = seen.parts
    boxes = np.array([part.bbox for part in parts], np.float32).reshape(-1, 4)
    shown = [_elected(part, part.matches, seen, present) for part in parts]
    hiding = [_elected(part, matches, seen, present) for part, matches in zip(parts, seen.other_label, strict=True)]
    chosen, hidden = (
        [part.matches[part.chosen] if part.matches else None for part in some] for some in (shown, hiding)
    )
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
        xyxy=boxes.astype(np.float64),
        rivals=_rivals(shown, seen, present),
        hidden_rivals=_rivals(hiding, seen, present),
        hidden_overlaps=_competing(overlaps, hidden, present),
    )


def _competing(overlaps: Floats | None, named: Sequence[Match | None], present: Settings) -> Floats | None:
    """The overlaps, without those between parts of different names where only the same name competes."""
    if overlaps is None or not present.within_labels:
        return overlaps
    labels = np.array(["" if match is None else match.label for match in named])
    same: Floats = np.where(labels[:, None] == labels[None], overlaps, -1.0)
    return same


def _elected(part: Region, matches: tuple[Match, ...], seen: Observation, present: Settings) -> Region:
    measure = present.measure
    dimension = measure.dimension(seen.vectors.shape[1])
    return replace(part, matches=matches, chosen=elect(matches, present.vote_k, measure, dimension))


def _rivals(parts: Sequence[Region], seen: Observation, present: Settings) -> Rivals:
    """A part without a match stands lowest; beside it, and without a whole photo, there is nothing to judge."""
    measure = present.measure
    dimension = measure.dimension(seen.vectors.shape[1])
    standing = [
        measure.cosine(part.score, dimension) + SURENESS * part.det_score if part.matches else -math.inf
        for part in parts
    ]
    tells = [
        bool(seen.whole is not None and part.matches and parts[-1].matches)
        and whole_tells(parts[-1], part, measure, dimension)
        for part in parts
    ]
    return Rivals(np.array(standing, np.float64), np.array(tells, np.bool_))


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
        keys = [_key(case, one) for one in settings]
        hidden_overlaps = case.overlaps if case.hidden_overlaps is None else case.hidden_overlaps
        # One more place, which -1 reaches, stands for "no answer".
        found = _best(case, case.scores, case.rivals, case.overlaps, keys)
        outcomes.scores[:, column] = np.append(case.scores, -math.inf)[found]
        outcomes.right[:, column] = np.append(case.right, False)[found]
        found = _best(case, case.hidden, case.hidden_rivals, hidden_overlaps, keys)
        outcomes.hidden[:, column] = np.append(case.hidden, -math.inf)[found]
    return outcomes


def _key(case: Case, settings: Settings) -> Key:
    least = float(np.float32(settings.threshold))  # as settings.py compares
    taken = int(np.count_nonzero(case.box_scores[: settings.max_det_results] >= least))
    whole = case.has_whole and takes_whole(settings.whole_image, taken)
    return taken, whole, settings.whole_image == "compete", settings.rec_nms_thresold


def _best(case: Case, scores: Floats, rivals: Rivals, overlaps: Floats | None, keys: Sequence[Key]) -> list[int]:
    """For each key the place of the best part that counts, -1 where there is none; worked out once for equal keys."""
    order = np.argsort(-scores, kind="stable")  # as nms: equal ones in the order of the parts
    answering: list[int] = [part for part in order.tolist() if scores[part] > -math.inf]
    boxes, counts = len(case.box_scores), case.counts.tolist()

    @cache
    def suppressed_by(overlap: float) -> list[set[int]]:
        """For each part the parts that it suppresses; none where all count, since then the first is the answer."""
        if overlaps is None:
            return [set() for _ in scores]
        return [set(np.flatnonzero(row).tolist()) for row in overlaps > overlap]

    def apart(parts: list[int]) -> list[int]:
        some = sorted(parts)  # of equals the detector's first
        return [some[place] for place in without_parts(case.xyxy[some], rivals.standing[some])] if some else []

    @cache
    def best(taken: int, whole: bool, competes: bool, overlap: float) -> int:
        """Greedy suppression, nearest first, up to the first that stays and counts."""
        gone: set[int] = set()
        looked_at = [part for part in answering if part < taken or (whole and part == boxes)]
        if competes and boxes in looked_at:
            things = apart([part for part in looked_at if part != boxes])
            left = [part for part in looked_at if part == boxes or part in things]
            wins = rivals.whole_tells[things[0]] if len(things) == 1 else left[0] == boxes
            looked_at = [boxes] if wins else [part for part in left if part != boxes]
        for part in looked_at:
            if part in gone:
                continue
            if counts[part]:
                return part
            gone |= suppressed_by(overlap)[part]
        return -1

    return [best(*key) for key in keys]


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
