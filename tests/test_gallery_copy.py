"""`shitu gallery copy`: between places of all kinds, gone on after a kill, and compared with what was read."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import GalleryError
from shitu.gallery import GalleryReader, Item, open_reader
from shitu.gallery.copy import copy_gallery
from shitu.gallery.export import export_gallery
from shitu.gallery.write.writer import FolderChange
from tests.gallery_places import Place, build, change, place_of, things, unit_vectors

VECTORS, ITEMS = unit_vectors(50), things(50)
WAYS = [
    *(("folder", kind) for kind in ("folder", "dictionary", "milvus", "postgres")),
    *((kind, "folder") for kind in ("dictionary", "milvus", "postgres")),
    *(("milvus", "postgres"), ("postgres", "milvus")),
]


@pytest.fixture(params=WAYS, ids="-to-".join)
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Place, Place]:
    source, target = (place_of(kind, request, tmp_path, monkeypatch) for kind in request.param)
    return source, target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gallery of 45: ten of 50 were removed, five came later."""
    build(str(tmp_path / "ours"), VECTORS, ITEMS)
    change(str(tmp_path / "ours"), VECTORS[:5], things(5, 60), remove=list(range(0, 50, 5)))
    return tmp_path / "ours"


def contents(gallery: GalleryReader) -> dict[Item, bytes]:
    """The entries without ids, and their vectors."""
    vectors = {number: vector for ids, block in gallery.blocks() for number, vector in zip(ids, block, strict=True)}
    return {dataclasses.replace(item, id=-1): vectors[item.id].tobytes() for item in gallery.items()}


def test_from_every_kind_to_every_other(way: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.gallery.copy.BLOCK_ROWS", 7)
    source, target = (place() for place in way)
    build(source, VECTORS, ITEMS)
    change(source, VECTORS[:2], [Item("c", "")] * 2, remove=[item.id for item in open_reader(source).items()][3:6])
    told = []
    done = copy_gallery(open_reader(source), target, progress=told.append)
    before, after = open_reader(source), open_reader(target)
    assert (done.entries, done.resumed, sum(told)) == (49, 0, 49)
    assert contents(after) == contents(before)
    assert (len(after), after.verify()) == (49, [])
    assert after.facts.uid != before.facts.uid
    for name in ("dimension", "dist_type", "index_method", "fingerprint", "model_name", "settings"):
        assert getattr(after.facts, name) == getattr(before.facts, name)
    with pytest.raises(GalleryError, match="holds 49 entries already; --yes replaces them"):
        copy_gallery(before, target)
    change(source, remove=[next(before.items()).id])
    again = copy_gallery(open_reader(source), target, instead=True)
    assert (again.entries, again.resumed) == (48, 0)
    assert contents(open_reader(target)) == contents(open_reader(source))


def test_of_another_program(
    folder: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PaddleX's knows labels alone."""
    export_gallery(open_reader(str(folder)), tmp_path / "theirs", "paddlex")
    for kind in ("postgres", "milvus"):
        url = place_of(kind, request, tmp_path, monkeypatch)()
        assert copy_gallery(open_reader(str(tmp_path / "theirs")), url).entries == 45
        assert sorted(item.label for item in open_reader(url).items()) == sorted(
            item.label for item in open_reader(str(folder)).items()
        )


def test_a_copy_onto_itself_is_refused(folder: Path) -> None:
    with pytest.raises(GalleryError, match="onto itself"):
        copy_gallery(open_reader(str(folder)), f"{folder}/../{folder.name}", instead=True)


KILLED = """
import os, signal, sys
from shitu.gallery import copy, open_reader
copy.BLOCK_ROWS = 10
add = copy._Kept._add
def kept(self, *block):
    add(self, *block)
    if self._blocks == 3:
        os.kill(os.getpid(), signal.SIGKILL)
copy._Kept._add = kept
copy.copy_gallery(open_reader(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["folder", "postgres"])
def test_a_killed_copy_goes_on(
    folder: Path, kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = place_of(kind, request, tmp_path, monkeypatch)()
    dead = subprocess.run([sys.executable, "-c", KILLED, folder, target], check=False, timeout=120)
    assert dead.returncode == -9
    with pytest.raises(GalleryError, match="there is no gallery"):
        open_reader(target)
    monkeypatch.setattr("shitu.gallery.copy.BLOCK_ROWS", 10)
    done = copy_gallery(open_reader(str(folder)), target)
    assert (done.entries, done.resumed) == (45, 30)
    assert contents(open_reader(target)) == contents(open_reader(str(folder)))


def test_what_was_kept_of_another_moment_is_not_used(folder: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "copy")
    dead = subprocess.run([sys.executable, "-c", KILLED, folder, target], check=False, timeout=120)
    assert dead.returncode == -9
    change(str(folder), remove=[1])
    done = copy_gallery(open_reader(str(folder)), target)
    assert (done.entries, done.resumed) == (44, 0)
    assert contents(open_reader(target)) == contents(open_reader(str(folder)))


def test_a_copy_that_differs_is_told_and_taken_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = str(tmp_path / "target")
    build(target, VECTORS[:3], ITEMS[:3])
    add = FolderChange.add

    def losing(self: FolderChange, vectors: np.ndarray, items: list[Item], *more: object) -> None:  # type: ignore[type-arg]
        add(self, vectors[1:], list(items)[1:])

    monkeypatch.setattr(FolderChange, "add", losing)
    with pytest.raises(GalleryError, match=r"no copy of .*: 44 entries with checksum .*45 .*it is as before"):
        copy_gallery(open_reader(str(folder)), target, instead=True)
    assert set(contents(open_reader(target))) == set(ITEMS[:3])


def test_the_command(
    folder: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place_of("postgres", request, tmp_path, monkeypatch)()

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["gallery", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    there = json.loads(run("copy", str(folder), url))
    back = json.loads(run("copy", url, str(tmp_path / "back")))
    assert (there["entries"], there["checksum"]) == (45, back["checksum"])
    assert CliRunner().invoke(main, ["gallery", "copy", str(folder), url]).exit_code == 2
    assert json.loads(run("copy", str(folder), url, "--yes"))["entries"] == 45
