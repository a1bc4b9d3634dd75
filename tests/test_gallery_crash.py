"""Writers that die: at every step they take (os._exit), and at any moment (SIGKILL). The old gallery or the new one
must be there, whole, and the next change must clear up.

Each writer is a process of its own, forked from one that has only imported things: starting Python and faiss anew for
each of hundreds of deaths would take minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="dies by fork and SIGKILL")

PREAMBLE = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import numpy as np
from shitu.gallery.read import search as gallery_search
from shitu.gallery.write import changes as gallery_write
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.read.items import ItemDb
from shitu.gallery.write.items import ItemWriter

gallery_write.LEAST_LAG = 6
gallery_search.SMALL = 0  # look through the index
base, work, method, operation = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
rng = np.random.default_rng(0)
vectors = rng.standard_normal((60, 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
items = [Item(f"label {n}", f"{n}.jpg") for n in range(60)]

def create(path, start=0):
    return Gallery.create(
        path, vectors[start:start + 30], items[start:start + 30], index_method=method, dist_type="IP", fingerprint="")

def change(path):
    if operation == "create":
        create(path, 30)
    elif operation == "append":
        Gallery.open(path).append(vectors[30:40], items[30:40])
    elif operation == "remove":
        Gallery.open(path).remove(range(10))
    else:
        gallery = Gallery.open(path)
        gallery.compact()

def state(path):
    '''What a reader sees: {id: label}, after checking that each entry is found by its own vector.'''
    gallery = Gallery.open(path)
    seen = {item.id: item.label for item in gallery.items()}
    for number, label in seen.items():
        (found,) = gallery.search(vectors[int(label.split()[1])][None], 1)
        assert (found[0].id, found[0].label) == (number, label), (found, number, label)
    problems = [p for p in gallery.verify() if "belongs to no gallery" not in p]
    assert not problems, problems
    return sorted(seen.items())

def in_child(function, *arguments):
    '''Run in a process of its own; its answer, or None where it died.'''
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        answer = function(*arguments)
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None

def check(path, old, new):
    '''Old or new, whole; and the next change works and leaves no orphans.'''
    def look():
        seen = state(path)
        assert seen in (old, new), seen
        gallery = Gallery.open(path)
        (number,) = gallery.append(vectors[50:51], [Item("label 50", "x")])
        assert gallery.search(vectors[50:51], 1)[0][0].id == number or "label 50" in dict(seen).values()
        assert gallery.verify() == [], gallery.verify()
        return "new" if seen == new else "old"
    answer = in_child(look)
    assert answer, "the check itself failed"
    return answer

def prepare():
    def make():
        create(base)
        if operation == "compact":
            Gallery.open(base).remove([3, 4])
        old = state(base)
        shutil.copytree(base, work)
        change(work)
        new = state(work)
        shutil.rmtree(work)
        return [old, new]
    return tuple([tuple(entry) for entry in part] for part in in_child(make))
"""

EVERY_STEP = """
def dying(at):
    '''Let the process die at its at-th durable step, before or after it, as `at` is even or odd.'''
    count = 0
    def wrap(owner, name):
        step = getattr(owner, name)
        def stepped(*arguments, **named):
            nonlocal count
            count += 1
            mine = count
            if mine == at // 2 and at % 2 == 0:
                os._exit(9)
            try:
                return step(*arguments, **named)
            finally:
                if mine == at // 2:
                    os._exit(9)
        setattr(owner, name, stepped)
    for owner, names in (
        (os, ("fsync", "replace", "unlink", "rmdir", "mkdir")),
        (ItemWriter, ("insert", "delete", "set_meta")),
        (ItemDb, ("close",)),
        (gallery_write, ("save_index", "write_vectors")),
    ):
        for name in names:
            wrap(owner, name)

old, new = prepare()
deaths = {"old": 0, "new": 0}
for at in range(2, 1000):
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    def run():
        dying(at)
        change(work)
        return "finished"
    finished = in_child(run)
    deaths[check(work, old, new)] += 1
    if finished:
        break
print(json.dumps(deaths))
"""

ANY_MOMENT = """
old, new = prepare()
deaths = {"old": 0, "new": 0}
random.seed(int(sys.argv[6]) if len(sys.argv) > 6 else 1)
def timed():
    start = time.perf_counter()
    change(work)
    return time.perf_counter() - start
shutil.copytree(base, work)
usual = in_child(timed)
for _ in range(int(sys.argv[5])):
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    child = os.fork()
    if child == 0:
        change(work)
        os._exit(0)
    time.sleep(random.random() * usual * 1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deaths[check(work, old, new)] += 1
print(json.dumps(deaths))
"""

CUT_OFF_COMMIT = """
def half():
    '''Pages of an unfinished transaction reach the file, and the journal to undo them stays behind.'''
    (folder,) = base.glob("gen-*")
    db = ItemWriter.open(folder / "items.db")
    db._connection.execute("PRAGMA cache_size = 1")
    with db.transaction():
        for number in range(30):
            db._connection.execute("UPDATE item SET label = ? WHERE id = ?", ("x" * 3000, number))
        os._exit(9)

in_child(lambda: create(base) and 1)
(folder,) = base.glob("gen-*")
before = (folder / "items.db").read_bytes()
in_child(half)
assert (folder / "items.db-journal").stat().st_size > 0
assert (folder / "items.db").read_bytes() != before
print(json.dumps(in_child(state, base)))
"""


def run(code: str, tmp_path: Path, *arguments: object) -> object:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(PREAMBLE + code),
            tmp_path / "base",
            tmp_path / "work",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("operation", "method"),
    [("create", "HNSW8"), ("append", "Flat"), ("append", "HNSW8"), ("remove", "HNSW8"), ("compact", "HNSW8")],
)
def test_death_at_every_step(operation: str, method: str, tmp_path: Path) -> None:
    deaths = run(EVERY_STEP, tmp_path, method, operation)
    assert isinstance(deaths, dict)
    assert deaths["new"] >= 2
    if operation != "compact":  # which looks the same before and after
        assert deaths["old"] >= 4


@pytest.mark.parametrize("operation", ["create", "append", "remove"])
def test_death_at_any_moment(operation: str, tmp_path: Path) -> None:
    deaths = run(ANY_MOMENT, tmp_path, "HNSW8", operation, 25)
    assert isinstance(deaths, dict)
    assert sum(deaths.values()) == 25


def test_a_commit_that_was_cut_off_is_rolled_back_by_the_next_reader(tmp_path: Path) -> None:
    assert run(CUT_OFF_COMMIT, tmp_path, "Flat", "") == [[n, f"label {n}"] for n in range(30)]
