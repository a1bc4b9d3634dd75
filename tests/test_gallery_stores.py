"""Galleries in databases where things go wrong: killed writers, lost connections, wrong passwords, other versions."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import GalleryBusyError, GalleryError, GalleryServerError
from shitu.gallery import Item, open_reader, open_writer
from shitu.gallery.stores.state import FOREVER, State
from shitu.gallery.stores.url import shown, split_url
from tests.databases import PASSWORD, Server, free_port, needs
from tests.gallery_places import STORES, Place, build, change, place_of, things, unit_vectors

VECTORS, ITEMS = unit_vectors(40), things(40)


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to this user and machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_of(kind, request, tmp_path, monkeypatch)


def plain(url: str) -> set[Item]:
    return {dataclasses.replace(item, id=-1) for item in open_reader(url).items()}


# --- killed in the middle ----------------------------------------------------------------------------------------

# What a writer does, and the call at which it is killed, before or after that has been done.
KILLED = """
import os, signal, sys
from shitu.gallery.open import open_reader, open_writer
from shitu.gallery.stores.kinds import _store
from shitu.gallery.stores import writer
from tests.gallery_places import build, change, things, unit_vectors
url, what, call, when = sys.argv[1:]
build(url, unit_vectors(40), things(40))
kind = type(_store(url))
writer.BLOCK_BYTES = 32 * 4 * 3
real, calls = getattr(kind, call), []
def dying(self, *arguments, **more):
    calls.append(call)
    last = len(calls) == (2 if call == "insert" else 1)
    if last and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, *arguments, **more)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
setattr(kind, call, dying)
if what == "change":
    gone = [item.id for item in open_reader(url).items()][:8]
    change(url, unit_vectors(9, seed=5), things(9, 100), remove=gone)
elif what == "build":
    build(url, unit_vectors(9, seed=5), things(9, 100))
"""
MOMENTS = [("change", "insert", "after"), ("change", "publish", "before"), ("build", "publish", "before")]


@pytest.mark.parametrize("moment", MOMENTS, ids="-".join)
def test_a_writer_that_is_killed_before_its_commit_leaves_all_as_it_was(
    place: Place, kind: str, tmp_path: Path, moment: tuple[str, str, str]
) -> None:
    url = killed(place, kind, tmp_path, *moment)
    reader = open_reader(url)
    assert (plain(url), len(reader), reader.verify()) == (set(ITEMS), 40, [])
    change(url, VECTORS[:2], things(2, 200))
    reader = open_reader(url)
    assert (plain(url), reader.verify()) == ({*ITEMS, *things(2, 200)}, [])
    assert len(reader.search(VECTORS[:1], 99)[0]) == 42
    with open_writer(url) as writer:
        writer.undo()
    assert plain(url) == set(ITEMS)
    build(url, VECTORS[:3], things(3))
    assert (plain(url), open_reader(url).verify()) == (set(things(3)), [])


@pytest.mark.parametrize("what", ["change", "build"])
def test_a_writer_that_is_killed_after_its_commit_has_changed_all(
    place: Place, kind: str, tmp_path: Path, what: str
) -> None:
    url = killed(place, kind, tmp_path, what, "purge", "before")
    reader = open_reader(url)
    assert (len(reader), reader.verify()) == (41 if what == "change" else 9, [])
    assert plain(url) >= set(things(9, 100))
    with open_writer(url) as writer:
        writer.undo()
    assert plain(url) == set(ITEMS)


def killed(place: Place, kind: str, tmp_path: Path, *moment: str) -> str:
    """The URL where a process built a gallery and was killed while it changed it."""
    # milvus-lite belongs to one process: a file of its own, that only later is opened here
    url = f"milvus://{tmp_path}/killed.db/one" if kind == "milvus" else place()
    if kind == "milvus":
        place()
    dead = subprocess.run([sys.executable, "-c", KILLED, url, *moment], check=False, timeout=120, capture_output=True)
    assert dead.returncode == -9, dead.stderr.decode()
    return url


# --- the connection ----------------------------------------------------------------------------------------------


def test_a_connection_that_is_lost_in_the_middle(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    from shitu.gallery.stores.postgres import Postgres

    url = postgres.url("lost")
    build(url, VECTORS, ITEMS)
    reader = open_reader(url)
    reader.search(VECTORS[:1], 1)
    insert = Postgres.insert

    def lose() -> None:
        with psycopg.connect(postgres.url("x").replace("&gallery=x", ""), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shitu'")

    def losing(self: Postgres, *arguments: Any) -> None:
        insert(self, *arguments)
        lose()

    monkeypatch.setattr(Postgres, "insert", losing)
    with pytest.raises(GalleryServerError, match="lost in the middle") as caught:
        change(url, VECTORS[:3], things(3, 90), remove=[1, 2])
    assert caught.value.exit_status == 1
    monkeypatch.setattr(Postgres, "insert", insert)
    assert reader.search(VECTORS[:1], 1)[0][0].image == ITEMS[0].image, "a reader takes another connection"
    assert (plain(url), reader.verify()) == (set(ITEMS), [])
    change(url, VECTORS[:3], things(3, 90))
    assert len(open_reader(url)) == 43


@contextmanager
def milvus_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """milvus-lite as a server of its own: the same protocol as a real one's, over TCP."""
    code = f"from milvus_lite.adapter.grpc.server import run_server; run_server({str(folder)!r}, '127.0.0.1', {port})"
    server = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        assert b"listening" in server.stdout.readline()
        yield server
    finally:
        server.kill()
        server.wait(60)
        if server.stdout:
            server.stdout.close()


