"""What the client makes of a service that is full, elsewhere, silent, or something else."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import shitu
from tests.conftest import DEMO, Run

PHOTO = DEMO / "photos" / "desk.jpg"
FOUND = {"answers": [{"image": "picture", "width": 2, "height": 1, "regions": [], "unnamed": []}]}


class Script:
    """A server that answers (status, headers, body) one after the other, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append((self.command, self.path, dict(self.headers), body))
                status, headers, text = script.answers.pop(0)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(text))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def say(self, status: int, body: Any = None, **headers: str) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, text))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("SHITU_TOKEN", raising=False)
    script = Script()
    with script.server as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield script
        server.shutdown()


def refusal(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def test_a_full_service_is_asked_again(script: Script) -> None:
    script.say(429, refusal("busy"), Retry_After="0")
    script.say(503, refusal("busy"), Retry_After="0")
    script.say(200, FOUND)
    (answer,) = shitu.Client(script.url, "货架").predict(PHOTO)
    assert (answer.image, answer.error, answer.found.width) == (str(PHOTO), None, 2)
    assert len(script.asked) == 3
    method, path, headers, body = script.asked[2]
    assert (method, path) == ("POST", "/v1/galleries/%E8%B4%A7%E6%9E%B6/recognise")
    assert "Authorization" not in headers
    assert PHOTO.read_bytes() in body, "the file as it is"
    assert b"desk" not in body.replace(PHOTO.read_bytes(), b""), "not what it is called here"


def test_a_service_that_stays_full_is_given_up(script: Script) -> None:
    script.say(429, refusal("busy", "12 requests wait"), Retry_After="30")
    with pytest.raises(shitu.ServiceError, match="12 requests wait") as caught:
        shitu.Client(script.url, "g", timeout=10).predict(PHOTO)
    assert (caught.value.status, caught.value.code, caught.value.exit_status) == (429, "busy", 1)


def test_the_token_is_sent_and_follows_no_redirect(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_TOKEN", "of the environment")
    script.say(200, {"entries": 3})
    script.say(307, Location=f"{script.url}/elsewhere")
    client = shitu.Client(script.url + "/shop/", "g", token="secret")
    assert client.undo() == 3
    assert script.asked[0][1] == "/shop/v1/galleries/g/undo"
    assert script.asked[0][2]["Authorization"] == "Bearer secret"
    with pytest.raises(shitu.ServiceError, match=r"redirects to http.*/elsewhere; give that address"):
        client.undo()
    assert len(script.asked) == 2


def test_what_is_refused_of_one_picture_leaves_the_others(script: Script, tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    script.say(413, refusal("too_large", "900 MB, at most 64 MB"))
    script.say(200, FOUND)
    client = shitu.Client(script.url, "g")
    first = client.predict([PHOTO])[0]
    assert "900 MB, at most 64 MB" in (first.error or "")
    gone, good = client.predict([tmp_path / "gone.jpg", PHOTO])
    assert "no such file" in (gone.error or "")
    assert good.error is None


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, refusal("gallery_not_found", "no gallery x; there are a, b"), "no gallery x; there are a, b"),
        (401, refusal("token", "wanted a token"), "wanted a token"),
        (500, b"<html>", "answers 500 .*; is it `shitu serve`?"),
        (200, b"<html>", "not what `shitu serve` does"),
        (200, {"entries": None}, "not what `shitu serve` does"),
        (200, [], "not what `shitu serve` does"),
    ],
)
def test_refusals_are_told(script: Script, status: int, body: Any, words: str) -> None:
    script.say(status, body)
    with pytest.raises(shitu.ServiceError, match=words) as caught:
        shitu.Client(script.url, "x").undo()
    assert caught.value.exit_status == (2 if status in (401, 404) else 1)


def test_nobody_there(script: Script, shitu: Run) -> None:
    script.server.shutdown()
    script.server.server_close()
    done = shitu("predict", "--server", script.url, "-g", "x", PHOTO)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no answer" in done.stderr
    assert "check the address" in done.stderr


@pytest.mark.parametrize("wrong", ["127.0.0.1:8080", "ftp://x", "http://", "http://a:b@c", "http://[x"])
def test_what_is_no_address(wrong: str) -> None:
    with pytest.raises(shitu.ShituError, match="wanted the address of a service"):
        shitu.Client(wrong)


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "general"],
        ["--override", "Global.threshold=0.3"],
        ["--device", "cpu"],
        ["--every", "1s"],
        ["--engine", "ray"],
    ],
)
def test_what_is_of_here_is_refused_with_a_server(words: list[str], shitu: Run) -> None:
    done = shitu("predict", "--server", "http://127.0.0.1:9", *words, PHOTO)
    assert done.returncode == 2
    assert words[0] in done.stderr


def test_a_client_loads_no_engine() -> None:
    code = "import sys, shitu; shitu.Client('http://127.0.0.1:9', 'x'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"paddle", "faiss", "cv2", "onnxruntime", "sqlite3", "pydantic"} & set(loaded)
