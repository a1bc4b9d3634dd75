"""Which of the regions that found a match are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shitu.images.boxes import nms, share_within
from shitu.measure import Measure, measure_of
from shitu.results import Match, Region

SAME_OBJECT = 0.5  # the IoU from which PASCAL VOC takes two boxes for the same object
# A box of which so much lies within another is a part of it. What a detector's sureness of 1 weighs beside a cosine
# of 1, where a thing is told from its parts. Both by benchmarks/detector_helps.py: docs/models.md.
PART, SURENESS = 0.7, 0.1
TOGETHER = 5  # nearest entries by which the whole image and the box of one thing are judged together


@dataclass(frozen=True)
class Suppression:
    """Which regions survive: `IndexProcess.score_thres`, `hamming_radius`, `Global.rec_nms_*`.

    Suppression within labels keeps things that overlap and have different names: docs/models.md, "Overlapping things".
    """

    dist_type: str
    score_thres: float
    hamming_radius: float
    nms_threshold: float
    within_labels: bool = False

    def accepts(self, match: Match) -> bool:
        """Near enough: similarity at least (IP), distance at most (L2: squared; hamming: bits) the threshold."""
        measure = measure_of(self.dist_type)
        return measure.accepts(match.score, measure.threshold(self.score_thres, self.hamming_radius))

    def choose(self, candidates: Sequence[Region]) -> tuple[Region, ...]:
        """The recognised regions, nearest first: those that are near enough and not beside a nearer one."""
        near = (region for region in candidates if region.matches and self.accepts(region.matches[region.chosen]))
        return self.keep(list(near))

    def unnamed(self, candidates: Sequence[Region], named: Sequence[Region]) -> tuple[Region, ...]:
        """Objects of which no match is near enough, surest first; what a named or a surer one covers is none."""
        rest = [region for region in candidates if not (region.matches and self.accepts(region.matches[region.chosen]))]
        if not rest:
            return ()
        boxes = np.array([region.bbox for region in (*named, *rest)], np.float32)
        scores = np.array([*(2.0 for _ in named), *(region.det_score for region in rest)])
        kept = nms(boxes, scores, SAME_OBJECT, plus_one=True)
        return tuple(rest[place - len(named)] for place in kept if place >= len(named))

    def rivals(self, boxes: Sequence[Region], whole: Region, dimension: int) -> Sequence[Region]:
        """The whole image alone, or the boxes without it: `Global.whole_image: compete`.

        Boxes of parts of one thing do not count. Where one box is left, it and the whole image are judged together;
        of several and the whole image what matches nearest decides, since it shows one thing, or it shows many and
        resembles no picture of one: docs/models.md, "With the detector and without". `dimension`: as `Measure.cosine`
        wants it.
        """
        measure = measure_of(self.dist_type)
        boxes = [box for box in boxes if box.matches]
        if not whole.matches or not boxes:
            return (whole,) if whole.matches else boxes
        cosines = np.array([measure.cosine(box.score, dimension) for box in boxes])
        sure = np.array([box.det_score for box in boxes])
        xyxy = np.array([box.bbox for box in boxes], np.float64)
        boxes = [boxes[place] for place in without_parts(xyxy, cosines + SURENESS * sure)]
        if len(boxes) == 1:
            wins = whole_tells(whole, boxes[0], measure, dimension)
        else:
            wins = measure.sign * whole.score > max(measure.sign * box.score for box in boxes)
        return (whole,) if wins else boxes

    def keep(self, regions: Sequence[Region]) -> tuple[Region, ...]:
        """Greedy NMS by retrieval score, nearest first; almost any overlap removes the worse of two regions."""
        if not regions:
            return ()
        sign = measure_of(self.dist_type).sign
        boxes = np.array([region.bbox for region in regions], np.float32)
        scores = np.array([sign * region.score for region in regions])
        groups = np.unique([region.label for region in regions], return_inverse=True)[1] if self.within_labels else None
        return tuple(regions[i] for i in nms(boxes, scores, self.nms_threshold, plus_one=True, groups=groups))


def without_parts(xyxy: NDArray[np.float64], standing: NDArray[np.float64]) -> list[int]:
    """Which of the n boxes (n, 4) are things: the one of the highest standing (n,) alone where it holds all others.

    A photo of one thing gets boxes of its parts, too, and a part may look more like some other thing. Where boxes lie
    beside one another the photo shows several, and all stay. n is at least 1; of equals the first stands highest.
    """
    first = int(np.argmax(standing))
    held = share_within(xyxy, xyxy[first])[:, 0] >= PART
    return [first] if held.all() else list(range(len(xyxy)))


def whole_tells(whole: Region, box: Region, measure: Measure, dimension: int) -> bool:
    """Whether the whole image has the name of a photo of one thing, or the box of that thing. Both have matches.

    Of one name, the nearer tells it. Of two, the one that is nearer to both together: the sum of the cosines of its
    nearest entry to either, among the first TOGETHER of each; a name that is not among them counts as the last.
    """
    nearer = measure.sign * whole.score > measure.sign * box.score
    if whole.label == box.label:
        return nearer
    lists = [one.matches[:TOGETHER] for one in (whole, box)]

    def standing(label: str) -> float:
        scores = [next((m.score for m in matches if m.label == label), matches[-1].score) for matches in lists]
        return sum(measure.cosine(score, dimension) for score in scores)

    of_whole, of_box = standing(whole.label), standing(box.label)
    return of_whole > of_box or (of_whole == of_box and nearer)
