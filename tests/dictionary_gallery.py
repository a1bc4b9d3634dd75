"""A gallery kept in a dictionary of this process, `dictionary://NAME`: the least that a kind of gallery must do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block, Facts, GalleryReader, Item, LabelCount
from shitu.gallery.change import Changed, GalleryWriter
from shitu.gallery.open import Kind
from shitu.results import Match

Rows = dict[int, tuple[Item, NDArray[Any]]]


@dataclass(frozen=True)
class State:
    """One moment; a change puts another one in its place."""

    facts: Facts
    rows: Rows = field(default_factory=dict)
    next_id: int = 0


GALLERIES: dict[str, State] = {}


class Reader:
    def __init__(self, url: str) -> None:
        if url not in GALLERIES:
            raise GalleryError(f"there is no gallery {url}: build one with `shitu build-gallery`")
        self.url, self._state = url, GALLERIES[url]

    @property
    def facts(self) -> Facts:
        return self._state.facts

    def __len__(self) -> int:
        return len(self._state.rows)

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        measure, rows = self.facts.measure, self._state.rows
        queries = measure.checked(vectors, self.facts.dimension)
        if not rows:
            return [[] for _ in queries]
        stored, ids = np.stack([vector for _, vector in rows.values()]), np.array(list(rows))
        answers = []
        for query in queries:
            scores = measure.score(query, stored)
            order = np.lexsort((ids, -measure.sign * scores))[:k]
            items = [rows[int(ids[place])][0] for place in order]
            answers.append(
                [
                    Match(item.label, float(scores[place]), item.id, item.image)
                    for item, place in zip(items, order, strict=True)
                ]
            )
        return answers

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        wanted = {"id": ids, "label": labels, "image": images, "sha256": sha256s}
        sets = {name: set(values) for name, values in wanted.items() if values is not None}
        return [item.id for item in self.items() if any(getattr(item, name) in values for name, values in sets.items())]

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        return {number: self._state.rows[number][0] for number in ids if number in self._state.rows}

    def items(self) -> Iterator[Item]:
        return (item for item, _ in list(self._state.rows.values()))

    def page(self, *, after: int = -1, limit: int = 100, label: str | None = None, text: str = "") -> list[Item]:
        fits = (each for each in self.items() if label in (None, each.label) and text.lower() in each.label.lower())
        return [each for each in fits if each.id > after][:limit]

    def labels(self, *, text: str = "", after: str = "", limit: int | None = None) -> list[LabelCount]:
        ids: dict[str, list[int]] = {}
        for each in self.items():
            if text.lower() in each.label.lower() and each.label > after:
                ids.setdefault(each.label, []).append(each.id)
        return [LabelCount(label, len(of), min(of), max(of)) for label, of in sorted(ids.items())][:limit]

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        try:
            return np.stack([self._state.rows[number][1] for number in ids])
        except KeyError as error:
            raise GalleryError(f"no entry {error}") from error

    def blocks(self) -> Iterator[Block]:
        for number, (_, vector) in list(self._state.rows.items()):
            yield np.array([number], np.int64), vector[None]

    def refreshed(self) -> GalleryReader:
        return self if GALLERIES[self.url] is self._state else Reader(self.url)

    def info(self) -> dict[str, Any]:
        facts = {name: getattr(self.facts, name) for name in ("dimension", "dist_type", "index_method", "model_name")}
        labels = {item.label for item in self.items()}
        return {"path": self.url, "format": "dictionary", "entries": len(self), "labels": len(labels), **facts}

    def unchecked(self) -> list[str]:
        return []

    def verify(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


class Writer:
    def __init__(self, url: str) -> None:
        self.url = url
        self.staging = Path(tempfile.mkdtemp()) / "building"

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, facts: Facts | None = None) -> Change:
        return Change(self.url, GALLERIES[self.url] if facts is None else State(facts))

    def compact(self) -> None:
        pass

    def undo(self) -> None:
        raise GalleryError(f"{self.url} keeps nothing to undo")


class Change:
    def __init__(self, url: str, state: State) -> None:
        self._url, self._state = url, state
        self._added: list[tuple[NDArray[Any], list[Item]]] = []
        self._removed: set[int] = set()

    def add(self, vectors: NDArray[Any], items: Iterable[Item], made_by: Facts | None = None) -> None:
        checked = self._state.facts.measure.checked(vectors, self._state.facts.dimension)
        self._added.append((np.array(checked), list(items)))

    def remove(self, ids: Iterable[int]) -> None:
        self._removed.update(ids)

    def commit(self) -> Changed:
        state = self._state
        rows = {number: row for number, row in state.rows.items() if number not in self._removed}
        removed, number = len(state.rows) - len(rows), state.next_id
        for vectors, items in self._added:
            for vector, item in zip(vectors, items, strict=True):
                rows[number] = replace(item, id=number), vector
                number += 1
        GALLERIES[self._url] = State(state.facts, rows, number)
        return Changed(range(state.next_id, number), removed)


KIND = Kind(lambda url, **options: Reader(url), lambda url, **options: Writer(url))
