"""The whole pipeline: detect, crop, embed, search, suppress."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.gallery import GalleryReader
from shitu.images.read import Picture, several
from shitu.recognise.detect import Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.suppress import TOGETHER, Suppression
from shitu.recognise.vote import elect
from shitu.results import Detection, Match, Recognition, Region


@dataclass(frozen=True)
class Matched:
    """The candidates of one image, the detector's in its order and then the whole image, before any is dropped.

    `vectors` (n, d) float32 of unit length, or (n, d / 8) uint8 codes, are those of `regions`, whose `matches` may be
    empty where the gallery is.
    """

    regions: tuple[Region, ...]
    vectors: NDArray[Any]


class Recogniser:
    """Detector (or none: whole images only), extractor, gallery and what is told of the regions.

    `whole_image`: always, compete (alone or not at all), fallback (where the detector finds nothing) or never. Any
    number of threads may call at once; nothing is kept between calls. Raises GalleryError where the gallery was made by
    another model.
    """

    at_once = 1  # calls in which files are to be recognised side by side

    def __init__(
        self,
        det_predictor: Detector | None,
        rec_predictor: Extractor,
        gallery: GalleryReader,
        suppression: Suppression,
        *,
        whole_image: str = "always",
        return_k: int = 5,
        vote_k: int = 1,
    ) -> None:
        self.det_predictor, self.rec_predictor, self.gallery = det_predictor, rec_predictor, gallery
        self.suppression, self.whole_image = suppression, whole_image
        self.return_k, self.vote_k = return_k, vote_k
        self._check(gallery)

    def _check(self, gallery: GalleryReader) -> None:
        rec = self.rec_predictor
        gallery.facts.check_fits(
            gallery.url,
            fingerprint=rec.fingerprint,
            dimension=rec.dimension,
            dist_type=self.suppression.dist_type,
            apart=rec.apart,
        )

    def refreshed(self) -> Recogniser:
        """This one, or one with the gallery as it is now, if that has changed. Raises GalleryError."""
        gallery = self.gallery.refreshed()
        if gallery is self.gallery:
            return self
        self._check(gallery)
        now = copy(self)
        now.gallery = gallery
        return now

    def predict(self, images: Sequence[Picture], names: Sequence[str] | None = None) -> list[Recognition]:
        """Recognise (h, w, 3) uint8 RGB images; one extraction and one search for the regions of all of them.

        `names` go into the results as `image`. An image in which nothing is recognised has no regions.
        Raises UsageError for one image in place of several.
        """
        names = names or [""] * len(images)
        return [
            self._recognition(name, image, matched)
            for name, image, matched in zip(names, images, self.match(images), strict=True)
        ]

    def choose(self, regions: Sequence[Region]) -> tuple[Region, ...]:
        """Those told of an image's candidates, which come in the order of `candidates`."""
        if self.whole_image == "compete":
            regions = self.suppression.rivals(regions[:-1], regions[-1], self.gallery.facts.dimension)
        return self.suppression.choose(regions)

    def _recognition(self, name: str, image: Picture, matched: Matched) -> Recognition:
        """Regions have `return_k` matches, or as many as it takes to show the one that names them."""
        named, whole = self.choose(matched.regions), (0, 0, image.shape[1], image.shape[0])
        # the whole image beside a detector is no object; where it has the name, it shows one thing
        objects = [each for each in matched.regions if self.det_predictor is None or each.bbox != whole]
        one = self.whole_image == "compete" and any(each.bbox == whole for each in named)
        unnamed = () if one else self.suppression.unnamed(objects, named)
        regions, others = (
            tuple(replace(each, matches=each.matches[: max(self.return_k, each.chosen + 1)]) for each in some)
            for some in (named, unnamed)
        )
        return Recognition(name, image.shape[1], image.shape[0], regions, unnamed=others)

    def match(self, images: Sequence[Picture], k: int | None = None) -> list[Matched]:
        """What `predict` chooses from: every candidate of each image with its k nearest entries.

        At least as many as `choose` looks at, and by default at least `return_k`.
        """
        return self.match_candidates(images, [self.candidates(image) for image in several(images)], k)

    def match_candidates(
        self, images: Sequence[Picture], candidates: Sequence[Sequence[Detection]], k: int | None = None
    ) -> list[Matched]:
        """`match` of the given candidates of each image."""
        crops = [
            image[top:bottom, left:right]
            for image, found in zip(images, candidates, strict=True)
            for left, top, right, bottom in (candidate.bbox for candidate in found)
        ]
        vectors = self.rec_predictor.predict(crops)
        k = max(k or self.return_k, self.vote_k, TOGETHER if self.whole_image == "compete" else 1)
        matches = iter(self.gallery.search(vectors, k)) if crops else iter(())
        rows = np.split(vectors, np.cumsum([len(found) for found in candidates])[:-1]) if candidates else []
        return [
            Matched(tuple(self._region(each, next(matches)) for each in found), part)
            for found, part in zip(candidates, rows, strict=True)
        ]

    def _region(self, candidate: Detection, matches: Sequence[Match]) -> Region:
        facts = self.gallery.facts
        chosen = elect(matches, self.vote_k, facts.measure, facts.dimension)
        return Region(candidate.bbox, candidate.score, tuple(matches), chosen)

    def candidates(self, image: Picture) -> list[Detection]:
        """What the detector finds, best first, and the whole image where `whole_image` wants it."""
        found = self.det_predictor.predict([image])[0] if self.det_predictor else []
        whole = Detection((0, 0, image.shape[1], image.shape[0]), 1.0)
        # With no detector, `fallback` always falls back.
        if self.whole_image in ("always", "compete") or (self.whole_image == "fallback" and not found):
            found = [*found, whole]
        return found
