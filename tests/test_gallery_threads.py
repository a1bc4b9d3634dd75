"""One gallery object shared by threads, and readers that learn of another's changes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from shitu.gallery import open_reader
from shitu.gallery.gallery import Gallery
from tests.gallery_twin import (
    items_for,
    make,
    new,
    one_thread,
    use_the_index,
)

__all__ = ["one_thread", "use_the_index"]

CHANGING_WHILE_SEARCHING = """
import sys, threading, time
import numpy as np
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery

rng = np.random.default_rng(0)
vectors = rng.standard_normal((400, 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
items = [Item(f"label {n}", f"{n}.jpg") for n in range(400)]
Gallery.create(sys.argv[1], vectors[:200], items[:200], index_method=sys.argv[2], dist_type="IP", fingerprint="")
gallery, wrong, ended = Gallery.open(sys.argv[1]), [], threading.Event()

def search():
    while not ended.is_set():
        for number in (3, 77, 150):
            found = gallery.search(vectors[number][None], 1)[0][0]
            if (found.id, found.label) != (number, f"label {number}"):
                wrong.append(found)
        next(gallery.items()), gallery.lookup([5, 6]), gallery.find(labels=["label 9"]), len(gallery)

threads = [threading.Thread(target=search) for _ in range(4)]
for thread in threads:
    thread.start()
for number in range(200, 230):
    (added,) = gallery.append(vectors[number][None], [items[number]])
    assert gallery.search(vectors[number][None], 1)[0][0].id == added
    assert gallery.remove([added]) == 1
gallery.compact()
ended.set()
for thread in threads:
    thread.join()
print(len(gallery), len(wrong))
"""


@pytest.mark.parametrize("method", ["Flat", "HNSW8"])
def test_changing_while_others_search(method: str, tmp_path: Path) -> None:
    """Before, the database was closed under a running query, which ended the process with SIGSEGV."""
    command = [sys.executable, "-c", CHANGING_WHILE_SEARCHING, str(tmp_path / "gallery"), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "200 0\n"), done.stderr


def test_a_refreshed_reader_is_another_one(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(0), 30, "IP", 0)
    new(tmp_path, vectors[:20], "HNSW32")
    reader = open_reader(str(tmp_path))
    assert reader.refreshed() is reader
    other = Gallery.open(tmp_path)
    other.append(vectors[20:21], items_for(1, 20))
    fresh = reader.refreshed()
    assert fresh.search(vectors[20:21], 1)[0][0].id == 20
    assert (len(reader), len(fresh)) == (20, 21)
    assert reader.search(vectors[4:5], 1)[0][0].id == 4, "the old one serves on"
    other.compact()
    assert fresh.refreshed().search(vectors[20:21], 1)[0][0].id == 20
    new(tmp_path, vectors[:5])
    anew = fresh.refreshed()
    assert (len(anew), len(fresh)) == (5, 21)
    assert anew.facts.uid != fresh.facts.uid
    assert anew.refreshed() is anew


def test_the_index_is_not_read_again_for_an_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = make(np.random.default_rng(0), 30, "IP", 0)
    new(tmp_path, vectors[:20], "HNSW32")
    reader = Gallery.open(tmp_path)
    Gallery.open(tmp_path, load_index=False).append(vectors[20:21], items_for(1))
    monkeypatch.setattr("shitu.gallery.read.store.Store.read_index", lambda self: pytest.fail("read again"))
    assert reader.refreshed().search(vectors[3:4], 1)[0][0].id == 3


def test_closing_waits_for_the_query(tmp_path: Path) -> None:
    gallery = new(tmp_path, make(np.random.default_rng(0), 30, "IP", 0))
    failures: list[str] = []

    def read() -> None:
        try:
            for _ in range(10_000):
                gallery.lookup([1, 2, 3])
        except Exception as error:
            failures.append(type(error).__name__)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    gallery.close()
    for thread in threads:
        thread.join()
    assert set(failures) == {"GalleryError"}
