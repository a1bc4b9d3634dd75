"""Making, changing and describing a gallery."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from tests.gallery_twin import (
    agree,
    items_for,
    make,
    new,
    one_thread,
    use_the_index,
)

__all__ = ["one_thread", "use_the_index"]


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


def test_create_replaces_the_old_generation_which_stays_until_the_next_change(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(6), 30, "IP", 0)
    old = new(tmp_path, vectors, "HNSW32")
    old_reader = Gallery.open(tmp_path)
    (tmp_path / "gen-000007").mkdir()  # what a dead writer left
    (tmp_path / "building").mkdir()
    gallery = new(tmp_path, vectors[:9])
    names = [".lock", "building", "gallery.json", "gen-000001", "gen-000002"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
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
    assert gallery.facts.index_learned == 2000
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
    gallery.facts.check_fits(tmp_path, fingerprint="abc", dimension=64, dist_type="IP")
    for wrong in ({"fingerprint": "xyz"}, {"dimension": 512}, {"dist_type": "L2"}):
        with pytest.raises(GalleryError, match="shitu build-gallery") as caught:
            gallery.facts.check_fits(tmp_path, **{"fingerprint": "abc", "dimension": 64, "dist_type": "IP"} | wrong)
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
        unknown.facts.check_fits(tmp_path, fingerprint="xyz", dimension=64, dist_type="IP")
    assert caplog.text.count("does not say which model") == 1


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
