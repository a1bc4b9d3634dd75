"""The door to faiss, against comparing everything with everything in numpy."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.gallery.foreign import vectors_in
from shitu.gallery.read import faiss_index
from shitu.gallery.read.faiss_index import VectorIndex, core_of, exact_search
from shitu.gallery.write.make_index import build_index, factory_string, is_flat, write_index
from shitu.measure import measure_of

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP's threads wait for each other by spinning, which is slow where other work holds the cores."""
    monkeypatch.setattr(faiss_index, "available_cores", lambda: 1)


def unit(count: int, dimension: int = 32) -> np.ndarray:
    vectors = RNG.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def codes(count: int, width: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (count, width), dtype=np.uint8)


def build(vectors: np.ndarray, method: str, dist_type: str = "IP") -> VectorIndex:
    rows = np.arange(len(vectors))
    return build_index(vectors, rows, rows * 3 + 7, method, measure_of(dist_type))


@pytest.mark.parametrize(
    ("method", "dist_type", "count", "wanted"),
    [
        ("Flat", "IP", 10, "Flat"),
        ("FLAT", "L2", 10, "Flat"),
        ("flat", "hamming", 10, "BFlat"),
        ("IVF", "IP", 0, "IVF1,Flat"),
        ("IVF", "IP", 7, "IVF1,Flat"),
        ("ivf", "IP", 800, "IVF100,Flat"),
        ("IVF", "IP", 10_000_000, "IVF65536,Flat"),
        ("IVF", "hamming", 80, "BIVF10"),
        ("hnsw32", "hamming", 80, "BHNSW32"),
        ("IVF16,flat", "IP", 80, "IVF16,Flat"),
        ("OPQ8,IVF4,PQ8", "IP", 80, "OPQ8,IVF4,PQ8"),
    ],
)
def test_factory_string(method: str, dist_type: str, count: int, wanted: str) -> None:
    assert factory_string(method, measure_of(dist_type), count) == wanted


def test_only_flat_is_flat() -> None:
    assert [is_flat(name) for name in ("Flat", " FLAT", "flat", "IVF4,Flat", "HNSW32")] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_exact_search_is_the_numpy_answer(dist_type: str, count: int, tmp_path: Path) -> None:
    vectors = codes(300) if dist_type == "hamming" else unit(300)
    vectors.tofile(tmp_path / "v")
    mapped = np.memmap(tmp_path / "v", vectors.dtype, "r", shape=vectors.shape)
    queries = codes(count) if dist_type == "hamming" else unit(count)
    scores, rows = exact_search(queries, mapped, 300, measure_of(dist_type))
    if dist_type == "IP":
        truth = queries @ vectors.T
    elif dist_type == "L2":
        truth = ((queries[:, None] - vectors[None]) ** 2).sum(-1)
    else:
        truth = np.unpackbits(queries[:, None] ^ vectors[None], axis=2).sum(-1).astype(np.float32)
    np.testing.assert_allclose(scores, np.take_along_axis(truth, rows, 1), atol=1e-5)
    ordered = np.sort(truth, axis=1)
    np.testing.assert_allclose(scores, ordered[:, ::-1] if dist_type == "IP" else ordered, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "dist_type"),
    [
        *[(m, d) for m in ("Flat", "HNSW32", "IVF", "SQ8", "PCA32,Flat", "Flat,RFlat") for d in ("IP", "L2")],
        *[(m, "hamming") for m in ("Flat", "HNSW32", "IVF", "IVF4_HNSW32", "Hash16")],
    ],
)
def test_build_write_read_search(method: str, dist_type: str, tmp_path: Path) -> None:
    vectors = codes(300) if dist_type == "hamming" else unit(300)
    index = build(vectors, method, dist_type)
    with (tmp_path / "图 #1?.faiss").open("wb") as file:
        digest = write_index(index, file)
    assert len(digest) == 64
    read = VectorIndex.read(tmp_path / "图 #1?.faiss", "advice")
    assert (read.count, read.measure.name) == (300, dist_type)
    assert read.dimension == (64 if dist_type == "hamming" else 32)
    np.testing.assert_array_equal(read.search(vectors[:25], 1)[1][:, 0], np.arange(25) * 3 + 7)
    np.testing.assert_array_equal(np.sort(read.ids()), np.arange(300) * 3 + 7)


