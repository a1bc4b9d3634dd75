"""What `shitu predict` would answer to an observed query under given settings, without running anything again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from shitu.config import Config
from shitu.evaluation.observe import Observation
from shitu.evaluation.queries import Query
from shitu.images.boxes import iou_matrix
from shitu.measure import Measure, measure_of
from shitu.recognise.suppress import Suppression
from shitu.recognise.vote import elect
from shitu.results import Box, Match, Region

LEAST_OVERLAP = 0.5  # IoU with the query's box, as a detection counts as found in Pascal VOC and COCO's AP50


def takes_whole(whole_image: str, boxes: int) -> bool:
    """Whether the whole photo is looked at where so many boxes are."""
    return whole_image in ("always", "compete") or (whole_image == "fallback" and not boxes)


@dataclass(frozen=True)
class Settings:
    """The keys of a config that decide between seeing and answering; `score_thres` None: any match is near enough.

    With hamming, `hamming_radius` stands for the threshold, as in a config; None in `score_thres` lifts it too.
    """

    threshold: float
    max_det_results: int
    whole_image: str
    rec_nms_thresold: float
    score_thres: float | None
    dist_type: str
    hamming_radius: float
    vote_k: int = 1
    within_labels: bool = False  # Global.rec_nms_within_labels

    @classmethod
    def from_config(cls, config: Config) -> Settings:
        """Those of `effective_config(config, detector)`, where a detector may be off."""
        keys = {**vars(config.Global), **vars(config.IndexProcess)}
        keys["within_labels"] = keys["rec_nms_within_labels"]
        return cls(**{field.name: keys[field.name] for field in fields(cls)})

    @property
    def measure(self) -> Measure:
        return measure_of(self.dist_type)

    @property
    def accept_at(self) -> float | None:
        """The threshold in the gallery's own scores: a cosine, a squared distance, a number of bits."""
        return None if self.score_thres is None else self.measure.threshold(self.score_thres, self.hamming_radius)

    @property
    def sign(self) -> float:
        """Times this, a gallery's score is greater where it is nearer."""
        return self.measure.sign

    @property
    def suppression(self) -> Suppression:
        """What decides by a region's score which ones are named."""
        least, radius = self.score_thres, self.hamming_radius
        if least is None:
            least, radius = -self.sign * math.inf, math.inf
        return Suppression(self.dist_type, least, radius, self.rec_nms_thresold, self.within_labels)

    def accepts(self, score: float) -> bool:
        """Whether an `Answer.score`, of which the greater is nearer, is near enough to be named."""
        return score > -math.inf and (self.accept_at is None or score >= self.sign * self.accept_at)

    def regions(self, seen: Observation) -> tuple[Region, ...]:
        """What `SystemPredictor.predict` returns, nearest first, each with all the matches that were observed."""
        return self._chosen(seen, [part.matches for part in seen.parts])

    def hidden_regions(self, seen: Observation) -> tuple[Region, ...]:
        """The same if no gallery entry had the query's label; with as many matches as decide."""
        return self._chosen(seen, seen.other_label)

    def _chosen(self, seen: Observation, matches: Sequence[tuple[Match, ...]]) -> tuple[Region, ...]:
        least = float(np.float32(self.threshold))  # the detector's scores are float32, and are compared as such
        taken = [n for n, one in enumerate(seen.candidates[: self.max_det_results]) if one.det_score >= least]
        whole = seen.whole is not None and takes_whole(self.whole_image, len(taken))
        if whole:
            taken.append(len(seen.candidates))
        dimension = self.measure.dimension(seen.vectors.shape[1])
        parts = seen.parts
        regions: Sequence[Region] = [
            replace(parts[n], matches=matches[n], chosen=elect(matches[n], self.vote_k, self.measure, dimension))
            for n in taken
        ]
        if whole and self.whole_image == "compete":
            regions = self.suppression.rivals(regions[:-1], regions[-1], dimension)
        return self.suppression.choose(regions)


@dataclass(frozen=True)
class Answer:
    """What one query got under one setting, whatever the score.

    `regions`: those that count, nearest first. `ranking`: their gallery entries, each once by its best score, nearest
    first; exact as far as it goes. `score`: of the name that is given, greater is nearer (distances are negated), -inf
    where nothing counts; `hidden_score` the same if the gallery did not have the query's label. `right`: the name that
    is given is the query's label. `error`: the query could not be asked at all.
    """

    query: Query
    known: bool
    regions: tuple[Region, ...]
    ranking: tuple[Match, ...]
    score: float
    hidden_score: float
    right: bool
    error: str | None = None
    in_gallery: bool = False

    @property
    def label(self) -> str | None:
        """The name that is given if its score is near enough; None where nothing counts."""
        return self.regions[0].label if self.regions else None


def answer(seen: Observation, settings: Settings) -> Answer:
    """The answer without regard to the score threshold.

    Of what survives suppression, those regions count that overlap the query's box (IoU of at least LEAST_OVERLAP).
    """
    if seen.error is not None:
        return Answer(seen.query, seen.known, (), (), -math.inf, -math.inf, False, seen.error, seen.in_gallery)
    free = replace(settings, score_thres=None)
    regions = _counting(free.regions(seen), seen.target)
    hidden = _counting(free.hidden_regions(seen), seen.target)
    return Answer(
        seen.query,
        seen.known,
        regions,
        _ranking(regions, settings.sign),
        settings.sign * regions[0].score if regions else -math.inf,
        settings.sign * hidden[0].score if hidden else -math.inf,
        bool(regions) and regions[0].label == seen.query.label,
        None,
        seen.in_gallery,
    )


def _counting(regions: tuple[Region, ...], target: Box | None) -> tuple[Region, ...]:
    if target is None or not regions:
        return regions
    overlaps = iou_matrix([target], [region.bbox for region in regions])[0]
    return tuple(region for region, overlap in zip(regions, overlaps, strict=True) if overlap >= LEAST_OVERLAP)


def _ranking(regions: Sequence[Region], sign: float) -> tuple[Match, ...]:
    """Entries by their best score over the regions, ties by lower id.

    With k matches per region the first k are exact: what is among the k best overall is so in its best region.
    """
    best: dict[int, Match] = {}
    for match in (match for region in regions for match in region.matches):
        if match.id not in best or sign * match.score > sign * best[match.id].score:
            best[match.id] = match
    depth = max((len(region.matches) for region in regions), default=0)
    return tuple(sorted(best.values(), key=lambda match: (-sign * match.score, match.id))[:depth])
