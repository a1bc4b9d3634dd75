"""The worst mistakes, as cards of pictures: what was asked, what was looked at, what it was taken for, what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from shitu.errors import GalleryError
from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.report_pictures import Pictures, Shown
from shitu.evaluation.settings import Answer, Settings
from shitu.gallery import GalleryReader, Item, open_reader
from shitu.results import Box, Match

KINDS = ("wrong", "unknown", "unnamed", "lost")  # in the order in which they are shown


def choose_worst(answers: Sequence[Answer], settings: Settings, most: int) -> dict[str, list[Answer]]:
    """At most `most` mistakes by kind, the worst first; half for each of wrong and unknown where there are so many.

    Equal scores are in the order of the query list.
    """
    found: dict[str, list[Answer]] = {kind: [] for kind in KINDS}
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


def mistakes(evaluation: Evaluation, worst: int, image_root: str | None, delimiter: str) -> dict[str, list[Card]]:
    """The cards of the kinds that occur."""
    chosen = choose_worst(evaluation.answers, evaluation.settings, worst)
    with ExitStack() as stack:
        gallery = None
        with suppress(GalleryError):
            gallery = open_reader(evaluation.gallery["path"], delimiter=delimiter, load_index=False)
            stack.callback(gallery.close)
        maker = _CardMaker(gallery, image_root or "", evaluation.settings)
        return {kind: [maker.card(kind, answer) for answer in answers] for kind, answers in chosen.items() if answers}


class _CardMaker:
    """Without a gallery, or with one that cannot be read any more, pictures are shown whole."""

    def __init__(self, gallery: GalleryReader | None, image_root: str, settings: Settings) -> None:
        self._gallery, self._image_root, self._settings = gallery, image_root, settings
        self._pictures = Pictures()

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
        item = self._find(ids=[match.id])
        box = item.box if item is not None and item.image == match.image else None
        return self._entry(match, box, title, style, _shown(match.score))

    def _right(self, answer: Answer) -> Shot:
        """The nearest entry of the query's own label, or any where none was among the nearest."""
        label = answer.query.label
        for place, match in enumerate(answer.ranking, start=1):
            if match.label == label:
                return self._match(match, "✓ Right" if place == 1 else f"✓ Right, in place {place}", "good")
        title = f"✓ Right, not in the first {len(answer.ranking)}" if answer.ranking else "✓ Right"
        item = self._find(labels=[label])
        if item is None:
            return Shot(title, None, label, style="good")
        return self._entry(item, item.box, title, "good")

    def _entry(self, entry: Match | Item, box: Box | None, title: str, style: str, score: str = "") -> Shot:
        picture = self._pictures.crop(os.path.join(self._image_root, entry.image), box, entry.label)
        return Shot(title, picture, entry.label, entry.image, score, style=style)

    def _find(self, **wanted: Any) -> Item | None:
        """The first entry of some ids or labels."""
        with suppress(GalleryError):
            if self._gallery is not None and (ids := self._gallery.find(**wanted)):
                return self._gallery.lookup(ids[:1]).get(ids[0])
        return None


def _given(answer: Answer) -> Match:
    """The match whose label was the answer; with votes not always the nearest."""
    region = answer.regions[0]
    return region.matches[region.chosen]


def _shown(score: float) -> str:
    return f"{score:.3f}" if abs(score) < 10 else f"{score:.0f}"
