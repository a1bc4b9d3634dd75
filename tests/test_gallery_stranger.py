"""Galleries from somewhere else, made to do harm: they write nothing outside, hang nothing, end no process."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.files import PARTS
from shitu.gallery import open_writer
from shitu.gallery.export import export_gallery
from shitu.gallery.foreign import read_pickle
from shitu.gallery.gallery import Gallery
from tests.gallery_twin import items_for, make, new, one_thread, use_the_index

__all__ = ["one_thread", "use_the_index"]
ROOT = Path(__file__).parent.parent


def generation(path: Path) -> Path:
    (folder,) = path.glob("gen-*")
    return folder


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    path = tmp_path / "gallery"
    new(path, make(np.random.default_rng(9), 20, "IP", 0), "HNSW32")
    return path


def change(path: Path) -> None:
    vectors = make(np.random.default_rng(8), 3, "IP", 0)
    with open_writer(str(path)) as writer:
        made = writer.begin()
        made.add(vectors, items_for(3))
        made.remove([1])
        made.commit()
    Gallery.open(path).compact()


@pytest.mark.parametrize(
    "name", ["vectors.bin", "items.db", "items.db-journal", "index-000002.faiss", ".lock", ".lock-owner", "building"]
)
@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_written_through_a_link(name: str, dangling: bool, gallery: Path, tmp_path: Path) -> None:
    """`vectors.bin` as a link: the file that it pointed to was cut off; `.lock` and `.lock-owner` emptied theirs."""
    victim = tmp_path / "victim"
    inside = name[0] != "." and name != "building"
    place = (generation(gallery) if inside else gallery) / name
    if not dangling:
        content = place.read_bytes() if place.is_file() else b"precious" * 1000
        victim.write_bytes(content + b"more")
    place.unlink(missing_ok=True)
    place.symlink_to(victim)
    with pytest.raises(GalleryError, match=r"link|missing|journal"):
        change(gallery)
    assert victim.exists() != dangling
    if not dangling:
        assert victim.read_bytes() == content + b"more"


def test_a_link_in_the_place_of_a_temporary_file(gallery: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    assert PARTS == ".shitu-*.part"
    (gallery / ".shitu-1-1.part").symlink_to(victim)
    with pytest.raises(GalleryError, match="is a link"):
        change(gallery)
    assert victim.read_text() == "precious"


def test_a_folder_that_is_itself_a_link_can_be_written(gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(gallery)
    change(tmp_path / "link")
    assert len(Gallery.open(gallery)) == 22


TRIGGER = "CREATE TRIGGER t AFTER INSERT ON item BEGIN UPDATE item SET label = 'owned'; END"


@pytest.mark.parametrize(
    "sql",
    [
        TRIGGER,
        f"{TRIGGER}; PRAGMA writable_schema = ON; "
        "UPDATE sqlite_master SET name = 'sqlite_autoindex_t', sql = replace(sql, 'TRIGGER t', "
        "'TRIGGER sqlite_autoindex_t') WHERE name = 't'",
        f"DROP INDEX item_label; {TRIGGER.replace('TRIGGER t', 'TRIGGER item_label')}",
        "DROP INDEX item_label; CREATE INDEX item_label ON item (label) WHERE label <> 'x'",
        "DROP INDEX item_label; CREATE INDEX item_label ON item (abs(id))",
        "DROP INDEX item_label; CREATE VIEW item_label AS SELECT 1",
        "CREATE TABLE other (x)",
        "ALTER TABLE item ADD COLUMN more TEXT",
        "ALTER TABLE item RENAME COLUMN sum TO other",
    ],
)
def test_a_database_that_defines_anything_else_is_refused(sql: str, gallery: Path) -> None:
    """Names were compared, and names that begin with sqlite_autoindex_ not even that: such a trigger ran."""
    connection = sqlite3.connect(generation(gallery) / "items.db")
    connection.executescript(sql)
    connection.close()
    with pytest.raises(GalleryError, match="other tables or triggers"):
        Gallery.open(gallery)


def test_a_journal_that_names_another_file_does_not_delete_it(gallery: Path, tmp_path: Path) -> None:
    """SQLite deletes a super-journal that no journal needs any more, whatever file its name means."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    name = str(victim).encode()
    journal = bytes.fromhex("d9d505f920a163d7") + bytes(504)
    journal += (0x40000000 // 4096).to_bytes(4, "big") + name + len(name).to_bytes(4, "big")
    journal += sum(name).to_bytes(4, "big") + bytes.fromhex("d9d505f920a163d7")
    (generation(gallery) / "items.db-journal").write_bytes(journal)
    with pytest.raises(GalleryError, match="no journal of a gallery"):
        Gallery.open(gallery)
    assert victim.exists()


OPENS = """
import sys
from shitu.errors import GalleryError
from shitu.gallery.gallery import Gallery
try:
    Gallery.open(sys.argv[1])
except GalleryError as error:
    print(str(error)[:300])
"""


def opened(path: Path) -> str:
    """What opening says, in a process of its own that may take 30 s and 3 GB."""
    command = ["bash", "-c", 'ulimit -v 3000000; exec "$@"', "-", sys.executable, "-c", OPENS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", ["gallery.json", "items.db", "vectors.bin", "index-000001.faiss"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_pipes_and_endless_files(name: str, kind: str, gallery: Path) -> None:
    place = gallery / name if name == "gallery.json" else generation(gallery) / name
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    assert "pipe, a folder or a device" in opened(gallery)


@pytest.mark.parametrize("name", ["vector.index", "id_map.pkl", "id_map.yaml"])
def test_pipes_of_other_programs(name: str, tmp_path: Path) -> None:
    for each in ("vector.index", "id_map.yaml" if name == "id_map.yaml" else "id_map.pkl"):
        (tmp_path / each).write_bytes(pickle.dumps({}))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert "pipe, a folder or a device" in opened(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"x" * 100_000,
        json.dumps({"format": "shitu-gallery", "version": 10**400, "generation": "gen-000001"}).encode(),
        json.dumps({"format": "shitu-gallery", "version": 1, "generation": ["gen-000001"]}).encode(),
    ],
)
def test_a_pointer_of_any_kind(content: bytes, gallery: Path) -> None:
    (gallery / "gallery.json").write_bytes(content)
    with pytest.raises(GalleryError, match="shitu"):
        Gallery.open(gallery)


@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE meta SET value = '{10**30}' WHERE key = 'next_id'",
        f"UPDATE meta SET value = '{10**30}' WHERE key = 'rows'",
        f"UPDATE meta SET value = '{2**40}' WHERE key = 'dimension'",
        "UPDATE meta SET value = '0' WHERE key = 'dimension'",
        f"UPDATE meta SET value = '{'9' * 6000}' WHERE key = 'next_id'",
        f"UPDATE item SET id = {2**63 - 1} WHERE id = 19",
        "UPDATE item SET id = -4 WHERE id = 1",
        f"UPDATE item SET row = {2**62} WHERE id = 1",
        "UPDATE item SET row = 'x' WHERE id = 1",
        "UPDATE item SET crc = x'00ff' WHERE id = 1",
    ],
)
def test_numbers_beyond_reason(sql: str, gallery: Path) -> None:
    execute(gallery, sql, "DELETE FROM meta WHERE key = 'crc'")
    with pytest.raises(GalleryError, match="shitu"):
        Gallery.open(gallery)


