"""Damaged galleries, locks, odd places: what is refused, what is found by verify, what is mended."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.write.lock import write_lock
from tests.gallery_twin import (
    damaged,
    items_for,
    make,
    new,
    one_thread,
    use_the_index,
)

__all__ = ["one_thread", "use_the_index"]


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
    assert len(list(tmp_path.glob("gen-*"))) == 1 or what.startswith(("index", "UPDATE meta")), (
        "what cannot be opened is not kept"
    )


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


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("method", ["Flat", "HNSW32"])
def test_a_folder_that_cannot_be_written_can_be_searched(method: str) -> None:
    code = """if True:
        import os, sys, numpy as np
        from shitu.errors import GalleryError
        from shitu.gallery.gallery import Gallery
        import shitu.gallery.inspect, shitu.gallery.write.writer  # loaded late
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
        gallery._now.store.db._connection.execute("DELETE FROM item")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 3, "IP", 0)
    gallery = new(tmp_path, vectors)
    code = (
        "import sys; from shitu.gallery.write.lock import write_lock\n"
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
