"""What a gallery vouches for, it checks: every changed byte is found by verify, and none is answered with."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.gallery.gallery import Gallery
from shitu.gallery.read import store
from tests.conftest import ROOT, Run
from tests.gallery_twin import items_for, make, new, one_thread, use_the_index

__all__ = ["one_thread", "use_the_index"]
VECTORS = make(np.random.default_rng(9), 20, "IP", 0)


def folder(path: Path) -> Path:
    (generation,) = path.glob("gen-*")
    return generation


def execute(path: Path, *sqls: str) -> None:
    connection = sqlite3.connect(folder(path) / "items.db", isolation_level=None)
    for sql in sqls:
        connection.execute(sql)
    connection.close()


def to_version_1(path: Path) -> None:
    """As galleries were written before items and facts had checksums."""
    execute(
        path,
        "ALTER TABLE item DROP COLUMN sum",
        "DELETE FROM meta WHERE key = 'crc'",
        "PRAGMA user_version = 1",
    )


@pytest.mark.parametrize(
    "change",
    [
        "box = '[0, 1, 6, 6]'",
        "box = NULL",
        "label = label || 'x'",
        "image = 'other.jpg'",
        "sha256 = 'ff' || substr(sha256, 3)",
        "crc = crc + 1",
    ],
)
def test_verify_checks_all_that_an_item_says(change: str, tmp_path: Path) -> None:
    """The checksum was the vector's alone: a changed byte in a box passed."""
    new(tmp_path, VECTORS, "HNSW32")
    execute(tmp_path, f"UPDATE item SET {change} WHERE id = 3")
    gallery = Gallery.open(tmp_path)
    assert "1 entries (id 3) changed on disk since written" in gallery.verify()[0]
    with pytest.raises(GalleryError, match="changed on disk since it was written"):
        gallery.search(VECTORS[3:4], 1)
    with pytest.raises(GalleryError, match="changed on disk since it was written"):
        gallery.compact()  # which would have written a checksum over the damage


def test_two_items_that_have_changed_places(tmp_path: Path) -> None:
    new(tmp_path, VECTORS)
    swap = "UPDATE item SET row = CASE row WHEN 3 THEN -1 ELSE {} END WHERE row IN ({})"
    execute(tmp_path, swap.format(3, "3, 4"), "UPDATE item SET row = 4 WHERE row = -1")
    assert "2 entries (id 3, 4) changed" in Gallery.open(tmp_path).verify()[0]


@pytest.mark.parametrize("key", ["index_rows", "next_id", "fingerprint", "model_name", "uid", "index_sha256"])
def test_the_facts_have_a_checksum(key: str, tmp_path: Path) -> None:
    new(tmp_path, VECTORS, "HNSW32")
    execute(tmp_path, f"UPDATE meta SET value = CASE key WHEN 'index_rows' THEN '3' ELSE '25' END WHERE key = '{key}'")
    with pytest.raises(GalleryError, match="its checksum differs"):
        Gallery.open(tmp_path)


def test_one_picture_votes_once_whatever_the_facts_say(tmp_path: Path) -> None:
    """A changed index_rows gave every match twice."""
    new(tmp_path, VECTORS, "HNSW32")
    to_version_1(tmp_path)
    execute(tmp_path, "UPDATE meta SET value = '0' WHERE key = 'index_rows'")
    gallery = Gallery.open(tmp_path)
    found = [match.id for match in gallery.search(VECTORS[4:5], 20)[0]]
    assert sorted(found) == list(range(20))
    assert "said not to be" in "".join(gallery.verify())


@pytest.mark.parametrize("method", ["Flat", "HNSW32", "IVF"])
@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_a_vector_that_changed_is_not_answered_with(method: str, dist_type: str, tmp_path: Path) -> None:
    """28 % of damaged vector files were served in silence."""
    vectors = make(np.random.default_rng(9), 40, dist_type, 0)
    new(tmp_path, vectors, method, dist_type)
    with (folder(tmp_path) / "vectors.bin").open("r+b") as file:
        file.seek(7 * vectors[0].nbytes)
        file.write(bytes([vectors[7].tobytes()[0] ^ 1]))
    gallery = Gallery.open(tmp_path)
    with pytest.raises(GalleryError, match="vector of entry 7 changed on disk"):
        gallery.search(vectors[7:8], 1)
    for wrong in (gallery.compact, lambda: list(gallery._now.blocks())):
        with pytest.raises(GalleryError, match="vector of entry 7 changed on disk"):
            wrong()
    assert gallery.remove([7]) == 1
    assert len(gallery.search(vectors[7:8], 40)[0]) == 39


def test_every_byte_of_a_small_gallery_is_vouched_for(tmp_path: Path) -> None:
    """One byte changed at random places: refused, found by verify, or of no meaning at all."""
    new(tmp_path / "sound", VECTORS, "HNSW32")
    rng = np.random.default_rng(4)
    names = [path.name for path in sorted(folder(tmp_path / "sound").iterdir())]
    want = [list(Gallery.open(tmp_path / "sound").items()), Gallery.open(tmp_path / "sound").search(VECTORS, 3)]
    found = 0
    for number in range(120):
        shutil.rmtree(tmp_path / "broken", ignore_errors=True)
        shutil.copytree(tmp_path / "sound", tmp_path / "broken")
        place = folder(tmp_path / "broken") / names[number % len(names)]
        content = bytearray(place.read_bytes())
        at = int(rng.integers(len(content)))
        content[at] ^= int(rng.integers(1, 256))
        place.write_bytes(content)
        try:
            gallery = Gallery.open(tmp_path / "broken")
            assert gallery.verify() or [list(gallery.items()), gallery.search(VECTORS, 3)] == want, (place, at)
            found += bool(gallery.verify())
        except GalleryError:
            found += 1
    assert found > 60


