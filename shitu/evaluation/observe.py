"""Queries -> what the pipeline sees in them before any threshold: every region with its nearest gallery entries.

Each photo is detected once, with a threshold so low and a limit so high that what any stricter setting would keep is
among the candidates; settings.py then works out what `shitu predict` would return under each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shitu.config import Config
from shitu.errors import ConfigError, EngineError, GalleryError, ImageError
from shitu.evaluation.queries import Query
from shitu.images.boxes import clip_boxes
from shitu.images.read import Picture, read_with_sha256
from shitu.images.read_ahead import PICTURES_AHEAD, map_ahead
from shitu.recognise.files import pixels_of, side_by_side
from shitu.recognise.from_config import Parts, SystemPredictor
from shitu.recognise.suppress import TOGETHER
from shitu.recognise.system import Matched
from shitu.results import Box, Match, Region

DetectorUse = Literal["on", "off", "given"]
DETECTOR_FLOOR = 0.05  # below this a detector marks nearly everything
MOST = 50
DEPTH = 5  # nearest gallery entries per region: as many as Recall@5 looks at


@dataclass(frozen=True)
class Observation:
    """One query and all that could be an answer to it.

    `candidates`: the detector's regions, best first (with `given`: the one box), each with its nearest entries; `whole`
    the whole photo, None with `given`. `vectors` (n, d) float32, or (n, d / 8) uint8 codes, and `other_label` are in
    the order of `parts`; the latter holds the nearest entries (as many as vote) of other labels than the query's.
    `known`: the query's label is in the gallery. `target`: regions answer that overlap this box; None: all do.
    `in_gallery`: the very file is a gallery image; `left_out` are the entries that are no answers for that reason.
    Where `error` is set there is nothing but the query.
    """

    query: Query
    width: int = 0
    height: int = 0
    candidates: tuple[Region, ...] = ()
    whole: Region | None = None
    vectors: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0)))
    known: bool = False
    other_label: tuple[tuple[Match, ...], ...] = ()
    target: Box | None = None
    in_gallery: bool = False
    left_out: frozenset[int] = frozenset()
    error: str | None = None

    @property
    def parts(self) -> tuple[Region, ...]:
        """The candidates, then the whole photo."""
        return self.candidates if self.whole is None else (*self.candidates, self.whole)


class Observer:
    """The pipeline of a config, asked for all that it sees; `gallery` is the one that is searched.

    detector: `on` as the config says; `off` whole photos only; `given` the boxes of the queries are cut out.
    leave_one_out: entries made from the query's very file are no answers to it.
    widen: observe enough for any threshold and number of regions, not only for the config's; takes longer.
    parts: gives detector and extractor of a config, where they are open already.
    Raises what SystemPredictor raises.
    """

    def __init__(
        self,
        config: Config,
        *,
        detector: DetectorUse = "on",
        leave_one_out: bool = False,
        depth: int = DEPTH,
        widen: bool = True,
        parts: Callable[[Config], Parts] | None = None,
    ) -> None:
        self.config = effective_config(config, detector)
        self.detector, self.leave_one_out = detector, leave_one_out
        one, more = self.config.Global, {}
        if widen:
            more["threshold"] = min(DETECTOR_FLOOR, one.threshold)
            more["max_det_results"] = max(MOST, one.max_det_results)
        wide = self.config.replace("Global", whole_image="always", **more)
        self.predictor = SystemPredictor(wide, many=True, parts=parts(wide) if parts else None)
        self.gallery = self.predictor.gallery
        self.decides = max(config.IndexProcess.vote_k, TOGETHER)
        self.depth = max(depth, self.decides)
        self._counts: dict[str, int] = {}
        first = next(self.gallery.items(), None)
        if leave_one_out and first is not None and not first.sha256:
            raise GalleryError(
                f"the gallery {self.gallery.url} does not say which files its entries were made from, so none can be "
                "left out; rebuild it with `shitu build-gallery`, or leave out --leave-one-out"
            )

    def count(self, label: str) -> int:
        """How many gallery entries have a label."""
        if label not in self._counts:
            self._counts[label] = len(self.gallery.find(labels=[label]))
        return self._counts[label]

    def observe(
        self, queries: Sequence[Query], progress: Callable[[int], object] = lambda count: None
    ) -> Iterator[Observation]:
        """An observation for each query; those of one photo follow each other, photos in the order of the list."""
        photos: dict[str, list[Query]] = {}
        for query in queries:
            photos.setdefault(query.path, []).append(query)
        reads = map_ahead(_read, photos.values(), PICTURES_AHEAD)
        size, at_once = self.config.Global.batch_size, self.predictor.at_once
        for matched in side_by_side(
            lambda group: list(zip(group, self._match(group), strict=True)),
            reads,
            size,
            at_once,
            lambda photo: pixels_of(photo.picture),
        ):
            for photo, found in matched:
                yield from self._observations(photo, found)
                progress(len(photo.queries))

    def _match(self, group: Sequence[_Photo]) -> list[Matched | Exception]:
        """One call for the group; photo by photo when that fails, so that one does not take the others along."""
        good = [(photo, photo.picture) for photo in group if not isinstance(photo.picture, ImageError)]
        most = max((len(self._left_out(photo)) for photo in group), default=0)
        try:
            if self.detector == "given":
                found = iter([self._match_boxes(*each, self.depth + most) for each in good])
            else:
                found = iter(self.predictor.match([picture for _, picture in good], self.depth + most))
        except EngineError as error:
            if len(group) == 1:
                return [error]
            return [one for photo in group for one in self._match([photo])]
        return [photo.picture if isinstance(photo.picture, ImageError) else next(found) for photo in group]

    def _match_boxes(self, photo: _Photo, picture: Picture, depth: int) -> Matched:
        """The boxes of a photo's queries, in their order; without one, or with one beside the photo, the whole."""
        boxes = [_clipped(query, picture) for query in photo.queries]
        vectors = self.predictor.rec_predictor.predict([picture[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])
        found = self.gallery.search(vectors, depth)
        return Matched(
            tuple(Region(box, 1.0, tuple(matches)) for box, matches in zip(boxes, found, strict=True)), vectors
        )

    def _left_out(self, photo: _Photo) -> frozenset[int]:
        return self._ids(photo) if self.leave_one_out else frozenset()

    def _ids(self, photo: _Photo) -> frozenset[int]:
        """The gallery entries made from this very file."""
        return frozenset(self.gallery.find(sha256s=[photo.sha256])) if photo.sha256 else frozenset()

    def _observations(self, photo: _Photo, found: Matched | Exception) -> Iterator[Observation]:
        same, gone = self._ids(photo), self._left_out(photo)
        gone_labels = [item.label for item in self.gallery.lookup(gone).values()]
        others: dict[str, tuple[tuple[Match, ...], ...]] = {}
        for number, query in enumerate(photo.queries):
            known = self.count(query.label) > gone_labels.count(query.label)
            if isinstance(found, Exception) or isinstance(photo.picture, ImageError):
                yield Observation(query, known=known, error=_told(found, query))
                continue
            if error := _beside(query, photo.picture, self.detector):
                yield Observation(query, known=known, error=error)
                continue
            given = self.detector == "given"
            rows = slice(number, number + 1) if given else slice(None)
            if given or query.label not in others:
                others[query.label] = self._others(query.label, found.regions[rows], found.vectors[rows], gone)
            regions = tuple(self._kept(region, gone) for region in found.regions[rows])
            height, width = photo.picture.shape[:2]
            yield Observation(
                query,
                width,
                height,
                candidates=regions if given else regions[:-1],
                whole=None if given else regions[-1],
                vectors=found.vectors[rows],
                known=known,
                other_label=others[query.label],
                target=_clipped(query, photo.picture) if query.box and self.predictor.det_predictor else None,
                in_gallery=bool(same),
                left_out=gone,
            )

    def _kept(self, region: Region, gone: frozenset[int]) -> Region:
        matches = tuple(match for match in region.matches if match.id not in gone)[: self.depth]
        return replace(region, matches=matches, chosen=0)

    def _others(
        self, label: str, regions: Sequence[Region], vectors: NDArray[Any], gone: frozenset[int]
    ) -> tuple[tuple[Match, ...], ...]:
        """For each region the nearest entries, as many as decide, of another label, looked for as deep as it takes."""

        def others(matches: Iterable[Match]) -> tuple[Match, ...]:
            return tuple(match for match in matches if match.label != label and match.id not in gone)[: self.decides]

        found = [others(region.matches) for region in regions]
        depth = max((len(region.matches) for region in regions), default=0)
        enough = min(self.count(label) + len(gone) + self.decides, len(self.gallery))
        while depth < enough and (short := [n for n, each in enumerate(found) if len(each) < self.decides]):
            depth = min(4 * depth, enough)
            for place, matches in zip(short, self.gallery.search(vectors[short], depth), strict=True):
                found[place] = others(matches)
        return tuple(found)


def effective_config(config: Config, detector: DetectorUse) -> Config:
    """The config as the detector's use changes it. Raises ConfigError where nothing would be recognised."""
    if detector != "on":
        return config.replace("Global", det_inference_model_dir=None, whole_image="always")
    if not config.Global.det_inference_model_dir and config.Global.whole_image == "never":
        raise ConfigError(
            "Global.whole_image is `never` and Global.det_inference_model_dir is empty, so there is nothing to "
            "recognise; give a detector, or evaluate with --detector off or given"
        )
    return config


# --- photos --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Photo:
    """A photo that was read, or why it was not, and the queries that ask about it."""

    queries: Sequence[Query]
    picture: Picture | ImageError
    sha256: str


def _read(queries: Sequence[Query]) -> _Photo:
    path = queries[0].path
    try:
        return _Photo(queries, *read_with_sha256(path))
    except ImageError as error:
        return _Photo(queries, error, "")


def _told(error: object, query: Query) -> str:
    """An ImageError names its file, an EngineError does not."""
    return str(error) if isinstance(error, ImageError) else f"{query.path}: {error}"


def _clipped(query: Query, picture: Picture) -> Box:
    """The query's box inside the photo; the whole photo where it has none, or none that touches the photo."""
    height, width = picture.shape[:2]
    boxes, keep = clip_boxes([query.box or (0, 0, width, height)], width, height)
    left, top, right, bottom = boxes[0].tolist() if keep[0] else (0, 0, width, height)
    return left, top, right, bottom


def _beside(query: Query, picture: Picture, detector: DetectorUse) -> str | None:
    """What is wrong with a box that lies beside the photo."""
    height, width = picture.shape[:2]
    if query.box is None or detector == "off" or clip_boxes([query.box], width, height)[1][0]:
        return None
    shown = ",".join(map(str, query.box))
    return f"{query.path}: line {query.line}: the box {shown} lies outside the photo, which has {width} x {height} px"
