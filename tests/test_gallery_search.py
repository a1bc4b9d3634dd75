"""What the gallery finds, against its twin: every index method and metric, after any changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.read import search as gallery_search
from shitu.gallery.write import changes as gallery_write
from shitu.results import Match
from tests.gallery_twin import (
    EVERYTHING,
    METHODS,
    agree,
    items_for,
    make,
    new,
    one_thread,
    truth,
    use_the_index,
)

__all__ = ["one_thread", "use_the_index"]


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
    assert gallery.find(sha256s=[f"{4:064x}", f"{7:064x}"]) == [4, 7]
    assert gallery.find() == []
    assert next(gallery.items()) == Item("label 0", "图/0.jpg", "0" * 64, (0, 1, 2, 3), 0)
    facts = gallery.facts
    assert (facts.dimension, facts.dist_type, facts.index_method, facts.fingerprint) == (64, "IP", "Flat", "abc")


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
