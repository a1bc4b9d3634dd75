"""`gallery dedup` against a table made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from tests.test_gallery_formats import unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """0 and 1: one file; 2: near 0; 3: 0's file under another label; 4 and 5: two boxes of one photo; 6: alone."""
    vectors = unit(7)
    vectors[1] = vectors[3] = vectors[0]
    vectors[2] = vectors[0] + 0.05 * vectors[6]
    vectors[5] = vectors[4]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [
        Item("tea", "a.jpg", "aa"),
        Item("tea", "copy.jpg", "aa"),
        Item("tea", "near.jpg", "bb"),
        Item("coffee", "a.jpg", "aa"),
        Item("tea", "shelf.jpg", "cc", (0, 0, 5, 5)),
        Item("tea", "shelf.jpg", "cc", (5, 0, 9, 5)),
        Item("tea", "other.jpg", "dd"),
    ]
    Gallery.create(tmp_path, vectors, items, index_method="Flat", dist_type="IP", fingerprint="f")
    return tmp_path


def run(*arguments: object) -> tuple[list[dict[str, object]], dict[str, object], str]:
    done = CliRunner().invoke(main, ["gallery", "dedup", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    *found, summary = map(json.loads, done.stdout.splitlines())
    return found, summary, done.stderr


def test_what_is_found_and_removed(folder: Path) -> None:
    found, summary, told = run(folder)
    pairs = {(pair["id"], pair["duplicate_of"], pair["same_file"], pair.get("other_label")) for pair in found}
    assert pairs == {(1, 0, True, None), (2, 0, False, None), (3, 0, True, "tea")}
    assert summary == {"duplicates": 2, "contradictions": 1, "removed": 0, "entries": 7}
    assert "Nothing was removed" in told
    assert len(Gallery.open(folder)) == 7
    assert run(folder, "--cosine", 1)[1]["duplicates"] == 1
    assert run(folder, "--remove")[1] == {"duplicates": 2, "contradictions": 1, "removed": 2, "entries": 5}
    assert [item.id for item in Gallery.open(folder).items()] == [0, 3, 4, 5, 6]
    assert run(folder)[1]["duplicates"] == 0
    CliRunner().invoke(main, ["gallery", "undo", str(folder)], catch_exceptions=False)
    assert len(Gallery.open(folder)) == 7


@pytest.mark.parametrize("dist_type", ["L2", "hamming"])
def test_other_measures(dist_type: str, tmp_path: Path) -> None:
    vectors = unit(4) if dist_type == "L2" else np.random.default_rng(1).integers(0, 256, (4, 4), dtype=np.uint8)
    vectors[2] = vectors[1]
    items = [Item("tea", f"{n}.jpg", f"{n}") for n in range(4)]
    Gallery.create(tmp_path, vectors, items, index_method="Flat", dist_type=dist_type, fingerprint="f")
    (pair,), summary, _ = run(tmp_path)
    assert (pair["id"], pair["duplicate_of"], pair["cosine"], summary["duplicates"]) == (2, 1, 1.0, 1)


def test_more_copies_than_are_looked_at(tmp_path: Path) -> None:
    """Equal vectors are found by lower id, so all copies name the first."""
    vectors = np.repeat(unit(1), 50, axis=0)
    items = [Item("tea", f"{n}.jpg", f"{n}") for n in range(50)]
    Gallery.create(tmp_path, vectors, items, index_method="HNSW32", dist_type="IP", fingerprint="f")
    assert run(tmp_path, "--remove")[1]["entries"] == 1
