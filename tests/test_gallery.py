"""The gallery against a twin: a dict of vectors, searched by comparing everything in float64."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery import Gallery, Item, vector_index, write_lock
from shitu.gallery import search as gallery_search
from shitu.gallery import write as gallery_write
from shitu.results import Match

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
    monkeypatch.setattr(vector_index, "_cores", lambda: 1)


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
        right = truth(twin, query, k, gallery.dist_type)
        assert len(matches) == len(right) == min(k, len(twin))
        ordered = [(-m.score if gallery.dist_type == "IP" else m.score, m.id) for m in matches]
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


@pytest.mark.parametrize(("method", "dist_type", "least"), METHODS)
def test_after_any_changes_it_answers_like_the_twin(
    method: str, dist_type: str, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_write, "LEAST_LAG", 60)
    rng = np.random.default_rng(1)
    vectors = make(rng, 400, dist_type)
    new(tmp_path, vectors, method, dist_type)
    gallery = Gallery.open(tmp_path, **EVERYTHING)
    twin, next_id = dict(enumerate(vectors)), 400
    for step in range(14):
        action = rng.choice(["append", "append many", "remove", "remove cluster", "compact", "reopen"])
        if action.startswith("append"):
            added = make(rng, 80 if action == "append many" else int(rng.integers(1, 9)), dist_type)
            added[0] = twin[min(twin)]
            ids = gallery.append(added, items_for(len(added), next_id))
            assert ids == list(range(next_id, next_id + len(added)))
            twin.update(zip(ids, added, strict=True))
            next_id += len(added)
        elif action.startswith("remove"):
            centre = vectors[rng.integers(0, 400)]
            near = [number for number, _ in truth(twin, centre, 70, dist_type)]
            gone = near if action == "remove cluster" else rng.choice(list(twin), 5, replace=False).tolist()
            assert gallery.remove([*gone, 10**6, gone[0]]) == len(gone)
            twin = {number: vector for number, vector in twin.items() if number not in set(gone)}
        elif action == "compact":
            gallery.compact()
        else:
            gallery = Gallery.open(tmp_path, **EVERYTHING)
        assert len(gallery) == len(twin)
        queries = np.concatenate([vectors[rng.integers(0, 400, 3)], make(rng, 22 if step % 2 else 1, dist_type)])
        agree(gallery, twin, queries, int(rng.choice([1, 5, 40])), least)
    assert gallery.verify() == []
    assert {item.id: item.image for item in gallery.items()} == {number: f"图/{number}.jpg" for number in twin}
    np.testing.assert_array_equal(gallery.vectors(), [twin[number] for number in sorted(twin)])
    agree(gallery, twin, vectors[:2], len(twin) + 5, least if method != "PQ8x4" else 1.0)


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 17])
@pytest.mark.parametrize("method", ["Flat", "IVF", "HNSW32"])
def test_tiny_galleries(method: str, count: int, dist_type: str, tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(2), 17, dist_type, 0)
    gallery = new(tmp_path, vectors[:count], method, dist_type)
    agree(gallery, dict(enumerate(vectors[:count])), vectors, 5, 1.0)
    assert gallery.search(vectors[:0], 5) == []
    assert gallery.append(vectors[:2], items_for(2)) == [count, count + 1]
    assert gallery.remove(range(count + 2)) == count + 2
    assert Gallery.open(tmp_path).search(vectors[:2], 5) == [[], []]
    gallery.compact()
    assert gallery.append(vectors[:1], items_for(1)) == [count + 2]  # ids are never given twice
    assert [[match.id for match in found] for found in gallery.search(vectors[:1], 3)] == [[count + 2]]


def test_a_small_gallery_is_scanned_though_its_graph_has_lost_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = make(np.random.default_rng(3), 200, "IP", 0)
    gallery = new(tmp_path, np.concatenate([vectors, np.repeat(vectors[:10], 60, axis=0)]), "HNSW4")
    monkeypatch.setattr(gallery_search, "SMALL", 10_000)
    assert [found[0].id for found in gallery.search(vectors, 1)] == list(range(200))


def test_a_thousand_copies_are_ordered_by_id(tmp_path: Path) -> None:
    vector = make(np.random.default_rng(3), 1, "IP")
    for method in ("Flat", "HNSW32", "IVF"):
        gallery = new(tmp_path / method, np.repeat(vector, 1000, axis=0), method)
        gallery.append(vector, items_for(1))
        for queries in (vector, np.repeat(vector, 30, axis=0)):  # few and many take different ways through faiss
            found = gallery.search(queries, 12)
            assert {tuple(match.id for match in matches) for matches in found} == {tuple(range(12))}


def test_a_match_tells_the_item(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(4), 10, "IP", 0)
    gallery = new(tmp_path, vectors)
    assert gallery.search(vectors[3:4], 1) == [[Match("label 3", pytest.approx(1), 3, "图/3.jpg")]]
    assert gallery.find(labels=["label 3", "none"], ids=[9, 77]) == [3, 9]
    assert gallery.find(images=["图/4.jpg"]) == [4]
    assert gallery.find() == []
    assert gallery.has(f"{4:064x}") == ("label 4",)
    assert gallery.has("") == gallery.has("0") == ()
    assert next(gallery.items()) == Item("label 0", "图/0.jpg", "0" * 64, (0, 1, 2, 3), 0)
    assert (gallery.dimension, gallery.dist_type, gallery.index_method, gallery.fingerprint) == (
        64,
        "IP",
        "Flat",
        "abc",
    )


@pytest.mark.parametrize("dist_type", ["IP", "hamming"])
def test_vectors_that_cannot_be_compared_are_refused(dist_type: str, tmp_path: Path) -> None:
    good = make(np.random.default_rng(5), 5, dist_type)
    gallery = new(tmp_path, good, "Flat", dist_type)
    bad = [good[0], good[:, :-1], good[:, :, None], np.zeros((1, 3))]
    if dist_type == "IP":
        for value in (0.0, np.nan, np.inf):
            broken = good.copy()
            broken[2] = value
            bad.append(broken)
    else:
        bad.append(good.astype(np.float32))
    for vectors in bad:
        with pytest.raises(ValueError, match=r"vector|shape|uint8"):
            gallery.search(vectors, 1)
        with pytest.raises(ValueError, match=r"vector|shape|uint8"):
            gallery.append(vectors, items_for(len(vectors)))
    with pytest.raises(ValueError, match="5 vectors for 4 items"):
        gallery.append(good, items_for(4))
    with pytest.raises(ValueError, match="k is 0"):
        gallery.search(good, 0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Gallery.create(tmp_path, good, items_for(4), index_method="Flat", dist_type=dist_type, fingerprint="")
    assert len(Gallery.open(tmp_path)) == 5
    assert gallery.verify() == []


def test_a_refused_method_leaves_the_old_gallery(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(5), 50, "IP")
    new(tmp_path, vectors)
    for method in ("IVF1024,Flat", "nonsense"):
        with pytest.raises(GalleryError, match=method):
            new(tmp_path, vectors[:20], method)
    assert len(Gallery.open(tmp_path)) == 50
    assert [path.name for path in tmp_path.glob("gen-*")] == ["gen-000001"]


def test_an_index_that_can_no_longer_learn_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = make(np.random.default_rng(5), 300, "IP", 0)
    gallery = new(tmp_path, vectors, "IVF128,Flat")
    gallery.remove(range(200))
    gallery.compact()
    assert "without an index" in caplog.text
    agree(gallery, {n: vectors[n] for n in range(200, 300)}, vectors[:5], 5, 1.0)


def test_create_replaces_and_deletes_the_old_generation(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(6), 30, "IP", 0)
    old = new(tmp_path, vectors, "HNSW32")
    old_reader = Gallery.open(tmp_path)
    (tmp_path / "gen-000007").mkdir()  # what a dead writer left
    (tmp_path / "building").mkdir()
    gallery = new(tmp_path, vectors[:9])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "building", "gallery.json", "gen-000002"]
    assert len(gallery) == len(Gallery.open(tmp_path)) == 9
    if os.name != "nt":
        assert old_reader.search(vectors[20:21], 1)[0][0].id == 20  # who had it open goes on
    for change in (lambda: old.remove([1]), lambda: old.append(vectors[:1], items_for(1)), old.compact):
        with pytest.raises(GalleryError, match="open it again"):
            change()


def test_two_objects_on_one_gallery(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(6), 30, "IP", 0)
    new(tmp_path, vectors[:10], "HNSW32")
    one, two = Gallery.open(tmp_path), Gallery.open(tmp_path)
    assert one.append(vectors[10:12], items_for(2)) == [10, 11]
    assert two.search(vectors[11:12], 1)[0][0].id != 11  # as opened
    one.remove([3])
    assert 3 not in {match.id for match in two.search(vectors[3:4], 10)[0]}  # its label is gone
    assert two.append(vectors[12:13], items_for(1)) == [12]
    assert two.search(vectors[11:12], 1)[0][0].id == 11
    one.compact()
    assert two.remove([4]) == 1
    assert sorted(item.id for item in Gallery.open(tmp_path).items()) == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12]


def test_the_index_file_is_rewritten_seldom(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(6), 3200, "IP", 0)
    gallery = new(tmp_path, vectors[:1000], "HNSW32")

    def index_file() -> str:
        (path,) = tmp_path.glob("gen-*/index-*.faiss")
        return path.name

    gallery.append(vectors[1000:2000], items_for(1000))
    assert index_file() == "index-000001.faiss"
    gallery.append(vectors[2000:2100], items_for(100))
    assert index_file() == "index-000002.faiss"
    gallery.remove(range(1000))
    assert index_file() == "index-000002.faiss"
    gallery.remove(range(1000, 1100))
    assert index_file() == "index-000003.faiss"
    assert gallery.verify() == []
    agree(Gallery.open(tmp_path, efSearch=200), {n: vectors[n] for n in range(1100, 2100)}, vectors[1500:1503], 5, 1.0)


def test_ivf_is_taught_again_when_it_has_outgrown_its_lists(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(6), 2000, "IP", 0)
    gallery = new(tmp_path, vectors[:16], "IVF")
    gallery.append(vectors[16:], items_for(1984))
    assert gallery.meta.index_learned == 2000
    agree(Gallery.open(tmp_path, nprobe=250), dict(enumerate(vectors)), vectors[:3], 5, 1.0)


@pytest.mark.parametrize("name", ["with space", "图库", "a#b?c%20d", "é&=;"])
def test_odd_folder_names(name: str, tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(7), 20, "IP", 0)
    for method in ("Flat", "HNSW32"):
        gallery = new(tmp_path / name, vectors, method)
        gallery.append(vectors[:1], items_for(1))
        gallery.remove([0])
        assert Gallery.open(tmp_path / name).search(vectors[:1], 1)[0][0].id == 20
        assert gallery.verify() == []
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_vectors_is_a_map_of_the_file_where_it_can_be(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(7), 20, "IP", 0)
    gallery = new(tmp_path, vectors)
    assert isinstance(gallery.vectors(), np.memmap)
    gallery.remove([0, 19])
    assert isinstance(gallery.vectors(), np.memmap)
    gallery.remove([7])
    got = gallery.vectors()
    np.testing.assert_array_equal(got, np.delete(vectors, [0, 7, 19], axis=0))
    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1


def test_a_memory_map_makes_a_gallery(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(7), 20_000, "IP", 0)
    vectors.tofile(tmp_path / "v")
    mapped = np.memmap(tmp_path / "v", np.float32, "r", shape=vectors.shape)
    for method in ("Flat", "HNSW8"):
        gallery = Gallery.create(
            tmp_path / method,
            mapped,
            (Item("x", f"{n}") for n in range(20_000)),
            index_method=method,
            dist_type="IP",
            fingerprint="",
        )
        assert [found[0].id for found in gallery.search(vectors[::4000], 1)] == list(range(0, 20_000, 4000))
        np.testing.assert_array_equal(gallery.vectors(), vectors)


def test_a_gallery_of_another_model_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gallery = new(tmp_path, make(np.random.default_rng(8), 3, "IP"))
    gallery.check_fits(fingerprint="abc", dimension=64, dist_type="IP")
    for wrong in ({"fingerprint": "xyz"}, {"dimension": 512}, {"dist_type": "L2"}):
        with pytest.raises(GalleryError, match="shitu build-gallery") as caught:
            gallery.check_fits(**{"fingerprint": "abc", "dimension": 64, "dist_type": "IP"} | wrong)
        (value,) = wrong.values()
        assert str(value) in str(caught.value)
    assert caplog.text == ""
    unknown = Gallery.create(
        tmp_path,
        make(np.random.default_rng(8), 3, "IP"),
        items_for(3),
        index_method="Flat",
        dist_type="IP",
        fingerprint="",
    )
    for _ in range(3):
        unknown.check_fits(fingerprint="xyz", dimension=64, dist_type="IP")
    assert caplog.text.count("does not say which model") == 1


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


@pytest.mark.parametrize(
    "what",
    [
        "no pointer target",
        "pointer",
        "pointer outside",
        "version",
        "short vectors",
        "database garbage",
        "database empty",
        "index short",
        "index gone",
        "PRAGMA user_version = 9",
        "PRAGMA application_id = 0",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN DELETE FROM item; END",
        "DROP TABLE meta",
        "DELETE FROM meta WHERE key = 'dimension'",
        "UPDATE meta SET value = 'x' WHERE key = 'rows'",
        "UPDATE meta SET value = '-4' WHERE key = 'rows'",
        "UPDATE meta SET value = '21' WHERE key = 'rows'",
        "UPDATE meta SET value = '19' WHERE key = 'rows'; UPDATE meta SET value = '19' WHERE key = 'index_rows'",
        "UPDATE meta SET value = '5' WHERE key = 'next_id'",
        "UPDATE meta SET value = '60' WHERE key = 'dimension'",
        "UPDATE meta SET value = 'L2' WHERE key = 'dist_type'",
        "UPDATE meta SET value = '19' WHERE key = 'index_count'",
        "UPDATE meta SET value = '../../x' WHERE key = 'index_file'",
    ],
)
def test_a_damaged_gallery_is_refused_and_can_be_replaced(what: str, tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 20, "IP", 0)
    new(tmp_path, vectors, "HNSW32")
    damaged(tmp_path, what)
    with pytest.raises(GalleryError, match="shitu"):
        Gallery.open(tmp_path)
    assert new(tmp_path, vectors).search(vectors[4:5], 1)[0][0].id == 4
    assert len(list(tmp_path.glob("gen-*"))) == 1


@pytest.mark.parametrize("what", ["index short", "index gone"])
def test_a_damaged_index_is_mended_by_compact(what: str, tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 20, "IP", 0)
    new(tmp_path, vectors, "HNSW32")
    damaged(tmp_path, what)
    assert "gallery compact" in Gallery.open(tmp_path, load_index=False).verify()[0]
    Gallery.open(tmp_path, load_index=False).compact()
    assert Gallery.open(tmp_path).search(vectors[4:5], 1)[0][0].id == 4


def test_no_gallery(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(GalleryError, match="build-gallery"):
            Gallery.open(path)


def test_verify_finds_every_kind_of_damage(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 20, "IP", 0)
    gallery = new(tmp_path, vectors, "HNSW32")
    (generation,) = tmp_path.glob("gen-*")
    stored = np.memmap(generation / "vectors.bin", np.float32, "r+", shape=(20, 64))
    stored[3] *= 2
    stored[5, 0] = np.nan
    stored.flush()
    index = next(generation.glob("index-*"))
    content = bytearray(index.read_bytes())
    content[-1000] ^= 1  # a vector's low bits: faiss itself reads it without complaint
    index.write_bytes(content)
    (generation / "index-000009.faiss").write_bytes(b"")
    (tmp_path / "gen-000005").mkdir()
    problems = "\n".join(Gallery.open(tmp_path).verify())
    for piece in ("id 3, 5) changed", "id 5) not finite", "id 3) not of unit", "sha256", "index-000009", "gen-000005"):
        assert piece in problems
    assert len(problems.splitlines()) == 6
    assert gallery.info()["entries"] == 20


def test_info(tmp_path: Path) -> None:
    gallery = new(tmp_path, make(np.random.default_rng(9), 20, "hamming", 0), "IVF", "hamming")
    gallery.append(make(np.random.default_rng(9), 2, "hamming", 0), items_for(2))
    gallery.remove([0])
    facts = gallery.info()
    assert json.loads(json.dumps(facts)) == facts
    wanted = {"entries": 21, "labels": 7, "dimension": 64, "dist_type": "hamming", "index_method": "IVF", "next_id": 22}
    wanted |= {"removed": 1, "not_in_index_file": 2, "model_name": "m", "fingerprint": "abc", "format": "shitu-gallery"}
    assert {key: facts[key] for key in wanted} == wanted
    assert facts["bytes"] == sum(path.stat().st_size for path in tmp_path.glob("gen-*/*"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("method", ["Flat", "HNSW32"])
def test_a_folder_that_cannot_be_written_can_be_searched(method: str) -> None:
    code = """if True:
        import os, sys, numpy as np
        from shitu.errors import GalleryError
        from shitu.gallery import Gallery
        Gallery.open(sys.argv[1]).search(np.eye(8, dtype=np.float32), 1)  # loads what is loaded late
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write everything: be nobody
        gallery = Gallery.open(sys.argv[1])
        print(gallery.search(np.eye(8, dtype=np.float32), 1)[5][0].id, gallery.verify())
        try:
            gallery.remove([0])
        except GalleryError as error:
            print("could not be written" in str(error))
    """
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where only its owner may look
        path = Path(folder) / "只读 g"
        Gallery.create(
            path, np.eye(8, dtype=np.float32), items_for(8), index_method=method, dist_type="IP", fingerprint=""
        )
        (path / ".lock").unlink()
        folders = [Path(folder), path, *path.glob("gen-*")]
        for place in folders:
            place.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent.parent,
        )
        for place in folders:
            place.chmod(0o755)
    assert (done.stdout, done.returncode) == ("5 []\nTrue\n", 0), done.stderr


def test_what_sqlite_cannot_hold(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 3, "IP", 0)
    gallery = new(tmp_path, vectors)
    assert gallery.find(ids=[2**70, -1, 1], labels=["\udcff"], images=["\udcff"]) == [1]
    assert gallery.remove([2**70, -(2**70), -1]) == 0
    with pytest.raises(GalleryError, match="cannot be written"):
        gallery.append(vectors[:1], [Item("a", "\udcff.jpg")])
    with pytest.raises(GalleryError, match="cannot be written"):
        Gallery.create(
            tmp_path, vectors[:1], [Item("\udcff", "x")], index_method="Flat", dist_type="IP", fingerprint=""
        )
    assert len(gallery) == len(Gallery.open(tmp_path)) == 3


def test_readers_open_the_database_read_only(tmp_path: Path) -> None:
    gallery = new(tmp_path, make(np.random.default_rng(9), 3, "IP", 0))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        gallery._store.db._connection.execute("DELETE FROM item")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 3, "IP", 0)
    gallery = new(tmp_path, vectors)
    code = (
        "import sys; from shitu.gallery.lock import write_lock\n"
        "with write_lock(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "held\n"
    changes = (
        lambda: new(tmp_path, vectors),
        lambda: gallery.append(vectors, items_for(3)),
        lambda: gallery.remove([0]),
        gallery.compact,
    )
    for change in changes:
        with pytest.raises(GalleryBusyError, match=rf"is being written by another process \(pid {other.pid}\)"):
            change()
    assert Gallery.open(tmp_path).search(vectors[:1], 1)[0][0].id == 0  # reading goes on
    other.stdin.close()
    assert other.wait(20) == 0
    other.stdout.close()
    assert gallery.remove([0]) == 1


def test_the_lock_is_re_entrant_in_its_thread_only(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 3, "IP", 0)
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            Gallery.open(tmp_path).remove([0])
        except GalleryBusyError as error:
            caught.append(error)

    with write_lock(tmp_path):
        gallery = new(tmp_path, vectors)
        gallery.append(vectors, items_for(3))
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert gallery.remove([1]) == 1
    assert "another thread" in str(caught[0])
    assert Gallery.open(tmp_path).remove([0]) == 1