def test_a_milvus_server_that_dies_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("pymilvus", "milvus_lite", extra="milvus,dev")
    from shitu.gallery.stores import milvus_connection
    from shitu.gallery.stores.milvus import Milvus

    monkeypatch.setattr(milvus_connection, "CALL_SECONDS", 2)
    port = free_port()
    url = f"milvus://127.0.0.1:{port}/tea"
    with milvus_server(tmp_path / "data", port) as server:
        build(url, VECTORS, ITEMS)
        upsert = Milvus.insert

        def dying(self: Milvus, *arguments: Any) -> None:
            upsert(self, *arguments)
            server.kill()

        monkeypatch.setattr(Milvus, "insert", dying)
        with pytest.raises(GalleryServerError, match="lost in the middle"):
            change(url, VECTORS[:3], things(3, 90), remove=[item.id for item in open_reader(url).items()][:4])
    monkeypatch.setattr(Milvus, "insert", upsert)
    monkeypatch.setattr(milvus_connection, "CALL_SECONDS", 60)
    port = free_port()  # gRPC waits before it tries one again that has failed
    url = f"milvus://127.0.0.1:{port}/tea"
    with milvus_server(tmp_path / "data", port):
        assert (plain(url), len(open_reader(url)), open_reader(url).verify()) == (set(ITEMS), 40, [])
        change(url, VECTORS[:3], things(3, 90))
        assert (plain(url), open_reader(url).verify()) == ({*ITEMS, *things(3, 90)}, [])


