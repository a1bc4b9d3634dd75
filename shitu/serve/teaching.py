"""Changes of a gallery's entries: what a route asks for, done by the gallery's writer in one commit."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ImageError
from shitu.gallery.base import Item
from shitu.gallery.change import GalleryWriter
from shitu.images.read import decode_image
from shitu.results import Box
from shitu.serve.galleries import Served
from shitu.serve.problems import HttpError
from shitu.serve.recognising import Upload, boxes_in

T = TypeVar("T")
Work = Callable[[GalleryWriter], T]  # for `Service.change`
Relabelled = tuple[list[int], int]  # the ids, in the order that was asked; how many entries there are
LONGEST_LABEL = 200  # characters


@dataclass(frozen=True)
class Lesson:
    """A picture with the boxes in it that show one thing, None for all of it, and their vectors (n, width).

    `data`: its file's bytes, or where these lie.
    """

    data: bytes | Path
    sha256: str
    label: str
    boxes: tuple[Box | None, ...]
    vectors: NDArray[Any]


def check_label(label: str) -> str:
    """Raises HttpError 422 where it is no label: empty, too long, or with what would break a line of a list."""
    odd = any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in label)
    if odd or not label.strip() or len(label) > LONGEST_LABEL:
        raise HttpError(
            422,
            "bad_label",
            f"{label[:50]!r} is no label: wanted are 1 to {LONGEST_LABEL} characters, without line breaks and tabs",
        )
    return label.strip()


def lesson(gallery: Served, upload: Upload, label: str, boxes: Sequence[Sequence[float]] | None) -> Lesson:
    """Decoded and embedded by a worker. Raises ImageError, EngineError, HttpError.

    boxes: None for what the gallery's own `IndexProcess.crop` cuts out, as `shitu gallery append` does.
    """
    if upload.error:
        raise ImageError(upload.error)
    picture = decode_image(upload.data, upload.name)
    recogniser, crop = gallery.recogniser(), gallery.config.IndexProcess.crop
    cut: list[Box | None] = [None]
    if boxes is not None:
        cut = list(boxes_in(boxes, picture))
    elif crop != "none" and recogniser.det_predictor is not None:
        cut = list(recogniser.det_predictor.bodies(picture, crop))
    crops = [picture if box is None else picture[box[1] : box[3], box[0] : box[2]] for box in cut]
    vectors = recogniser.rec_predictor.predict(crops)
    return Lesson(upload.data, hashlib.sha256(upload.data).hexdigest(), label, tuple(cut), vectors)


@dataclass(frozen=True)
class Learnt:
    """`ids` of the entries now there for what was taught; how many were there already, or under another label."""

    ids: list[int]
    already_there: int
    relabelled: int
    entries: int


def teach(gallery: Served, lessons: Sequence[Lesson], *, move: bool = True) -> Work[Learnt]:
    """The change that adds these.

    move: what is there under another label gets this one; else it is counted and left.
    """

    def work(writer: GalleryWriter) -> Learnt:
        reader = gallery.reader()  # as it is now that nobody else writes
        ids: list[int] = []
        items: list[Item] = []
        rows, gone, there, moved = [], [], 0, 0
        new: set[tuple[str, Box | None]] = set()
        for each in lessons:
            known = list(reader.lookup(reader.find(sha256s=[each.sha256])).values())
            image = ""
            for box, row in zip(each.boxes, each.vectors, strict=True):
                same = [item for item in known if item.box == box]
                if (each.sha256, box) in new or any(item.label == each.label for item in same):
                    there += 1
                    continue
                moved += bool(same)
                if same and not move:
                    continue
                gone += [item.id for item in same]
                image = image or gallery.photos.put(each.data, each.sha256)
                items.append(Item(each.label, image, each.sha256, box))
                rows.append(row)
                new.add((each.sha256, box))
        if items:
            change = writer.begin()
            change.remove(gone)
            change.add(np.stack(rows), items, made_by=gallery.facts())
            ids = list(change.commit().ids)
        return Learnt(ids, there, moved, len(gallery.reader()))

    return work


def relabel(gallery: Served, ids: Sequence[int], label: str) -> Work[Relabelled]:
    """Entries under another name, with their vectors: taken out and put in again in one change."""

    def work(writer: GalleryWriter) -> Relabelled:
        reader = gallery.reader()
        found = _all_there(reader.lookup(ids), ids)
        wanted = [item for item in found if item.label != label]
        made: list[int] = []
        if wanted:
            change = writer.begin()
            change.remove([item.id for item in wanted])
            vectors = reader.vectors_of([item.id for item in wanted])
            change.add(vectors, [replace(item, label=label) for item in wanted])
            made = list(change.commit().ids)
        numbers = dict(zip([item.id for item in wanted], made, strict=True))
        return [numbers.get(item.id, item.id) for item in found], len(gallery.reader())

    return work


def rename_label(gallery: Served, old: str, new: str, merge: bool) -> Work[Relabelled]:
    def work(writer: GalleryWriter) -> Relabelled:
        reader = gallery.reader()
        ids = reader.find(labels=[old])
        if not ids:
            raise HttpError(404, "label_not_found", f"no entry has the label {old!r}")
        if old != new and not merge and reader.find(labels=[new]):
            raise HttpError(
                409, "label_exists", f"there is a label {new!r} already; to make one of the two, say merge: true"
            )
        return relabel(gallery, ids, new)(writer)

    return work


def remove(gallery: Served, ids: Sequence[int]) -> Work[tuple[int, int]]:
    """How many were removed, and how many are left; those that are not there are passed over."""

    def work(writer: GalleryWriter) -> tuple[int, int]:
        change = writer.begin()
        change.remove(ids)
        return change.commit().removed, len(gallery.reader())

    return work


def undo(gallery: Served) -> Work[int]:
    def work(writer: GalleryWriter) -> int:
        writer.undo()
        return len(gallery.reader())

    return work


def _all_there(found: dict[int, Item], ids: Sequence[int]) -> list[Item]:
    missing = [number for number in ids if number not in found]
    if missing:
        raise HttpError(404, "item_not_found", f"there is no entry {missing[0]}; it may have been removed or renamed")
    return [found[number] for number in dict.fromkeys(ids)]
