"""`undo`: after it a gallery is what it was before the last change, found by every method, and whatever is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import GalleryError
from shitu.gallery import Item
from shitu.gallery.change import new_facts
from shitu.gallery.gallery import Gallery
from shitu.gallery.open import open_writer
from shitu.gallery.write import changes
from tests.test_gallery_formats import paddleclas, unit

METHODS = ["Flat", "HNSW32", "IVF4,Flat"]


def items(start: int, stop: int) -> list[Item]:
    return [Item(f"tea {n}", f"{n}.jpg", f"{n:064x}", (0, 0, n + 1, 2) if n % 2 else None) for n in range(start, stop)]


def state(gallery: Gallery, *, killed: bool = False) -> tuple[list[Item], bytes]:
    """All that a gallery holds; and every vector is found under its own id."""
    assert [problem for problem in gallery.verify() if not (killed and "belongs to no gallery" in problem)] == []
    kept, vectors = list(gallery.items()), np.concatenate([block for _, block in gallery.blocks()])
    assert [found[0].id for found in gallery.search(vectors, 1)] == [item.id for item in kept]
    return kept, vectors.tobytes()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes are written anew at each change, as in large galleries."""
    monkeypatch.setattr(changes, "LEAST_LAG", 0)
    monkeypatch.setattr(changes, "LAG_SHARE", 0)
    monkeypatch.setattr("shitu.gallery.read.search.SMALL", 0)


def made(folder: Path, method: str = "Flat", count: int = 60) -> Gallery:
    return Gallery.create(folder, unit(count), items(0, count), index_method=method, dist_type="IP", fingerprint="f")


CHANGES: dict[str, Callable[[Gallery], object]] = {
    "append": lambda gallery: gallery.append(unit(5), items(60, 65)),
    "remove": lambda gallery: gallery.remove([*range(7), 30, 59]),
    "remove all": lambda gallery: gallery.remove(range(60)),
    "new": lambda gallery: made(gallery.path, "HNSW32", 20),
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("method", METHODS)
def test_undo_and_undo_of_it(method: str, what: str, tmp_path: Path) -> None:
    gallery = made(tmp_path, method)
    before = state(gallery)
    CHANGES[what](gallery)
    after = state(Gallery.open(tmp_path)) if what != "remove all" else ([], b"")
    for wanted in (before, after, before):
        now = Gallery.open(tmp_path)
        now.undo()
        for opened in (now, Gallery.open(tmp_path)):
            assert len(opened) == len(wanted[0])
            assert not wanted[0] or state(opened) == wanted
    assert len(list(tmp_path.glob("gen-*/undo-*"))) == (what != "new")
    assert len(list(tmp_path.glob("gen-*"))) == 1 + (what == "new")


@pytest.mark.usefixtures("eager")
def test_only_the_last_change_is_kept(tmp_path: Path) -> None:
    gallery = made(tmp_path)
    with pytest.raises(GalleryError, match="nothing to undo"):
        gallery.undo()
    made(tmp_path, count=40)
    assert len(list(tmp_path.glob("gen-*"))) == 2
    gallery = Gallery.open(tmp_path)
    gallery.remove([0])
    assert len(list(tmp_path.glob("gen-*"))) == 1, "a change within the new one lets go of the one before"
    gallery.append(unit(1), items(70, 71))
    gallery.undo()
    assert gallery.find(ids=[0, 39, 40]) == [39]
    assert gallery.append(unit(1), items(80, 81)) == [41], "ids are never used again"
    gallery.compact()
    with pytest.raises(GalleryError, match="nothing to undo"):
        gallery.undo()
    assert len(list(tmp_path.glob("gen-*/undo-*"))) == 0


def test_undo_of_a_new_and_then_again(tmp_path: Path) -> None:
    """The generation of before had a change that could be undone; the second undo takes back the first all the same."""
    gallery = made(tmp_path)
    gallery.remove([3])
    made(tmp_path, count=9)
    sizes = []
    for _ in range(3):
        with open_writer(str(tmp_path)) as writer:
            writer.undo()
        sizes.append(len(Gallery.open(tmp_path)))
    assert sizes == [59, 9, 59]


def test_the_models_name_goes_with_the_append_that_told_it(tmp_path: Path) -> None:
    paddleclas(tmp_path, unit(4), "Flat", "IP")
    with open_writer(str(tmp_path)) as writer:
        change = writer.begin()
        change.add(unit(1), items(0, 1), made_by=new_facts(32, "IP", "Flat", "f1", "one"))
        change.commit()
        writer.undo()
    assert (len(Gallery.open(tmp_path)), Gallery.open(tmp_path).facts.fingerprint) == (4, "")


def test_a_file_that_belongs_to_another_gallery(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    one.remove([1])
    other.remove([2])
    (mine,), (theirs,) = ((tmp_path / name).glob("gen-*/undo-*.db") for name in ("one", "other"))
    for content in (theirs.read_bytes(), b"", b"garbage"):
        mine.write_bytes(content)
        with pytest.raises(GalleryError):
            Gallery.open(tmp_path / "one").undo()
        assert len(Gallery.open(tmp_path / "one")) == 59
    mine.unlink()
    with pytest.raises(GalleryError, match="is gone"):
        Gallery.open(tmp_path / "one").undo()


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("what", ["append", "remove", "new"])
def test_an_undo_that_is_cut_off_anywhere(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fsync is a place where the process ends: the gallery is what it was before the undo, or after it."""
    for place in range(30):
        folder = tmp_path / f"{what} {place}"
        gallery = made(folder, "HNSW32")
        before = state(gallery)
        CHANGES[what](gallery)
        after = state(Gallery.open(folder))
        left = [place]

        def fsync(handle: int, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                Gallery.open(folder).undo()
                done = True
            except Killed:
                done = False
        assert state(Gallery.open(folder), killed=True) in ((before,) if done else (before, after))
        if done:
            return
    pytest.fail("never done")


def test_the_command(tmp_path: Path) -> None:
    made(tmp_path / "g").remove([1, 2])
    answers = []
    for _ in range(2):
        done = CliRunner().invoke(main, ["gallery", "undo", str(tmp_path / "g")], catch_exceptions=False)
        answers.append(json.loads(done.stdout))
    assert answers == [{"entries_before": 58, "entries": 60}, {"entries_before": 60, "entries": 58}]
    done = CliRunner().invoke(main, ["gallery", "undo", str(tmp_path / "none")])
    assert (done.exit_code, "there is no gallery" in done.stderr) == (2, True)