@pytest.mark.parametrize("box", ["[" * 50_000, "[1e400, 1, 2, 3]", f"[{10**30}, 1, 2, 3]", "[1, 2]", '{"a": 1}', "NaN"])
def test_boxes_of_any_kind(box: str, gallery: Path) -> None:
    execute(gallery, f"UPDATE item SET box = '{box}' WHERE id = 3", "ALTER TABLE item DROP COLUMN sum", *OLD)
    opened = Gallery.open(gallery)
    with pytest.raises(GalleryError, match="damaged box"):
        list(opened.items())
    assert "id 3" in "".join(opened.verify())


OLD = ("PRAGMA user_version = 1", "DELETE FROM meta WHERE key = 'crc'")


def execute(path: Path, *sqls: str) -> None:
    connection = sqlite3.connect(generation(path) / "items.db", isolation_level=None)
    for sql in sqls:
        connection.execute(sql)
    connection.close()


def nested(depth: int) -> bytes:
    """{t: "a"} where t is (t', t'), and t' is such a pair again: to hash it takes 2**depth steps."""
    body = b"}(K\x01" + b"".join(b"2\x86" for _ in range(depth)) + b"X\x01\x00\x00\x00au."
    return b"\x80\x02" + body


@pytest.mark.parametrize(
    "content",
    [
        nested(60),
        b"\x80\x04}(K\x01" + b"2\x86" * 60 + b"X\x01\x00\x00\x00as.",
        b"\x80\x04(K\x01" + b"2\x86" * 60 + b"\x91.",  # a frozenset of it
        b"\x80\x02" + b"K\x01\x85" * 100_000 + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of 16 GB
        b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f" + b"x.",
        b"L" + b"9" * 100_000 + b"L\n.",
    ],
)
def test_pickles_that_hang_or_swell(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "id_map.pkl").write_bytes(content)
    (tmp_path / "vector.index").write_bytes(b"")
    assert "id_map.pkl" in opened(tmp_path)


