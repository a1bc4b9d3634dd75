"""Galleries of ours and of other programs, damaged or made to do harm: what is answered is true, or there is an error.

A canary lies beside each: nothing may touch it, and no code of the gallery may make another file.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shitu.errors import ShituError
from shitu.gallery import Item
from shitu.gallery.export import export_gallery
from shitu.gallery.gallery import Gallery
from shitu.gallery.read import faiss_index, search
from tests.gallery_twin import items_for, make, new

KINDS = (("Flat", "IP"), ("HNSW32", "IP"), ("IVF", "L2"), ("HNSW32", "hamming"), ("PQ8x4", "IP"))
FOREIGN = ("paddleclas", "paddlex")
COUNT = 40
_TEXTS = (
    "",
    "0",
    "-1",
    "x",
    "1e3",
    "nan",
    str(10**30),
    "9" * 5000,
    "../../x",
    "\0",
    "IP",
    "HNSW0",
    "HNSW1",
    "OPQ0",
    "RR0",
)
_SQL = (
    "UPDATE item SET label = ? WHERE id = 3",
    "UPDATE item SET image = ? WHERE id = 3",
    "UPDATE item SET box = ? WHERE id = 3",
    "UPDATE item SET row = ? WHERE id = 3",
    "UPDATE item SET id = ? WHERE id = 3",
    "UPDATE item SET crc = ? WHERE id = 3",
    "DELETE FROM item WHERE id <> ?",
    "DELETE FROM meta WHERE key <> ?",
    "UPDATE meta SET key = ? WHERE key = 'uid'",
)
_SCRIPTS = (
    "CREATE TRIGGER t AFTER INSERT ON item BEGIN DELETE FROM item; END",
    "CREATE TRIGGER t AFTER UPDATE ON meta BEGIN UPDATE item SET label = 'owned'; END",
    "CREATE VIEW v AS SELECT * FROM item",
    "DROP TABLE meta",
    "DROP INDEX item_label",
    "PRAGMA user_version = 1",
    "PRAGMA application_id = 5",
    "PRAGMA journal_mode = WAL",
    "VACUUM",
)


@cache
def sound(number: int, home: Path) -> tuple[Path, np.ndarray, list[Any]]:
    """A gallery, made by the first process that wants it, its vectors, and what it answers."""
    search.SMALL = 0  # look through the index
    faiss_index.available_cores = lambda: 1  # the others are busy with trials
    path, foreign = home / str(number), number >= len(KINDS)
    method, measure = KINDS[number] if not foreign else ("HNSW32", "IP")
    vectors = make(np.random.default_rng(number), COUNT, measure, 0)
    if not (path / "done").exists():
        shutil.rmtree(path, ignore_errors=True)
        gallery = new(path / "ours", vectors, method, measure)
        if foreign:
            export_gallery(gallery, path / "theirs", FOREIGN[number - len(KINDS)])
        (path / "done").touch()
    path /= "theirs" if foreign else "ours"
    return path, vectors, answers(Gallery.open(path), vectors)


def answers(gallery: Gallery, vectors: np.ndarray) -> list[Any]:
    found = gallery.search(vectors[:6], 3)
    return [list(gallery.items()), [[(m.id, m.label, m.image, round(m.score, 4)) for m in each] for each in found]]


def damage(rng: random.Random, path: Path, canary: Path) -> str:
    files = sorted(each for each in path.rglob("*") if each.is_file() and each.name != ".lock")
    victim = rng.choice(files)
    how = rng.choice((_bytes, _bytes, _bytes, _cut, _link, _special, _database, _database, _meta, _pointer, _pickle))
    how(rng, path, victim, canary)
    return how.__name__.strip("_")


def _bytes(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    data = bytearray(victim.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 30))):
        if data:
            data[rng.randrange(min(len(data), rng.choice((100, len(data)))))] = rng.randrange(256)
    victim.write_bytes(data)


def _cut(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    data = victim.read_bytes()
    at = rng.randrange(len(data) + 1)
    victim.write_bytes(rng.choice((data[:at], data + rng.randbytes(50), data[at:], data * 2, b"", rng.randbytes(at))))


def _link(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    if rng.random() < 0.4:
        victim = victim.with_name(
            rng.choice((".lock", ".lock-owner", "building", "items.db-journal", ".shitu-1-1.part"))
        )
    victim.unlink(missing_ok=True)
    victim.symlink_to(rng.choice((canary, canary.with_name("made"), Path("/dev/zero"), path)))


def _special(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    victim.unlink()
    if rng.random() < 0.5:
        os.mkfifo(victim)
    elif rng.random() < 0.5:
        victim.mkdir()


def _connect(rng: random.Random, path: Path) -> sqlite3.Connection | None:
    found = list(path.glob("gen-*/items.db"))
    return sqlite3.connect(found[0], isolation_level=None) if found else None


def _database(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    if (connection := _connect(rng, path)) is None:
        return _bytes(rng, path, victim, canary)
    with suppress(sqlite3.Error):
        if rng.random() < 0.3:
            connection.executescript(rng.choice(_SCRIPTS))
        else:
            value = rng.choice((*_TEXTS, 0, -1, 2**63 - 1, 1.5, None, rng.randbytes(9), "[" * 9000, "[1,2,3,1e999]"))
            connection.execute(rng.choice(_SQL), (value,))
    connection.close()
    return None


def _meta(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    """One fact changed, half the time with a checksum that fits, as a stranger would."""
    from shitu.gallery.read.items import meta_crc

    if (connection := _connect(rng, path)) is None:
        return _bytes(rng, path, victim, canary)
    key = rng.choice([row[0] for row in connection.execute("SELECT key FROM meta")])
    connection.execute("UPDATE meta SET value = ? WHERE key = ?", (rng.choice((*_TEXTS, "7", "41")), key))
    if rng.random() < 0.5:
        crc = meta_crc(connection.execute("SELECT key, value FROM meta").fetchall())
        connection.execute("UPDATE meta SET value = ? WHERE key = 'crc'", (crc,))
    connection.close()
    return None


def _pointer(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    generation = rng.choice(("gen-000001", "gen-000009", "../x", "/etc", ["a"], None, 5, "gen-" + "9" * 400))
    text: Any = {"format": "shitu-gallery", "version": rng.choice((1, 1, 2, "1", 10**300)), "generation": generation}
    content = rng.choice((json.dumps(text), "[" * 50_000, json.dumps([text]), "{}", '{"a":' * 9000))
    (path / "gallery.json").write_text(content)


class _Evil:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch '{self.made}'",)


def _pickle(rng: random.Random, path: Path, victim: Path, canary: Path) -> None:
    made = canary.with_name("made")
    if (path / "id_map.yaml").exists():
        evil = f"!!python/object/apply:os.system ['touch {made}']"
        text = rng.choice((f"id_map: {evil}", f"id_map: {{0: {evil}}}", "a: &a [*a]", "[" * 5000, "id_map: {1.5: x}"))
        (path / "id_map.yaml").write_text(text)
        return
    if not (path / "id_map.pkl").exists():
        return _bytes(rng, path, victim, canary)
    nested = b"\x80\x02}(K\x01" + b"2\x86" * rng.randrange(70) + b"X\x01\x00\x00\x00au."
    ids = {rng.choice((0, -1, 2**70, "x", 1.5, None)): "a\tb"}
    contents = (pickle.dumps(_Evil(made)), pickle.dumps({0: _Evil(made)}), nested, pickle.dumps(ids), rng.randbytes(99))
    (path / "id_map.pkl").write_bytes(rng.choice(contents))
    return None


def trial(seed: int, folder: Path) -> str:
    rng = random.Random(seed)
    number = rng.randrange(len(KINDS) + len(FOREIGN))
    source, vectors, wanted = sound(number, folder / "sound")
    path, canary = folder / "gallery", folder / "canary"
    for place in (path, folder / "made"):
        shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, path, symlinks=True)
    canary.write_bytes(b"precious" * 4000)
    how = damage(rng, path, canary)
    try:
        gallery = Gallery.open(path)
        problems = gallery.verify()
        if gallery.facts.dimension != vectors.shape[1] * (8 if gallery.facts.measure.packed else 1):
            return "of another dimension"
        seen = answers(gallery, vectors)
        vouched = not problems and not gallery.unchecked() and number < len(KINDS)
        told = how in ("bytes", "cut") and vouched
        assert not told or seen == wanted, "verify vouches for another answer"
        gallery.append(vectors[:2], [Item("new", "new.jpg"), *items_for(1)])
        gallery.remove([1])
        gallery.compact()
        outcome = "found by verify" if problems else "as before" if seen == wanted else "another gallery"
    except ShituError:
        outcome = "refused"
    assert canary.read_bytes() == b"precious" * 4000, "a file outside was changed"
    assert not (folder / "made").exists(), "a file outside was made, or code was run"
    return outcome
