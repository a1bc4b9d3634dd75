"""What PaddleX's routes ask for, done with this service's galleries."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from shitu.config import Config
from shitu.draw import draw_unnamed
from shitu.errors import ImageError
from shitu.gallery.base import Item
from shitu.gallery.change import GalleryWriter
from shitu.images.read import Picture, decode_image
from shitu.recognise.embed import Extractor
from shitu.recognise.system import Recogniser
from shitu.results import Detection, Match, Recognition, Region
from shitu.serve import teaching
from shitu.serve.galleries import Served
from shitu.serve.incoming import fetched
from shitu.serve.pictures import shown_name
from shitu.serve.recognising import Options, Upload, set_up
from shitu.serve.service import Service
from shitu.serve.teaching import Lesson, check_label

Pairs = Sequence[tuple[str, str]]  # of an image and its label
Noted = tuple[str, dict[str, Any], str]  # kind of change, what, who
_GREATEST_ID = (1 << 63) - 1
MOST_MATCHES = 1000  # as of /v1


@dataclass(frozen=True)
class Wanted:
    """What a request changes of the gallery's own settings; None leaves them."""

    det_threshold: float | None = None
    rec_threshold: float | None = None
    hamming_radius: float | None = None
    topk: int | None = None
    visualize: bool = True


async def build(service: Service, pairs: Pairs, by: str) -> tuple[str, list[int]]:
    """A new gallery of (image, label): its name, and the ids of its entries. Raises ShituError."""
    lessons = await _lessons(service, service.settings.config, pairs)
    gallery = await asyncio.to_thread(service.galleries.create, str(uuid.uuid4()))
    await asyncio.to_thread(service.noted, gallery.name, "create", {}, by)
    ids, _ = await _taught(service, gallery, lessons, by)
    return gallery.name, ids


async def add(service: Service, key: str, pairs: Pairs, by: str) -> tuple[list[int], int]:
    """The ids of the new entries, and how many entries there are now."""
    gallery = await asyncio.to_thread(service.galleries.get, key)
    return await _taught(service, gallery, await _lessons(service, gallery.config, pairs), by)


async def remove(service: Service, key: str, ids: Sequence[int], by: str) -> int:
    """How many entries are left."""
    gallery = await asyncio.to_thread(service.galleries.get, key)
    there = [number for number in ids if 0 <= number <= _GREATEST_ID]

    def note(done: tuple[int, int]) -> Noted | None:
        return ("remove", {"ids": there, "removed": done[0]}, by) if done[0] else None

    _, left = await service.change(gallery, teaching.remove(gallery, there), note)
    return int(left)


async def infer(service: Service, key: str | None, image: str, wanted: Wanted) -> dict[str, Any]:
    """PaddleX's result. Raises ShituError."""
    gallery = await asyncio.to_thread(service.galleries.get, service.galleries.default() if key is None else key)
    return await service.run(_inferred, gallery, await upload_of(service, image, "image"), wanted)


def _inferred(gallery: Served, upload: Upload, wanted: Wanted) -> dict[str, Any]:
    picture = _decoded(upload)
    recogniser = set_up(
        gallery.recogniser(),
        Options(threshold=wanted.det_threshold, return_k=wanted.topk and min(wanted.topk, MOST_MATCHES)),
    )
    found = recogniser.det_predictor.predict([picture])[0] if recogniser.det_predictor else []
    if not found:  # PaddleX's words for it
        found = [Detection((0, 0, picture.shape[1], picture.shape[0]), 0.0)]
    (matched,) = recogniser.match_candidates([picture], [found])
    regions = [replace(each, matches=each.matches[: recogniser.return_k], chosen=0) for each in matched.regions]
    near = _nearness(recogniser, wanted)
    told: dict[str, Any] = {"detectedObjects": [_object(each, near) for each in regions]}
    if wanted.visualize:
        named = tuple(each for each in regions if near(each.matches))
        others = tuple(each for each in regions if not near(each.matches))
        told["image"] = _drawn(picture, Recognition("", picture.shape[1], picture.shape[0], named, unnamed=others))
    return told


def _nearness(recogniser: Recogniser, wanted: Wanted) -> Callable[[Sequence[Match]], bool]:
    """Whether an object has a name: as in PaddleX, its best match decides, and no vote."""
    own = recogniser.suppression
    if wanted.rec_threshold is not None:
        own = replace(own, score_thres=wanted.rec_threshold)
    if wanted.hamming_radius is not None:
        own = replace(own, hamming_radius=wanted.hamming_radius)
    return lambda matches: bool(matches) and own.accepts(matches[0])


def _object(region: Region, near: Callable[[Sequence[Match]], bool]) -> dict[str, Any]:
    """With all its matches, also those beyond the threshold, or none."""
    matches = [{**match.to_dict(), "image": shown_name(match.image)} for match in region.matches]
    return {
        "bbox": tuple(map(float, region.bbox)),
        "recResults": matches if near(region.matches) else [],
        "score": region.det_score,
    }


def _drawn(picture: Picture, found: Recognition) -> str:
    data = BytesIO()
    Image.fromarray(draw_unnamed(picture, found)).save(data, "JPEG", quality=90)
    return base64.b64encode(data.getvalue()).decode()


async def _lessons(service: Service, config: Config, pairs: Pairs) -> list[Lesson]:
    """One after the other, so that one picture is in memory; by the networks that galleries of this config share."""
    extractor = await asyncio.to_thread(service.networks.extractor, config)  # which may have to be opened
    labels = [check_label(label) for _, label in pairs]
    made = []
    for number, (label, (image, _)) in enumerate(zip(labels, pairs, strict=True)):
        upload = await upload_of(service, image, f"imageLabelPairs[{number}].image")
        made.append(await service.run(_lesson, extractor, upload, label))
    return made


def _lesson(extractor: Extractor, upload: Upload, label: str) -> Lesson:
    """The whole picture."""
    vectors = extractor.predict([_decoded(upload)])
    return Lesson(upload.data, hashlib.sha256(upload.data).hexdigest(), label, (None,), vectors)


async def _taught(service: Service, gallery: Served, lessons: Sequence[Lesson], by: str) -> tuple[list[int], int]:
    """Each becomes an entry, as in PaddleX also where its picture is there already."""

    def work(writer: GalleryWriter) -> tuple[list[int], int]:
        images = [gallery.photos.put(each.data, each.sha256) for each in lessons]
        items = [Item(each.label, image, each.sha256) for each, image in zip(lessons, images, strict=True)]
        change = writer.begin()
        change.add(np.concatenate([each.vectors for each in lessons]), items, made_by=gallery.facts())
        return list(change.commit().ids), len(gallery.reader())

    def note(done: tuple[list[int], int]) -> Noted:
        return "add", {"label": sorted({each.label for each in lessons}), "ids": done[0]}, by

    return await service.change(gallery, work, note)


async def upload_of(service: Service, image: str, name: str) -> Upload:
    """Of Base64, or from an allowed host. Raises HttpError."""
    if image.lower().startswith(("http://", "https://")):
        return await fetched(image, name, service.settings)
    try:
        return Upload(name, base64.b64decode(image))
    except (binascii.Error, ValueError):
        return Upload(name, b"", f"{name} is no Base64; send the bytes of an image file so")


def _decoded(upload: Upload) -> Picture:
    if upload.error:
        raise ImageError(upload.error)
    return decode_image(upload.data, upload.name)