def test_what_honest_pickles_hold_is_read(tmp_path: Path) -> None:
    path = tmp_path / "id_map.pkl"
    for protocol in range(6):
        for whole in (int, np.int64, np.int32):
            path.write_bytes(pickle.dumps({whole(n): f"图/{n}.jpg\t茶 {n}" for n in range(300)}, protocol=protocol))
            assert read_pickle(path) == {n: f"图/{n}.jpg\t茶 {n}" for n in range(300)}


@pytest.mark.parametrize(
    "method",
    [
        "HNSW0",
        "HNSW1",
        "hnsw1",
        "HNSW0,Flat",
        "IVF4_HNSW1,Flat",
        "IVF4(HNSW0),Flat",
        "PQ8x4,Refine(HNSW0)",
        "OPQ0",
        "OPQ0,PQ8",
        "OPQ8_0,PQ8",
        "PQ8x0",
        "RR0,Flat",
        "RQ0x8",
        "RQ4x0",
        "NSG0",
        "NSG1",
        "HNSW99999999",
        "IVF99999999",
        "PCA0,Flat",
        "HNSW999999999999999999999999",
    ],
)
@pytest.mark.parametrize("dist_type", ["IP", "hamming"])
def test_methods_that_end_faiss_are_refused_before_anything_is_embedded(
    method: str, dist_type: str, tmp_path: Path
) -> None:
    """SIGABRT, SIGSEGV, SIGFPE, or no end at all, after everything was embedded."""
    facts = {"index_method": method, "dist_type": dist_type, "fingerprint": ""}
    vectors = make(np.random.default_rng(9), 20, dist_type, 0)
    with pytest.raises(GalleryError, match="index_method"):
        Gallery.create(tmp_path, vectors, items_for(20), **facts)


@pytest.mark.parametrize("method", ["HNSW0", "HNSW1", "OPQ0", "RQ0x8"])
def test_a_stranger_s_method_does_not_end_the_process(
    method: str, gallery: Path, caplog: pytest.LogCaptureFixture
) -> None:
    execute(gallery, f"UPDATE meta SET value = '{method}' WHERE key = 'index_method'", *OLD[1:])
    Gallery.open(gallery).compact()
    assert "searched without an index" in caplog.text
    assert len(Gallery.open(gallery).search(make(np.random.default_rng(8), 3, "IP", 0), 5)[0]) == 5


def test_the_usual_methods_are_still_made(tmp_path: Path) -> None:
    vectors = make(np.random.default_rng(9), 400, "IP", 0)
    for number, method in enumerate(
        ["HNSW2", "HNSW512", "IVF4_HNSW8,Flat", "PQ8x4", "SQ8", "IVF8,PQ8x4fs", "PCA16,Flat"]
    ):
        gallery = new(tmp_path / str(number), vectors, method)
        assert gallery.search(vectors[:1], 1)[0][0].id == 0


def test_a_gallery_of_a_stranger_that_is_sound_stays_usable(gallery: Path, tmp_path: Path) -> None:
    shutil.copytree(gallery, tmp_path / "copy", symlinks=True)
    change(tmp_path / "copy")
    assert Gallery.open(tmp_path / "copy").verify() == []


def test_a_journal_that_never_ends(gallery: Path) -> None:
    """Found by the campaign: its last bytes were asked for, and all of /dev/zero was read."""
    (generation(gallery) / "items.db-journal").symlink_to("/dev/zero")
    assert "no journal of a gallery" in opened(gallery)


def test_an_index_of_another_program_with_a_vector_of_zeros(gallery: Path, tmp_path: Path) -> None:
    """Found by the campaign: a ValueError from within the first change."""
    export_gallery(Gallery.open(gallery), tmp_path / "theirs", "paddleclas")
    index = tmp_path / "theirs" / "vector.index"
    vector = Gallery.open(gallery)._now.store.stored_vectors()[7].tobytes()
    content = index.read_bytes()
    assert content.count(vector) == 1
    index.write_bytes(content.replace(vector, bytes(len(vector))))
    with pytest.raises(GalleryError, match="zero or not finite"):
        Gallery.open(tmp_path / "theirs").remove([1])


def test_a_schema_that_is_no_text(gallery: Path) -> None:
    """Found by the campaign: a UnicodeDecodeError."""
    database = generation(gallery) / "items.db"
    content = database.read_bytes()
    assert content.count(b"INDEX item_label") == 1
    database.write_bytes(content.replace(b"INDEX item_label", b"INDEX item_lab\x94l"))
    with pytest.raises(GalleryError, match="shitu"):
        Gallery.open(gallery)