def test_a_gallery_of_version_1_opens_and_is_upgraded_by_the_next_change(tmp_path: Path, shitu: Run) -> None:
    new(tmp_path, VECTORS, "HNSW32")
    to_version_1(tmp_path)
    before = Gallery.open(tmp_path)
    assert before.search(VECTORS[4:5], 1)[0][0].id == 4
    assert before.verify() == []
    assert "were not checked" in before.unchecked()[0]
    told = shitu("gallery", "verify", tmp_path)
    assert (told.returncode, "Nothing is wrong that can be checked" in told.stderr) == (0, True)
    assert before.append(VECTORS[:1], items_for(1)) == [20]
    after = Gallery.open(tmp_path)
    assert (after.unchecked(), after.verify(), len(after)) == ([], [], 21)
    assert list(after.items())[:20] == list(new(tmp_path / "other", VECTORS).items())
    execute(tmp_path, "UPDATE item SET label = 'x' WHERE id = 2")
    assert "id 2" in after.verify()[0]


def test_a_change_that_fails_leaves_version_1_as_it_was(tmp_path: Path) -> None:
    new(tmp_path, VECTORS)
    to_version_1(tmp_path)
    gallery = Gallery.open(tmp_path)
    with pytest.raises(GalleryError, match="cannot be written"):
        gallery.append(VECTORS[:1], [items_for(1)[0].__class__("a", "\udcff")])
    assert Gallery.open(tmp_path).unchecked()
    assert len(gallery.search(VECTORS[:1], 20)[0]) == 20


# --- rights and races are not damage ---------------------------------------------------------------------------------


NOBODY = """
import os, sys
from shitu.cli import main
from shitu.gallery.gallery import Gallery
if os.geteuid() == 0:
    Gallery.open(sys.argv[2]).verify()  # loads what is loaded late, from where nobody may read
    os.setuid(65534)  # root may read everything
main(["gallery", *sys.argv[1:]])
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that everybody may enter, which tmp_path is not."""
    path = Path("/tmp") / f"shitu-rights-{os.getpid()}"
    path.mkdir(mode=0o755)
    yield path
    for place in [path, *path.rglob("*")]:
        place.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("name", ["", "gallery.json", "gen", "items.db", "vectors.bin", "index-000001.faiss"])
@pytest.mark.parametrize("command", ["info", "list", "verify"])
def test_missing_rights_are_told_as_that(name: str, command: str, open_to_all: Path) -> None:
    """They were called damage, with the advice to rebuild, or were a traceback."""
    path = open_to_all / "g"
    new(path, VECTORS, "HNSW32")
    if name == "index-000001.faiss" and command != "verify":
        pytest.skip("does not read it")
    place = {"": path, "gallery.json": path / name, "gen": folder(path)}.get(name, folder(path) / name)
    place.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, command, str(path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert done.returncode in (1, 2)
    assert "access rights" in said or "permission" in said.lower()
    assert "rebuild" not in said
    assert "damaged" not in said


def test_opening_goes_on_where_a_writer_has_just_replaced_the_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is half deleted looks damaged: a vectors.bin cut off, a database that is gone."""
    new(tmp_path, VECTORS)
    real, raced = store.map_vectors, []

    def replaced_meanwhile(path: Path, meta: object) -> object:
        if not raced:
            raced.append(path)
            new(tmp_path, VECTORS[:7])
            raise GalleryError("vectors.bin is too short; rebuild it")
        return real(path, meta)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "map_vectors", replaced_meanwhile)
    assert len(Gallery.open(tmp_path)) == 7


def test_readers_beside_a_writer_never_see_damage(tmp_path: Path) -> None:
    new(tmp_path, VECTORS, "HNSW32")
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                gallery = Gallery.open(tmp_path)
                assert gallery.search(VECTORS[:1], 1)[0][0].label == "label 0"
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for round_ in range(25):
        if round_ % 2:
            Gallery.open(tmp_path).compact()
        else:
            new(tmp_path, VECTORS, "HNSW32")
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("name", ["", "model.yaml", "inference.pdiparams"])
def test_a_model_that_may_not_be_read_is_told_as_that(name: str, open_to_all: Path) -> None:
    """A traceback."""
    shutil.copytree(ROOT / "models" / "picodet_lcnet_x1_0_mainbody", open_to_all / "model")
    (open_to_all / "model" / name).chmod(0)
    code = NOBODY.replace("Gallery.open(sys.argv[2]).verify()", "verify_model(Path('models/efficientnet_lite0_512'))")
    code = code.replace("shitu.gallery.gallery import Gallery", "shitu.models.verify import verify_model")
    command = [sys.executable, "-c", "from pathlib import Path" + code.replace('"gallery"', '"models"'), "verify"]
    done = subprocess.run([*command, str(open_to_all / "model")], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "ermission" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 2)