@pytest.mark.parametrize("scheme", ["milvus", "postgresql"])
def test_no_server(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(*(("pymilvus",) if scheme == "milvus" else ("psycopg",)), extra="milvus,pgvector")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("SHITU_MILVUS_TOKEN", f"me:{PASSWORD}")
    url = f"{scheme}://127.0.0.1:{free_port()}/name"
    for command in ("info", "list", "compact"):
        done = CliRunner().invoke(main, ["gallery", command, url])
        assert done.exit_code == 1
        assert "cannot be reached" in done.stderr
        assert "is it running there?" in done.stderr
        assert PASSWORD not in done.output


def test_who_may_not_come_in(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    build(postgres.url("doors"), VECTORS, ITEMS)
    by_port = postgres.by_port("doors")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert len(open_reader(by_port)) == 40
    for password in ("wrong-5tea", ""):
        monkeypatch.setenv("PGPASSWORD", password)
        with pytest.raises(GalleryError, match=r"does not let us in: set \$PGPASSWORD") as caught:
            open_reader(by_port)
        assert "5tea" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(GalleryError, match='database "nowhere" does not exist'):
        open_reader(by_port.replace("/postgres?", "/nowhere?"))


def test_who_may_not_make_what_is_needed(postgres: Server) -> None:
    """A user of a database in which no superuser has said CREATE EXTENSION yet; afterwards, who only reads."""
    import psycopg

    admin = postgres.url("x").replace("&gallery=x", "")
    with psycopg.connect(admin, autocommit=True) as other:
        other.execute("CREATE ROLE shop LOGIN")
        other.execute("CREATE ROLE reader LOGIN")
        other.execute("CREATE DATABASE goods OWNER shop")
    url = postgres.url("tea").replace("postgres@/postgres", "shop@/goods")
    with pytest.raises(GalleryError, match="let one who may say CREATE EXTENSION vector"):
        build(url, VECTORS, ITEMS)
    with psycopg.connect(admin.replace("/postgres?", "/goods?"), autocommit=True) as other:
        other.execute("CREATE EXTENSION vector")
        other.execute("ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT SELECT ON TABLES TO reader")
    build(url, VECTORS, ITEMS)
    reading = url.replace("shop@", "reader@")
    assert open_reader(reading).search(VECTORS[3:4], 1)[0][0].image == ITEMS[3].image
    with pytest.raises(GalleryError, match="permission denied"):
        change(reading, remove=[1])
    assert len(open_reader(url)) == 40


def test_a_milvus_that_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server does it: every call ends with UNAUTHENTICATED. milvus-lite itself asks for nothing."""
    needs("pymilvus", extra="milvus")
    import grpc

    class Closed(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: object) -> object:
            def refuse(request: bytes, context: Any) -> bytes:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check api key is correct")
                return b""

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Closed(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        monkeypatch.setenv("SHITU_MILVUS_TOKEN", f"me:{PASSWORD}")
        with pytest.raises(GalleryError, match=r"does not let us in .*set \$SHITU_MILVUS_TOKEN") as caught:
            open_reader(f"milvus://127.0.0.1:{port}/tea")
        assert PASSWORD not in str(caught.value)
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{PASSWORD}@host/db?gallery=tea",
        f"postgresql://host/db?gallery=tea&password={PASSWORD}",
        f"postgresql://me:{PASSWORD}@host:notaport/db",
        f"milvus://me:{PASSWORD}@host/tea",
        f"milvus://host/tea?token={PASSWORD}",
        f"qdrant://me:{PASSWORD}@host/tea",
    ],
)
def test_no_password_is_ever_printed(url: str) -> None:
    for command in (["gallery", "info", url], ["gallery", "copy", url, url], ["predict", "-g", url, "x.jpg"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 2
        assert PASSWORD not in done.output
        assert PASSWORD not in done.stderr
    with pytest.raises(GalleryError) as caught:
        open_writer(url)
    assert PASSWORD not in str(caught.value)


def test_urls() -> None:
    assert shown("postgresql://me:pw@h/db?a=1&password=x&b=2") == "postgresql://me@h/db?a=1&password=...&b=2"
    assert split_url("milvus://h:1/n?a=b", "")[1] == {"a": "b"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("milvus://host/a__b", "no name for a gallery"),
        ("milvus://host/", "no name for a gallery"),
        ("milvus://host/tea?consistency=Loose", "wanted milvus://HOST:PORT/NAME"),
        ("milvus:///tmp/file.txt", "wanted milvus://HOST:PORT/NAME"),
        ("postgresql://host/db?gallery=x;drop", "no name for a gallery"),
        ("postgresql://host/db?gallery=../x", "no name for a gallery"),
    ],
)
def test_urls_that_name_no_gallery(url: str, said: str) -> None:
    needs("pymilvus", "psycopg", extra="milvus,pgvector")
    with pytest.raises(GalleryError, match=said):
        open_reader(url)


def test_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, library, extra in (("milvus", "pymilvus", "milvus"), ("postgresql", "psycopg", "pgvector")):
        for name in [name for name in sys.modules if name.split(".")[0] == library or ".stores." in name]:
            if library in name or name.rsplit(".", 1)[1].startswith(scheme[:6]):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(GalleryError, match=rf"pip install 'shitu\[{extra}\]'"):
            open_reader(f"{scheme}://host/name")


# --- what is there is not what it should be ------------------------------------------------------------------------


def test_another_version_and_a_damaged_state(
    postgres: Server, milvus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shitu.gallery.stores import milvus
    from shitu.gallery.stores import postgres as ours

    for url, module in ((postgres.url("newer"), ours), (f"milvus://{milvus_file}/newer", milvus)):
        with monkeypatch.context() as patch:
            patch.setattr(module, "FORMAT", 2)
            build(url, VECTORS, ITEMS)
        with pytest.raises(GalleryError, match=r"has version 2, this shitu reads version 1: update shitu"):
            open_reader(url)
        with open_writer(url) as writer, pytest.raises(GalleryError, match="has version 2"):
            writer.begin()
        with monkeypatch.context() as patch:
            patch.setattr(module, "FORMAT", 2)
            assert len(open_reader(url)) == 40, "nothing was changed"


def test_a_damaged_state_is_told() -> None:
    facts = {"dimension": 32, "dist_type": "IP", "index_method": "Flat", "fingerprint": "", "model_name": ""}
    facts |= {"uid": "", "created": "", "settings": "", "memory_limit": 0}
    sound = {"table": "t", "facts": facts, "count": 1, "version": 1, "latest": 1, "next_id": 1, "previous": None}
    assert State.from_text(json.dumps(sound), "x", "t").count == 1
    assert State.from_text(State.from_text(json.dumps(sound), "x", "t").to_text(), "x", "t").table == "t"
    bad: list[Any] = [
        *(sound | {key: value} for key in ("count", "version") for value in (-1, True, "1", 1.0, FOREVER, None)),
        *(
            sound | {"facts": facts | change_}
            for change_ in ({"dist_type": "cosine"}, {"dimension": 0}, {"uid": 3}, {"memory_limit": -1})
        ),
        *(
            sound | {"table": 3},
            sound | {"table": "users"},
            sound | {"previous": sound | {"table": "users"}},
            sound | {"previous": sound | {"previous": sound}},
            sound | {"previous": {}},
            [],
            3,
            {},
            {"facts": None},
        ),
    ]
    for told in bad:
        with pytest.raises(GalleryError, match="x: what it says of itself is damaged"):
            State.from_text(json.dumps(told), "x", "t")
    for text in ("", "{", "[" * 100_000, "1" * 2_000_000):
        with pytest.raises(GalleryError, match="x: what it says of itself is damaged"):
            State.from_text(text, "x", "t")


def test_verify_finds_what_was_changed_behind_our_back(postgres: Server) -> None:
    import psycopg

    url = postgres.url("changed")
    damages: list[Callable[[str], str]] = [
        lambda table: f"UPDATE {table} SET label = 'x' WHERE id = 3",
        lambda table: f"UPDATE {table} SET vector = (SELECT vector FROM {table} WHERE id = 5) WHERE id = 3",
        lambda table: f"DELETE FROM {table} WHERE id = 3",
    ]
    for damage in damages:
        build(url, VECTORS, ITEMS)
        table = open_reader(url).info()["table"]
        with psycopg.connect(postgres.url("x").replace("&gallery=x", ""), autocommit=True) as other:
            other.execute(damage(table))  # type: ignore[arg-type]
        problems = open_reader(url).verify()
        assert len(problems) == 1
        assert (
            "39 entries, 40 were written" if "DELETE" in damage("") else "Entry 3 is not what was written"
        ) in problems[0]
        if "UPDATE" in damage(""):
            with pytest.raises(GalleryError, match="entry 3 changed since it was written"):
                list(open_reader(url).blocks())
            with pytest.raises(GalleryError, match="entry 3 changed since it was written"):
                open_reader(url).vectors_of([3])
            with pytest.raises(GalleryError, match="entry 3 changed since it was written"):
                open_reader(url).search(VECTORS[:1], 40)


def test_a_collection_of_somebody_else_is_left_alone(milvus_file: Path) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(str(milvus_file))
    client.create_collection("theirs", dimension=8)
    for what in (open_reader, lambda url: build(url, VECTORS, ITEMS)):
        with pytest.raises(GalleryError, match="no gallery of shitu"):
            what(f"milvus://{milvus_file}/theirs")
    assert "theirs" in client.list_collections()


def test_a_second_process_on_milvus_lite(milvus_file: Path) -> None:
    url = f"milvus://{milvus_file}/lite"
    build(url, VECTORS, ITEMS)
    done = subprocess.run(
        [sys.executable, "-m", "shitu", "gallery", "info", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "of which milvus-lite allows one" in done.stderr
    assert "Traceback" not in done.stderr


def test_writers_of_two_machines(milvus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection is the lock; who loses it all the same, since somebody dropped it, changes nothing."""
    from pymilvus import MilvusClient

    url = f"milvus://{milvus_file}/mixed"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    build(url, VECTORS, ITEMS)
    with open_writer(url) as here:
        mine = here.begin()
        mine.add(VECTORS[:3], things(3, 100))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        with pytest.raises(GalleryBusyError, match=r"by another machine .*drop the collection mixed__lock"):
            change(url, VECTORS[:2], things(2, 200))
        MilvusClient(str(milvus_file)).drop_collection("mixed__lock")
        change(url, VECTORS[:2], things(2, 200))
        with pytest.raises(GalleryBusyError, match="changed by another writer meanwhile"):
            mine.commit()
    assert plain(url) == {*ITEMS, *things(2, 200)}


def test_who_may_only_read_in_milvus(milvus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """milvus-lite knows no rights: what a server says is said for it."""
    from pymilvus import MilvusClient, MilvusException

    url = f"milvus://{milvus_file}/read"
    build(url, VECTORS, ITEMS)

    def refuse(*arguments: object, **more: object) -> None:
        raise MilvusException(code=65535, message="PrivilegeCreateCollection: permission deny to reader")

    monkeypatch.setattr(MilvusClient, "create_collection", refuse)
    with pytest.raises(GalleryError, match=r"does not let us in \(PrivilegeCreateCollection"):
        change(url, remove=[1])
    assert len(open_reader(url)) == 40


def test_an_append_that_is_sent_again_adds_once(milvus_file: Path) -> None:
    url = f"milvus://{milvus_file}/again"
    build(url, VECTORS, ITEMS)
    first = change(url, VECTORS[:3], things(3, 100))
    second = change(url, VECTORS[:3], things(3, 100))
    assert list(first.ids) == list(second.ids)
    assert (len(open_reader(url)), open_reader(url).verify()) == (43, [])


def test_a_reader_whose_gallery_was_built_anew_twice(place: Place) -> None:
    url = place()
    build(url, VECTORS, ITEMS)
    old = open_reader(url)
    build(url, VECTORS[:5], things(5, 100))
    assert old.search(VECTORS[7:8], 1)[0][0].image == ITEMS[7].image
    build(url, VECTORS[:3], things(3, 200))
    for ask in (
        lambda: old.search(VECTORS[:1], 1),
        lambda: list(old.items()),
        lambda: old.find(labels=["x"]),
        old.labels,
    ):
        with pytest.raises(GalleryError, match="built anew since; open it again"):
            ask()
    assert len(old.refreshed()) == 3


# --- search through an index ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dist_type", "dimension"), [("IP", 64), ("L2", 2100), ("hamming", 256)])
def test_an_index_of_pgvector_finds_the_nearest(postgres: Server, dist_type: str, dimension: int) -> None:
    """By float32, half precision (above 2,000 dimensions) and bits; also what the index alone would not find."""
    from shitu.gallery.change import new_facts
    from shitu.gallery.stores.postgres import SQL, Postgres

    centres = np.repeat(unit_vectors(20, dimension), 20, axis=0)
    vectors = np.asarray(centres + 0.3 * unit_vectors(400, dimension, seed=2), np.float32)
    queries = vectors[::40] + np.float32(0.01)
    if dist_type == "hamming":
        vectors, queries = (np.packbits(each > 0, axis=1) for each in (vectors, queries))
    url = postgres.url(f"hnsw{dimension}")
    with open_writer(url) as writer:
        made = writer.begin(new_facts(dimension, dist_type, "HNSW16", ""))
        made.add(vectors, things(400))
        made.commit()
    with open_writer(url) as writer:
        made = writer.begin()
        made.remove(range(0, 400, 2))
        made.commit()
    reader, kept = open_reader(url), np.arange(1, 400, 2)
    for k in (1, 10, 300):
        for query, matches in zip(queries, reader.search(queries, k), strict=True):
            scores = reader.facts.measure.score(query, vectors[kept])
            best = kept[np.lexsort((kept, -reader.facts.measure.sign * scores))][:k]
            assert len(matches) == min(k, 200)
            assert len({match.id for match in matches} & set(best.tolist())) >= 0.9 * len(best)
    told = Postgres(url)._ask(SQL("SELECT reltuples FROM pg_class WHERE relname = %(t)s"), t=reader.info()["table"])
    assert told == [(400,)], "the planner knows how many rows there are"
    plan = _plan(url, queries[0])
    assert "Index Scan" in plan
    assert "vector_idx" in plan or "expr_idx" in plan or "halfvec_idx" in plan


def _plan(url: str, query: Any) -> str:
    """What Postgres does for a search of ours when it may not scan the table."""
    from shitu.gallery.stores.postgres import Postgres, _wrapper
    from shitu.gallery.stores.postgres_sql import SQL, nearest

    store = Postgres(url)
    state = store.head()
    assert state is not None
    wrapped = _wrapper(state.facts)(query)

    def explain(connection: Any) -> str:
        with connection.transaction():
            connection.execute("SET LOCAL enable_sort = off")
            values = {"query": wrapped, "version": state.version}
            rows = connection.execute(SQL("EXPLAIN {}").format(nearest(state, 5)), values).fetchall()
        return "\n".join(row[0] for row in rows)

    return store._database.run(explain)


def test_more_neighbours_than_milvus_tells(milvus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shitu.gallery.stores.milvus import Milvus

    url = f"milvus://{milvus_file}/many"
    build(url, VECTORS, ITEMS)
    expected = open_reader(url).search(VECTORS[:3], 30)
    monkeypatch.setattr(Milvus, "most", 10)
    assert open_reader(url).search(VECTORS[:3], 30) == expected


# --- the commands --------------------------------------------------------------------------------------------------


def test_the_commands_take_its_url(place: Place, tmp_path: Path) -> None:
    url = place()
    build(url, VECTORS, [*ITEMS[:39], dataclasses.replace(ITEMS[39], label=ITEMS[0].label)])
    change(url, VECTORS[:1], [dataclasses.replace(ITEMS[0], image="other.jpg")])

    def run(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, ["gallery", *arguments], catch_exceptions=False)
        assert done.exit_code == status, done.output
        return done.stdout

    assert json.loads(run("info", url))["entries"] == 41
    listed = [json.loads(line) for line in run("list", url).splitlines()]
    assert {line["label"] for line in listed} == {f"绿茶 {n}" for n in range(5)}
    assert "绿茶 2" in run("list", url, "--format", "table")
    run("verify", url)
    removed = json.loads(run("remove", url, "--image", "照片/7.jpg", "--image", "nowhere.jpg"))
    assert (removed["removed"], removed["entries"], removed["unmatched"]) == (1, 40, ["--image nowhere.jpg"])
    assert json.loads(run("undo", url)) == {"entries_before": 40, "entries": 41}
    told = json.loads(run("dedup", url, "--remove").splitlines()[-1])
    assert (told["removed"], told["entries"]) == (1, 40)
    assert json.loads(run("compact", url))["entries"] == 40
    assert json.loads(run("export", url, "--to", str(tmp_path / "out")))["entries"] == 40
    assert (tmp_path / "out" / "vector.index").exists()
    assert json.loads(run("copy", url, str(tmp_path / "folder")))["entries"] == 40
