"""Large galleries: what `auto` chooses, entries that stay in SQLite, re-ranking and tuning, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.gallery.change import new_facts
from shitu.gallery.gallery import Gallery
from shitu.gallery.read import search as gallery_search
from shitu.gallery.read import store as gallery_store
from shitu.gallery.read.faiss_index import VectorIndex, exact_search
from shitu.gallery.reader import FolderReader
from shitu.gallery.tune import remember, tuned
from shitu.gallery.write import choose as choosing
from shitu.gallery.write.choose import choose
from shitu.gallery.write.writer import FolderWriter
from shitu.measure import HAMMING, IP, L2, measure_of
from tests.gallery_twin import items_for, one_thread, use_the_index

__all__ = ["one_thread", "use_the_index"]
DIMENSION = 32


def things(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around as many centres as a tenth of them."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((-(-count // 10), DIMENSION)), 10, axis=0)[:count]
    made = (centres + 0.3 * rng.standard_normal(centres.shape)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def packed(vectors: np.ndarray) -> np.ndarray:
    return np.packbits(vectors > 0, axis=1)


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> list[list[int]]:
    products = np.array([(vectors.astype(np.float64) * query).sum(axis=1) for query in queries], np.float32)
    return np.argsort(-products, axis=1, kind="stable")[:, :k].tolist()


def found(gallery: Gallery | FolderReader, queries: np.ndarray, k: int) -> list[list[int]]:
    return [[match.id for match in matches] for matches in gallery.search(queries, k)]


def recall(right: list[list[int]], ids: list[list[int]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(right, ids, strict=True)]))


def make(folder: Path, vectors: np.ndarray, method: str = "auto", limit: int = 0, dist_type: str = "IP") -> Gallery:
    dimension = measure_of(dist_type).dimension(vectors.shape[1])
    with FolderWriter(folder) as writer:
        change = writer.begin(new_facts(dimension, dist_type, method, "model", memory_limit=limit))
        change.add(vectors, items_for(len(vectors)))
        change.commit()
    return Gallery.open(folder)


@pytest.mark.parametrize(
    ("count", "dimension", "limit", "wanted"),
    [
        (0, 512, 0, "Flat"),
        (20_000, 512, 0, "Flat"),
        (20_001, 512, 0, "PQ128x4fs"),  # 64 bytes and an id
        (500_000, 512, 36_000_000, "PQ128x4fs"),
        (500_000, 512, 35_999_999, "PQ64x4fs"),
        (500_001, 512, 0, "PQ64x4fs"),
        (1_000_000, 512, 24_000_000, "PQ32x4fs"),
        (10_000_000, 512, 0, "PQ64x4fs"),
        (30_000, 250, 0, "SQ8"),
    ],
)
def test_auto_chooses_by_count_and_memory(count: int, dimension: int, limit: int, wanted: str) -> None:
    chosen = choose(count, dimension, IP, limit)
    assert chosen.method == wanted
    assert not limit or chosen.bytes <= limit
    assert choose(count, 512, HAMMING).method == "Flat"


def test_too_little_memory_says_what_to_do() -> None:
    with pytest.raises(GalleryError, match=r"1,000,000 vectors takes 24 MB .* is 23 MB: raise it, or use .* Flat"):
        choose(1_000_000, 512, L2, 23_000_000)


@pytest.mark.parametrize("loaded", [0, 10**6])
@pytest.mark.parametrize("dist_type", ["IP", "L2"])
def test_auto_grows_from_flat_to_codes_and_finds_the_same(
    dist_type: str, loaded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choosing, "EXACT", 1500)
    monkeypatch.setattr(gallery_store, "LOADED", loaded)
    vectors, queries = things(4000), things(4000, 0)[::40] + np.float32(0.01)
    gallery = make(tmp_path, vectors[:1200], dist_type=dist_type)
    assert gallery.info()["index"] is None
    with caplog.at_level("INFO"):
        gallery.append(vectors[1200:], items_for(2800))
    assert "index_method auto: PQ8x4fs, since codes of 4 bytes for 4,000 vectors take" in caplog.text
    assert (gallery.info()["index"], gallery.info()["index_method"]) == ("PQ8x4fs", "auto")
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert recall(nearest(vectors, queries, 1), found(gallery, queries, 1)) >= 0.99
    gone = sorted({ids[0] for ids in nearest(vectors, queries, 1)})
    gallery.remove(gone)
    lives = np.setdiff1d(np.arange(4000), gone)
    for _ in range(2):  # as it lies, and with its holes closed, so that rows are no longer ids
        right = [lives[ids].tolist() for ids in nearest(vectors[lives], queries, 1)]
        assert recall(right, found(gallery, queries, 1)) >= 0.99
        np.testing.assert_array_equal(gallery.vectors_of([4000 - 1, int(lives[0])]), vectors[[3999, int(lives[0])]])
        gallery.compact()
    assert gallery.verify() == []


@pytest.mark.parametrize("method", ["Flat", "HNSW16", "PQ16x4", "IVF"])
def test_a_large_gallery_answers_as_a_small_one(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = things(1500)
    vectors[700:720] = vectors[3]
    make(tmp_path, vectors, method)
    answers = []
    for loaded in (10**6, 0):
        monkeypatch.setattr(gallery_store, "LOADED", loaded)
        reader = FolderReader.open(tmp_path)
        answers.append(found(reader, vectors[::30], 40))
        assert (reader.store._loaded is None) == (loaded == 0)
    assert answers[0] == answers[1]
    assert answers[0][0] == nearest(vectors, vectors[:1], 40)[0] or method != "Flat"


def test_a_large_gallery_misses_what_another_process_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_store, "LOADED", 0)
    vectors = things(600)
    make(tmp_path, vectors, "HNSW16")
    reader, other = FolderReader.open(tmp_path), Gallery.open(tmp_path)
    other.remove([5])
    other.append(vectors[5:6], items_for(1))
    right = [number for number in nearest(vectors, vectors[5:6], 4)[0] if number != 5]
    assert found(reader, vectors[5:6], 3) == [right]  # and nothing that came later
    assert found(reader.refreshed(), vectors[5:6], 1) == [[600]]


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_rows_are_shared_out_among_the_cores(count: int, dist_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from shitu.gallery.read import faiss_index

    vectors = packed(things(1001)) if dist_type == "hamming" else things(1001)
    whole = exact_search(vectors[:count], vectors, 7, measure_of(dist_type))
    monkeypatch.setattr(faiss_index, "available_cores", lambda: 3)
    monkeypatch.setattr(faiss_index, "PART", 64)
    shared = exact_search(vectors[:count], vectors, 7, measure_of(dist_type))
    np.testing.assert_allclose(shared[0], whole[0], atol=1e-6)
    assert (shared[1][:, 0] == np.arange(count)).all()
    few = exact_search(vectors[:count], vectors[:4], 7, measure_of(dist_type))
    assert (few[1] >= 0).sum(axis=1).tolist() == [4] * count


def test_a_mapped_index_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shitu.gallery.read import faiss_index

    vectors = things(800)
    for method in ("HNSW16", "HNSW16,SQ8", "IVF8,SQ8", "PQ16x4fs"):
        gallery = make(tmp_path / method, vectors, method)
        path = gallery._now.store.index_path
        plain = VectorIndex.read(path, "advice").search(vectors[:50], 5)
        monkeypatch.setattr(faiss_index, "MAPPED_FROM", 0)
        mapped = VectorIndex.read(path, "advice", mapped=True).search(vectors[:50], 5)
        np.testing.assert_array_equal(plain[1], mapped[1])
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("method", "knob", "dist_type"),
    [
        ("HNSW4", "efSearch", "IP"),
        ("IVF64,Flat", "nprobe", "L2"),
        ("PQ4x4", "depth", "IP"),
        ("IVF64", "nprobe", "hamming"),
    ],
)
def test_tuning_reaches_the_recall_and_is_remembered(method: str, knob: str, dist_type: str, tmp_path: Path) -> None:
    floats = things(3000)
    vectors = packed(floats) if dist_type == "hamming" else floats
    make(tmp_path, vectors, method, dist_type=dist_type)
    reader = FolderReader.open(tmp_path)
    tried = list(tuned(reader, 0.97, queries=100))
    assert tried[-1].recall >= 0.97
    assert [one.value for one in tried] == sorted({one.value for one in tried})
    remember(tmp_path, knob, tried[-1].value)
    gallery = Gallery.open(tmp_path)
    key = {"efSearch": "ef_search"}.get(knob, knob)
    assert getattr(gallery.facts, key) == tried[-1].value
    index = gallery._now.searched().index
    assert index is not None
    assert index.knob == knob
    queries = things(3000, 0)[::20] + np.random.default_rng(1).normal(0, 0.1, (150, DIMENSION)).astype(np.float32)
    queries = packed(queries) if dist_type == "hamming" else queries / np.linalg.norm(queries, axis=1, keepdims=True)
    measure = measure_of(dist_type)
    best = measure.nearness(queries, vectors).max(axis=1)
    scores = [measure.sign * matches[0].score for matches in gallery.search(queries, 1)]
    assert np.isclose(scores, best, atol=1e-5).mean() >= 0.93  # measured 0.97 or more on other queries
    gallery.append(vectors[:5], items_for(5))
    gallery.compact()
    assert getattr(gallery.facts, key) == tried[-1].value


def test_what_is_compared_exactly_is_not_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "flat", things(50), "Flat")
    assert list(tuned(FolderReader.open(tmp_path / "flat"), 0.9)) == []
    monkeypatch.setattr(gallery_search, "SMALL", 10_000)
    make(tmp_path / "graph", things(50), "HNSW16")
    assert list(tuned(FolderReader.open(tmp_path / "graph"), 0.9)) == []
