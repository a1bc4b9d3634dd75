"""download against real servers on loopback, each failing in its own way, and against a process killed midway."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shitu.errors import DownloadError
from shitu.models import download as module
from shitu.models.download import download

CONTENT = hashlib.shake_256(b"a model").digest(300_000)


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; `server.act(handler)` may answer first, by returning True."""

    server: Any

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        with contextlib.suppress(ConnectionError):  # a client that was killed
            if not self.server.act(self):
                self.answer()

    def answer(self, *, content: bytes = CONTENT, cut: int | None = None, pause: float = 0) -> bool:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        end = len(content) if cut is None else min(cut, len(content))
        for at in range(0, end, 20_000):
            self.wfile.write(content[at : min(at + 20_000, end)])
            if pause:
                time.sleep(pause)
        return True

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(act: Callable[[Handler], bool] = lambda handler: False) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.act, server.paths = act, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_and_nothing_left_beside_it(tmp_path: Path) -> None:
    with serving() as server:
        path = download(f"{server.url}/m.tar", tmp_path / "m.tar", expected_size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["m.tar"]


def test_empty_file(tmp_path: Path) -> None:
    with serving(status(200)) as server:
        assert download(f"{server.url}/m.tar", tmp_path / "m.tar").read_bytes() == b""


def cut_first(times: int, at: int = 100_000) -> Callable[[Handler], bool]:
    """Cut the connection at byte `at * n` of the n-th answer, `times` times."""
    count = iter(range(1, times + 1))

    def act(handler: Handler) -> bool:
        number = next(count, None)
        return number is not None and handler.answer(cut=at * number)

    return act


def test_cut_connections_are_tried_again(tmp_path: Path) -> None:
    with serving(cut_first(2)) as server:
        path = download(f"{server.url}/m.tar", tmp_path / "m.tar")
    assert path.read_bytes() == CONTENT
    assert len(server.paths) == 3
    assert left(tmp_path) == ["m.tar"]


def test_gives_up_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(lambda handler: handler.answer(cut=100_000)) as server:
        with pytest.raises(DownloadError, match=r"after 100000 of 300000 bytes; run the command again"):
            download(f"{server.url}/m.tar", tmp_path / "m.tar")
        assert len(server.paths) == 4
    assert left(tmp_path) == []


def test_wrong_size_and_wrong_sum_leave_nothing(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(DownloadError, match="300000 bytes, wanted 299999"):
            download(f"{server.url}/m.tar", tmp_path / "m.tar", expected_size=299_999)
        with pytest.raises(DownloadError, match="not the file it should be"):
            download(f"{server.url}/m.tar", tmp_path / "m.tar", sha256="0" * 64)
        assert left(tmp_path) == []
        download(f"{server.url}/m.tar", tmp_path / "m.tar", sha256=hashlib.sha256(CONTENT).hexdigest().upper())


def status(code: int, **headers: str) -> Callable[[Handler], bool]:
    def act(handler: Handler) -> bool:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        return True

    return act


def test_status_404_is_not_tried_again(tmp_path: Path) -> None:
    with serving(status(404)) as server, pytest.raises(DownloadError, match="the server answers 404 Not Found"):
        download(f"{server.url}/m.tar", tmp_path / "m.tar")
    assert len(server.paths) == 1


def test_status_503_is_tried_again(tmp_path: Path) -> None:
    busy = iter(range(2))
    with serving(lambda handler: next(busy, None) is not None and status(503)(handler)) as server:
        assert download(f"{server.url}/m.tar", tmp_path / "m.tar").read_bytes() == CONTENT
    assert len(server.paths) == 3


@pytest.mark.parametrize("where", ["file:///etc/hostname", "ftp://127.0.0.1/m.tar", "data:,x"])
def test_redirects_lead_only_to_the_web(tmp_path: Path, where: str) -> None:
    with serving(status(302, Location=where)) as server, pytest.raises(DownloadError, match="302"):
        download(f"{server.url}/m.tar", tmp_path / "m.tar")
    assert left(tmp_path) == []


def test_redirect_on_the_web_is_followed(tmp_path: Path) -> None:
    with serving() as server, serving(status(302, Location=f"{server.url}/other")) as first:
        assert download(f"{first.url}/m.tar", tmp_path / "m.tar").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://host/x", "m.tar", "", "http://", "http://[", "http://a b/", "http://h:x/"]
)
def test_only_web_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match=r"wanted an address|not an address"):
        download(url, tmp_path / "m.tar")


def test_server_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.01,))
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    silent = threading.Event()

    def act(handler: Handler) -> bool:
        handler.answer(cut=100_000)
        return silent.wait(2)  # the connection stays open

    with serving(act) as server, pytest.raises(DownloadError, match=r"timed out.*run the command again"):
        download(f"{server.url}/m.tar", tmp_path / "m.tar")
    silent.set()


def test_nobody_listens(tmp_path: Path) -> None:
    with serving() as server:
        url = server.url
    with pytest.raises(DownloadError, match=r"no connection: .*refused"):
        download(f"{url}/m.tar", tmp_path / "m.tar")


def test_announced_less_than_sent(tmp_path: Path) -> None:
    """http.client stops at the announced length, so a lie shows in the sum or the size."""
    with serving(status(200)) as server, pytest.raises(DownloadError, match="0 bytes, wanted 5"):
        download(f"{server.url}/m.tar", tmp_path / "m.tar", expected_size=5)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving() as server, pytest.raises(DownloadError, match="cannot write"):
        download(f"{server.url}/m.tar", tmp_path / "file" / "m.tar")


def test_a_killed_process_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    target = tmp_path / "m.tar"
    with serving(lambda handler: handler.answer(pause=0.1)) as server:
        code = "import sys, pathlib, shitu.models.download as d; d.download(sys.argv[1], pathlib.Path(sys.argv[2]))"
        command = [sys.executable, "-c", code, f"{server.url}/m.tar", str(target)]
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        )
        part = tmp_path / "m.tar.part"
        deadline = time.monotonic() + 4
        while not (part.exists() and part.stat().st_size >= 40_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < part.stat().st_size < len(CONTENT)
        assert not target.exists()
        server.act = lambda handler: False
        assert download(f"{server.url}/m.tar", target).read_bytes() == CONTENT
    assert left(tmp_path) == ["m.tar"]


@pytest.mark.parametrize("what", ["headers", "body"])
def test_a_server_that_drips_is_given_up(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte a second is no timeout, and 30 MB of them are a year."""
    monkeypatch.setattr(module, "PACE_S", 0.4)

    def drip(handler: Handler) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if what == "headers" else b"Content-Length: 300000\r\n\r\n"))
        for _ in range(40):
            handler.wfile.write(b"x")
            time.sleep(0.05)
        return True

    words = "no answer in 0 s" if what == "headers" else "the server sent only"
    with serving(drip) as server, pytest.raises(DownloadError, match=words):
        download(f"{server.url}/m.tar", tmp_path / "m.tar")
    assert left(tmp_path) == []
