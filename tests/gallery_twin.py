"""A twin of the gallery for its tests: a dict of vectors, searched by comparing everything in float64."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.read import faiss_index
from shitu.gallery.read import search as gallery_search

DIMENSION = 64
EVERYTHING = {"efSearch": 500, "nprobe": 500}
# With everything looked at, which part of the true neighbours must be found. Compressed vectors are ranked again by the
# stored ones, but what compression ranks behind 2 k + 16 others is lost.
METHODS = [
    *[(method, dist_type, 1.0) for method in ("Flat", "IVF", "HNSW32") for dist_type in ("IP", "L2", "hamming")],
    ("IVF8,Flat", "IP", 1.0),
    ("SQ8", "IP", 0.99),
    ("PQ8x4", "L2", 0.5),
    ("PCA32,IVF4,SQ8", "IP", 0.6),
]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP's threads wait for each other by spinning, which is slow where other work holds the cores."""
    monkeypatch.setattr(faiss_index, "available_cores", lambda: 1)


@pytest.fixture(autouse=True)
def use_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small galleries are scanned whatever index they have; these tests are about the indexes."""
    monkeypatch.setattr(gallery_search, "SMALL", 0)


def make(rng: np.random.Generator, count: int, dist_type: str, repeat: float = 0.2) -> np.ndarray:
    """Vectors of which a part occur twice or oftener, so that there are ties."""
    if dist_type == "hamming":
        vectors = rng.integers(0, 256, (count, DIMENSION // 8), dtype=np.uint8)
    else:
        vectors = rng.standard_normal((count, DIMENSION)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    again = rng.random(count) < repeat
    vectors[again] = vectors[rng.integers(0, count, int(again.sum()))]
    return vectors


def items_for(count: int, start: int = 0) -> list[Item]:
    return [
        Item(f"label {n % 7}", f"图/{n}.jpg", f"{n:064x}", (0, 1, n + 2, n + 3)) for n in range(start, start + count)
    ]


def truth(twin: dict[int, np.ndarray], query: np.ndarray, k: int, dist_type: str) -> list[tuple[int, float]]:
    """(id, score) of the k nearest: equal scores by lower id."""
    if dist_type == "IP":
        scores = {n: -float(np.float32((v.astype(float) * query.astype(float)).sum())) for n, v in twin.items()}
    elif dist_type == "L2":
        scores = {n: float(np.float32(((v.astype(float) - query) ** 2).sum())) for n, v in twin.items()}
    else:
        scores = {n: float(np.unpackbits(v ^ query).sum()) for n, v in twin.items()}
    nearest = sorted((score, number) for number, score in scores.items())[:k]
    return [(number, -score if dist_type == "IP" else score) for score, number in nearest]


def agree(gallery: Gallery, twin: dict[int, np.ndarray], queries: np.ndarray, k: int, least: float) -> None:
    found = gallery.search(queries, k)
    hits = wanted = 0
    for query, matches in zip(queries, found, strict=True):
        right = truth(twin, query, k, gallery.facts.dist_type)
        assert len(matches) == len(right) == min(k, len(twin))
        ordered = [(-m.score if gallery.facts.dist_type == "IP" else m.score, m.id) for m in matches]
        assert ordered == sorted(ordered)
        assert {match.id for match in matches} <= set(twin)
        hits += len({number for number, _ in right} & {match.id for match in matches})
        wanted += len(right)
        if least == 1.0:
            assert [match.id for match in matches] == [number for number, _ in right]
            np.testing.assert_allclose([m.score for m in matches], [s for _, s in right], atol=1e-6)
    assert hits >= least * wanted


def new(path: Path, vectors: np.ndarray, method: str = "Flat", dist_type: str = "IP") -> Gallery:
    return Gallery.create(
        path,
        vectors,
        items_for(len(vectors)),
        index_method=method,
        dist_type=dist_type,
        fingerprint="abc",
        model_name="m",
    )


def damaged(path: Path, what: str) -> None:
    """Break a gallery in one way."""
    (generation,) = path.glob("gen-*")
    items = generation / "items.db"
    if what == "no pointer target":
        shutil.rmtree(generation)
    elif what == "pointer":
        (path / "gallery.json").write_text("{")
    elif what == "pointer outside":
        pointer = json.loads((path / "gallery.json").read_text()) | {"generation": "../elsewhere"}
        (path / "gallery.json").write_text(json.dumps(pointer))
    elif what == "version":
        pointer = json.loads((path / "gallery.json").read_text()) | {"version": 2}
        (path / "gallery.json").write_text(json.dumps(pointer))
    elif what == "short vectors":
        os.truncate(generation / "vectors.bin", 64 * 4 * 20 - 1)
    elif what == "database garbage":
        items.write_bytes(b"nothing" * 1000)
    elif what == "database empty":
        items.write_bytes(b"")
    elif what == "index short":
        os.truncate(next(generation.glob("index-*")), 100)
    elif what == "index gone":
        next(generation.glob("index-*")).unlink()
    else:
        connection = sqlite3.connect(items)
        connection.executescript(what)
        connection.close()