@pytest.mark.parametrize("method", ["nonsense", "IVF0,Flat", "IVF10", "IDMap,Flat", "Flat,IDMap2", "", "HNSW32)"])
def test_an_impossible_method_is_quoted(method: str) -> None:
    with pytest.raises(GalleryError, match=r"index_method '.*HNSW32") as caught:
        build(unit(50), method)
    assert f"'{method}'" in str(caught.value)


@pytest.mark.parametrize(("method", "need"), [("IVF1024,Flat", "1024"), ("PQ8", "256"), ("OPQ8,IVF4,PQ8", "256")])
def test_too_few_to_learn_from(method: str, need: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GalleryError, match=rf"at least {need} images, and the gallery has 50"):
        build(unit(50), method)


@pytest.mark.parametrize(("method", "count"), [("IVF", 1), ("IVF", 7), ("IVF", 50), ("OPQ4,IVF4,PQ4x4", 300)])
def test_learning_is_silent(method: str, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = unit(count)
    assert build(vectors, method).search(vectors[:1], 1)[1][0, 0] == 7
    assert build(codes(count), "IVF", "hamming").count == count
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(("method", "dist_type"), [("HNSW32", "IP"), ("PCA16,HNSW32", "L2"), ("HNSW32", "hamming")])
def test_ef_search_reaches_the_graph(method: str, dist_type: str) -> None:
    index = build(codes(100) if dist_type == "hamming" else unit(100), method, dist_type)
    index.tune(None, None)
    assert core_of(index.raw).hnsw.efSearch == 64
    index.tune(7, None)
    assert core_of(index.raw).hnsw.efSearch == 7


@pytest.mark.parametrize(
    ("method", "dist_type"), [("IVF32,Flat", "IP"), ("PCA16,IVF32,Flat", "L2"), ("IVF32", "hamming")]
)
def test_nprobe_reaches_the_lists(method: str, dist_type: str) -> None:
    index = build(codes(100) if dist_type == "hamming" else unit(100), method, dist_type)
    index.tune(None, None)
    assert core_of(index.raw).nprobe == 8
    index.tune(None, 3)
    assert core_of(index.raw).nprobe == 3
    index.tune(None, 1000)
    assert core_of(index.raw).nprobe == 32


def test_a_setting_without_meaning_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build(unit(50), "HNSW32").tune(None, 4)
        build(unit(50), "IVF").tune(20, None)
        build(unit(50), "SQ8").tune(20, 4)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["nprobe", "efSearch", "efSearch", "nprobe"]
    with pytest.raises(GalleryError, match="efSearch is 0"):
        build(unit(50), "HNSW32").tune(0, None)


def test_a_damaged_index_file_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    write_index(build(unit(200), "HNSW32"), whole)
    content = whole.getvalue()
    path = tmp_path / "x.faiss"
    cuts = [0, 1, 3, 4, 10, 33, 100, len(content) // 2, len(content) - 1]
    for piece in [*(content[:cut] for cut in cuts), b"garbage" * 100, b"IB" + content[2:], content[:4] + b"\xff" * 500]:
        path.write_bytes(piece)
        with pytest.raises(GalleryError, match="do this next"):
            VectorIndex.read(path, "do this next")


@pytest.mark.parametrize("method", ["Flat", "HNSW32", "IVF"])
@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_stored_vectors_come_back(method: str, dist_type: str) -> None:
    vectors = codes(90) if dist_type == "hamming" else unit(90)
    np.testing.assert_array_equal(vectors_in(build(vectors, method, dist_type)), vectors)


def test_compressed_vectors_do_not(capfd: pytest.CaptureFixture[str]) -> None:
    for method in ("SQ8", "PQ4x4", "PCA16,Flat", "OPQ4_16,Flat"):
        with pytest.raises(GalleryError, match="shitu build-gallery"):
            vectors_in(build(unit(300), method))
