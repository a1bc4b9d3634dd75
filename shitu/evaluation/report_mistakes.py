"""The worst mistakes, as cards of pictures: what was asked, what was looked at, what it was taken for, what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shitu.errors import GalleryError
from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.report_pictures import Pictures, Shown
from shitu.evaluation.settings import Answer, Settings
from shitu.gallery import GalleryReader, Item, open_reader
from shitu.results import Box, Match

# The order in which they are shown: (kind, heading, what it means).
KINDS = (
    ("wrong", "Taken for something else", "The gallery has it, but another thing came first. The highest score first."),
    ("unknown", "Unknown, and named", "The gallery has no such thing, but something in it was near enough. The highest "
     "score first."),
    ("unnamed", "Right, but not named", "The right thing came first, but was not near enough. The worst score first."),
    ("lost", "Not found", "Nothing was found in the photo, or nothing that overlaps the query’s box enough to count."),
)  # fmt: skip


def choose_worst(answers: Sequence[Answer], settings: Settings, most: int) -> dict[str, list[Answer]]:
    """At most `most` mistakes by kind, the worst first; half for each of wrong and unknown where there are so many.

    Equal scores are in the order of the query list.
    """
    found: dict[str, list[Answer]] = {kind: [] for kind, _, _ in KINDS}
    for answer in answers:
        if kind := _kind(answer, settings):
            found[kind].append(answer)
    for kind in ("wrong", "unknown"):
        found[kind].sort(key=lambda answer: -answer.score)
    found["unnamed"].sort(key=lambda answer: answer.score)
    wrong = min(len(found["wrong"]), max(most - most // 2, most - len(found["unknown"])))
    room, chosen = most, {}
    for kind, candidates in found.items():
        chosen[kind] = candidates[: wrong if kind == "wrong" else room]
        room -= len(chosen[kind])
    return chosen


def _kind(answer: Answer, settings: Settings) -> str:
    """What is wrong with an answer; empty for nothing."""
    if answer.error is not None:
        return ""
    if not answer.regions:
        return "lost" if answer.known else ""
    named = settings.accepts(answer.score)
    if not answer.known:
        return "unknown" if named else ""
    if not answer.right:
        return "wrong"
    return "" if named else "unnamed"


class GalleryPictures:
    """Gallery entries by id and label, and where their pictures lie; without the gallery there are only the paths."""

    def __init__(self, index_dir: str | Path, image_root: str | None, delimiter: str = "\t") -> None:
        self._image_root = image_root or ""
        self._gallery: GalleryReader | None
        try:
            self._gallery = open_reader(str(index_dir), delimiter=delimiter, load_index=False)
        except GalleryError:
            self._gallery = None

    def close(self) -> None:
        if self._gallery is not None:
            self._gallery.close()

    def path(self, image: str) -> str:
        return os.path.join(self._image_root, image)

    def box(self, match: Match) -> Box | None:
        """What was cut out of the picture of this entry."""
        item = self._lookup([match.id]).get(match.id)
        return item.box if item is not None and item.image == match.image else None

    def example(self, label: str) -> Item | None:
        """The first entry of a label."""
        if self._gallery is None:
            return None
        try:
            ids = self._gallery.find(labels=[label])
        except GalleryError:
            return None
        return self._lookup(ids[:1]).get(ids[0]) if ids else None

    def _lookup(self, ids: list[int]) -> dict[int, Item]:
        if self._gallery is None:
            return {}
        try:
            return self._gallery.lookup(ids)
        except GalleryError:
            return {}


@dataclass(frozen=True)
class Shot:
    """A picture of a card; `style` good or bad, `picture` None where the gallery has none, `line` of the query list."""

    title: str
    picture: Shown | None
    label: str = ""
    image: str = ""
    score: str = ""
    line: int = 0
    style: str = ""


@dataclass(frozen=True)
class Card:
    """A mistake: query photo, the part that was compared, what it was taken for, what it is; those that there are."""

    label: str
    taken_for: str
    score: str
    shots: tuple[Shot, ...]


def mistakes(
    evaluation: Evaluation, worst: int, image_root: str | None, delimiter: str
) -> list[tuple[str, str, str, list[Card]]]:
    """(kind, heading, meaning, cards) of the kinds that occur."""
    chosen = choose_worst(evaluation.answers, evaluation.settings, worst)
    gallery = GalleryPictures(evaluation.gallery["path"], image_root, delimiter)
    try:
        maker = _CardMaker(gallery, evaluation.settings)
        return [
            (kind, heading, meaning, [maker.card(kind, answer) for answer in chosen[kind]])
            for kind, heading, meaning in KINDS
            if chosen[kind]
        ]
    finally:
        gallery.close()


class _CardMaker:
    def __init__(self, gallery: GalleryPictures, settings: Settings) -> None:
        self._gallery, self._settings, self._pictures = gallery, settings, Pictures()

    def card(self, kind: str, answer: Answer) -> Card:
        shots = self._query(answer)
        if kind in ("wrong", "unknown"):
            shots.append(self._match(_given(answer), "✗ Taken for", "bad"))
        if kind != "unknown":
            shots.append(self._right(answer))
        if kind == "lost":
            return Card(answer.query.label, "", "", tuple(shots))
        given = _given(answer)
        beyond = "" if self._settings.accepts(answer.score) else ", not near enough to be named"
        taken_for = "" if kind == "unnamed" else given.label
        return Card(answer.query.label, taken_for, f"{_shown(given.score)}{beyond}", tuple(shots))

    def _query(self, answer: Answer) -> list[Shot]:
        query = answer.query
        box = answer.regions[0].bbox if answer.regions else query.box
        photo, whole = self._pictures.photo(query.path, box, f"photo of {query.label}")
        title = "Query, compared as a whole" if answer.regions and whole else "Query"
        shots = [Shot(title, photo, image=query.image, line=query.line)]
        if answer.regions and not whole:
            crop = self._pictures.crop(query.path, box, "the part of the photo that was compared")
            shots.append(Shot("Compared", crop))
        return shots

    def _match(self, match: Match, title: str, style: str) -> Shot:
        picture = self._pictures.crop(self._gallery.path(match.image), self._gallery.box(match), match.label)
        return Shot(title, picture, match.label, match.image, _shown(match.score), style=style)

    def _right(self, answer: Answer) -> Shot:
        """The nearest entry of the query's own label, or any where none was among the nearest."""
        for place, match in enumerate(answer.ranking, start=1):
            if match.label == answer.query.label:
                return self._match(match, "✓ Right" if place == 1 else f"✓ Right, in place {place}", "good")
        title = f"✓ Right, not in the first {len(answer.ranking)}" if answer.ranking else "✓ Right"
        item = self._gallery.example(answer.query.label)
        if item is None:
            return Shot(title, None, answer.query.label, style="good")
        picture = self._pictures.crop(self._gallery.path(item.image), item.box, item.label)
        return Shot(title, picture, item.label, item.image, style="good")


def _given(answer: Answer) -> Match:
    """The match whose label was the answer; with votes not always the nearest."""
    region = answer.regions[0]
    return region.matches[region.chosen]


def _shown(score: float) -> str:
    return f"{score:.3f}" if abs(score) < 10 else f"{score:.0f}"
