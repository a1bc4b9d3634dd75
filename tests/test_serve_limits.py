"""What the service refuses: who may not ask, what is too much, what would leave its folders; and how it stops."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Run
from tests.serving import BEACH, Running, demo_gallery, drawn, files, serving

TOKEN = "a-long-secret"
ASK = "/v1/galleries/demo/recognise"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    demo_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Running]:
    arguments = ("-g", "demo", "--max-upload", 1, "--waiting", 1, "--allow-url", "127.0.0.1")
    with serving(place, *arguments, token=TOKEN) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with server.client() as made:
        yield made


def refused(answer: Any, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    return str(answer.json()["error"]["message"])


def test_without_the_token_nothing_is_told_but_that_it_lives(server: Running) -> None:
    with server.client(headers={"Authorization": "Bearer wrong"}) as stranger:
        for path in ("/v1/galleries", "/metrics", "/openapi.json", "/v1/jobs", "/v1/galleries/demo/items/0/picture"):
            answer = stranger.get(path)
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(stranger.post(ASK, files=files(BEACH)), 401, "unauthorized")
        assert stranger.get("/v1/health").json() == {"status": "ok"}


def test_a_large_request_is_refused_whether_it_says_so_or_not(client: Any) -> None:
    large = [("files", ("a.jpg", b"x" * (2 << 20)))]
    assert "1 MB" in refused(client.post(ASK, files=large), 413, "too_large")
    head = b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    pieces = chain([head], (b"x" * (1 << 16) for _ in range(40)))  # chunked: no length is said
    boundary = {"Content-Type": "multipart/form-data; boundary=xyz"}
    refused(client.post(ASK, content=pieces, headers=boundary), 413, "too_large")
    assert client.post(ASK, files=files(BEACH)).status_code == 200


def test_a_job_may_bring_large_files_and_nothing_else(client: Any) -> None:
    """Its limit is higher, for archives that lie on disk: what would be in memory is not let through by that."""
    jobs = "/v1/galleries/demo/jobs"
    text = b'{"kind": "' + b"x" * (2 << 20) + b'"}'
    refused(client.post(jobs, content=text, headers={"Content-Type": "application/json"}), 413, "too_large")
    many = [("files", ("a.jpg", b"x"))] * 201
    refused(client.post(jobs, files=many, data={"kind": "import"}), 400, "bad_request")
    long = {"kind": "import", "list": "x" * (5 << 20)}
    refused(client.post(jobs, files=files(BEACH), data=long), 400, "bad_request")


def test_what_is_no_picture_is_told(client: Any, place: Path) -> None:
    sent = [("files", ("../../etc/passwd.jpg", b"no picture"))]
    message = refused(client.post(ASK, files=sent), 400, "bad_image")
    assert message.startswith("passwd.jpg: not an image")
    refused(client.post("/v1/galleries/demo/items", files=sent, data={"label": "a"}), 400, "bad_image")
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\0\0\0\x01\0\0\x08\2\0\0\0"
    refused(client.post(ASK, files=[("files", ("bomb.png", bomb))]), 400, "bad_image")
    refused(client.post(ASK, content=b"{", headers={"Content-Type": "application/json"}), 422, "invalid_request")
    refused(client.post(ASK, content=b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    refused(client.post(ASK, files=[("other", ("a.jpg", b"x"))]), 422, "no_picture")
    many = [("files", ("a.jpg", b"x"))] * 65
    assert client.post(ASK, files=many).status_code == 400


def test_names_that_lead_out_are_refused(client: Any, place: Path) -> None:
    (place / "outside").mkdir(exist_ok=True)
    for name in ("../outside", "..", "a/b", "/etc", ".hidden", "a\0b", "", "a\\b", "x" * 65, "C:x"):
        assert client.post("/v1/galleries", json={"name": name}).status_code == 422, name
    for path in ("..%2foutside", "%2e%2e", "..", "....//", "%2fetc", "demo%00"):
        assert client.get(f"/v1/galleries/{path}/items").status_code in (404, 422), path
    refused(client.get("/v1/galleries/nothing"), 404, "gallery_not_found")
    assert sorted(each.name for each in place.iterdir() if each.is_dir()) == ["demo", "outside"]


def test_no_answer_names_a_path_of_the_server(client: Any, place: Path) -> None:
    base = "/v1/galleries/demo"
    answers = [client.get(path) for path in ("/v1/galleries", base, f"{base}/items", f"{base}/labels", "/openapi.json")]
    answers += [client.post(ASK, files=files(BEACH)), client.get("/metrics"), client.get("/v1/jobs"), client.get("/x")]
    answers += [client.post(f"{base}/undo"), client.post(f"{base}/undo"), client.delete(base)]
    answers.append(client.post(f"{base}/search", json={"vectors": [[1.0]], "k": 1}))
    for answer in answers:
        assert str(place) not in answer.text, answer.request.url
        assert "/tmp/" not in answer.text, answer.request.url


def test_too_many_at_a_time_are_told_to_come_again(client: Any, server: Running) -> None:
    """More than work and wait at a time: those beyond get 429, the others their answers."""

    def ask(number: int) -> Any:
        return client.post(ASK, files=[("files", (f"{number}.png", drawn(number)))] * 8)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(40)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    late = next(answer for answer in answers if answer.status_code == 429)
    assert int(late.headers["retry-after"]) >= 1
    assert client.post(ASK, files=files(BEACH)).status_code == 200
    assert "shitu_requests_refused_total" in client.get("/metrics").text


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/beach.jpg")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BEACH.read_bytes())

    def log_message(self, *given: Any) -> None: ...


def test_addresses_are_fetched_only_from_allowed_hosts(client: Any) -> None:
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        port = web.server_address[1]
        ask = lambda url: client.post(ASK, json={"images": [{"url": url}]})  # noqa: E731
        (found,) = ask(f"http://127.0.0.1:{port}/beach.jpg").json()["answers"]
        assert (found["image"], found["width"]) == ("beach.jpg", 900)
        refused(ask(f"http://localhost:{port}/beach.jpg"), 403, "url_refused")
        refused(ask("file:///etc/passwd"), 403, "url_refused")
        refused(ask("http://169.254.169.254/latest"), 403, "url_refused")
        assert "may be fetched" in refused(ask(f"http://127.0.0.1:{port}/away"), 400, "bad_image")
        web.shutdown()


def test_other_sites_pages_may_not_change_anything(place: Path) -> None:
    """Where there is no token; with one, nobody can send it for them, and a proxy may call the host otherwise."""
    with serving(place, "-g", "demo", "--root", "other") as running, running.client() as client:
        foreign = {"Origin": "http://evil.example"}
        refused(client.post("/v1/galleries", json={"name": "a"}, headers=foreign), 403, "origin_refused")
        refused(client.post("/v1/galleries", json={"name": "a"}, headers={"Origin": "null"}), 403, "origin_refused")
        cross = {"Sec-Fetch-Site": "cross-site"}
        refused(client.delete("/v1/galleries/demo", headers=cross), 403, "origin_refused")
        own = {"Origin": running.url}
        assert client.post("/v1/galleries", json={"name": "own"}, headers=own).status_code == 201
        assert "access-control-allow-origin" not in client.get("/v1/galleries", headers=foreign).headers
        assert client.options("/v1/galleries", headers=foreign).status_code == 405


def test_without_a_token_only_localhost_is_a_host(place: Path) -> None:
    with serving(place) as running, running.client() as client:
        refused(client.get("/v1/galleries", headers={"Host": "evil.example"}), 403, "host_refused")
        assert client.get("/v1/galleries", headers={"Host": "localhost:1"}).status_code == 200


def test_open_to_all_is_said_loudly(place: Path) -> None:
    with serving(place, "--host", "0.0.0.0", "-g", "demo") as running:
        assert any("there is no token" in line for line in running.said)


def test_an_address_that_is_taken_is_told_before_models_are_loaded(place: Path, shitu: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = shitu("serve", "--port", taken.getsockname()[1], cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be listened at" in done.stderr


def test_who_is_too_slow_is_given_up(place: Path) -> None:
    with serving(place, "-g", "demo", "--time-limit", 1) as running:
        address = urlsplit(running.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
            head = f"POST {ASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            raw.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())  # and nothing more
            answer = b""
            while block := raw.recv(65536):
                answer += block
        assert answer.startswith(b"HTTP/1.1 504"), answer
        assert b"timed_out" in answer


def test_what_was_accepted_is_answered_before_it_stops(place: Path) -> None:
    """The request's head and half its body are there when the signal comes; the rest is sent after it."""
    with serving(place, "-g", "demo") as running:
        body = b'{"images": [{"url": "http://x.example/a.jpg"}]}'
        address = urlsplit(running.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
            head = f"POST {ASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
            with running.client() as client:  # comes after, so the first is in work
                assert client.get("/v1/health").status_code == 200
            running.process.terminate()
            raw.sendall(body[10:])
            answer = b""
            while block := raw.recv(65536):
                answer += block
        assert answer.startswith(b"HTTP/1.1 403"), answer
        assert running.stop() == 0
