"""A picture's bytes -> its record: what a worker does for a request."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shitu.errors import EngineError, ImageError
from shitu.images.boxes import clip_boxes
from shitu.images.read import Picture, decode_image
from shitu.recognise.from_config import DetPredictor
from shitu.recognise.system import Recogniser
from shitu.results import Box, DetectedObjects, Detection, Recognition, Region
from shitu.serve.galleries import Served
from shitu.serve.pictures import Answered, shown_name
from shitu.serve.problems import HttpError
from shitu.serve.service import Service


@dataclass(frozen=True)
class Upload:
    """A picture as it came; `error` in place of one that could not be had."""

    name: str
    data: bytes
    error: str = ""


@dataclass(frozen=True)
class Options:
    """What a request changes of a gallery's settings; None leaves them."""

    return_k: int | None = None
    score_thres: float | None = None
    threshold: float | None = None
    whole_image: str | None = None
    unnamed: bool = True
    regions: tuple[tuple[float, float, float, float], ...] | None = None


def boxes_in(boxes: Sequence[Sequence[float]], image: Picture) -> list[Box]:
    """Clipped to the image. Raises HttpError where nothing of one is inside."""
    height, width = image.shape[:2]
    clipped, inside = clip_boxes(np.asarray(boxes, np.float64).reshape(-1, 4), width, height)
    if not inside.all():
        wrong = list(boxes[int(np.flatnonzero(~inside)[0])])
        raise HttpError(
            422,
            "bad_box",
            f"the box {wrong} has no pixel in the picture of {width} x {height}; wanted is [left, top, right, bottom]",
        )
    return [(left, top, right, bottom) for left, top, right, bottom in clipped.tolist()]


def set_up(recogniser: Recogniser, options: Options) -> Recogniser:
    """A copy with what the request asks for, on the same networks and gallery."""
    now = copy(recogniser)
    if options.return_k is not None:
        now.return_k = options.return_k
    if options.score_thres is not None:
        now.suppression = replace(now.suppression, score_thres=options.score_thres, hamming_radius=options.score_thres)
    if options.threshold is not None and isinstance(now.det_predictor, DetPredictor):
        now.det_predictor = now.det_predictor.at(options.threshold)
    if options.whole_image is not None:
        now.whole_image = options.whole_image
    return now


def named(recogniser: Recogniser, picture: Picture, name: str, boxes: Sequence[Sequence[float]]) -> Recognition:
    """Every one of the boxes that who asks has given, named or not, in their order; none competes with another."""
    given = [Detection(box, 1.0) for box in boxes_in(boxes, picture)]
    (matched,) = recogniser.match_candidates([picture], [given])
    near = recogniser.suppression.accepts
    regions: tuple[list[Region], list[Region]] = ([], [])
    for each in matched.regions:
        kept = replace(each, matches=each.matches[: max(recogniser.return_k, each.chosen + 1)])
        regions[not (each.matches and near(each.matches[each.chosen]))].append(kept)
    return Recognition(name, picture.shape[1], picture.shape[0], tuple(regions[0]), unnamed=tuple(regions[1]))


def recognised(service: Service, gallery: Served, upload: Upload, options: Options) -> dict[str, Any]:
    """The record of `shitu predict` for one picture, and the id by which its regions may be referred to."""
    recogniser = set_up(gallery.recogniser(), options)
    try:
        picture = _decoded(service, upload)
        start = time.monotonic()
        if options.regions is None:
            (found,) = recogniser.predict([picture], [upload.name])
        else:
            found = named(recogniser, picture, upload.name, options.regions)
        service.metrics.stages.labels("recognise").observe(time.monotonic() - start)
    except (ImageError, EngineError) as error:
        service.metrics.pictures.labels("failed").inc()
        return failure(upload.name, service.told(str(error)))
    service.metrics.pictures.labels("recognised").inc()
    told = found.to_dict(unnamed=options.unnamed)
    for region in (*told["regions"], *told.get("unnamed", ())):
        for match in region["matches"]:
            match["image"] = shown_name(match["image"])
    boxes = tuple(region.bbox for region in (*found.regions, *found.unnamed))
    digest = hashlib.sha256(upload.data).hexdigest()
    kept = Answered(upload.data, digest, upload.name, found.width, found.height, boxes)
    service.review.offer(gallery.name, kept, told, recogniser.gallery.facts.measure.sign)
    return {"answer": service.answers.keep(kept), **told}


def detected(service: Service, gallery: Served, upload: Upload, options: Options) -> dict[str, Any]:
    recogniser = set_up(gallery.recogniser(), options)
    if recogniser.det_predictor is None:
        raise HttpError(409, "no_detector", "this service has no detector: its config says whole images only")
    try:
        picture = _decoded(service, upload)
        (found,) = recogniser.det_predictor.predict([picture])
    except (ImageError, EngineError) as error:
        return failure(upload.name, service.told(str(error)))
    return DetectedObjects(upload.name, picture.shape[1], picture.shape[0], tuple(found)).to_dict()


def embedded(service: Service, gallery: Served, upload: Upload, options: Options) -> dict[str, Any]:
    """A vector for the whole picture, or for each of the boxes that were given."""
    recogniser = gallery.recogniser()
    try:
        picture = _decoded(service, upload)
        boxes: list[Box] = [(0, 0, picture.shape[1], picture.shape[0])]
        if options.regions is not None:
            boxes = boxes_in(options.regions, picture)
        crops = [picture[top:bottom, left:right] for left, top, right, bottom in boxes]
        vectors = recogniser.rec_predictor.predict(crops)
    except (ImageError, EngineError) as error:
        return failure(upload.name, service.told(str(error)))
    told = [{"bbox": list(box), "vector": row.tolist()} for box, row in zip(boxes, vectors, strict=True)]
    height, width = picture.shape[:2]
    return {"image": upload.name, "width": width, "height": height, "vectors": told}


def _decoded(service: Service, upload: Upload) -> Picture:
    if upload.error:
        raise ImageError(upload.error)
    start = time.monotonic()
    picture = decode_image(upload.data, upload.name)
    service.metrics.stages.labels("decode").observe(time.monotonic() - start)
    return picture


def failure(name: str, error: str) -> dict[str, Any]:
    return {"image": name, "width": 0, "height": 0, "regions": [], "error": error}
