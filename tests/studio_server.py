"""`shitu serve` as a process on loopback, and a Chromium that looks at it and remembers what went wrong."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DEMO

httpx = pytest.importorskip("httpx", reason="httpx asks the server beside the browser: pip install '.[dev,serve]'")
pytest.importorskip("fastapi", reason="the service needs its extra: pip install '.[serve]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser: pip install '.[dev]'")

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
WITHOUT_CHROMIUM = "no Chromium is installed: apt-get install chromium"
START_SECONDS, WAIT_MS = 120, 20_000
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
KITCHEN = DEMO / "photos" / "kitchen_shelf.jpg"


@dataclass
class Server:
    """A running service; `api` speaks to its /v1."""

    url: str
    root: Path
    api: Any
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    def make(self, name: str = "") -> str:
        """An empty gallery."""
        name = name or f"things {next(self.numbers)}"
        assert self.api.post("galleries", json={"name": name}).status_code == 201
        return name

    def teach(self, gallery: str, label: str, *pictures: Path, box: str = "") -> list[int]:
        files = [("files", (path.name, path.read_bytes())) for path in pictures]
        told = self.api.post(f"galleries/{gallery}/items", files=files, data={"label": label, "bbox": box})
        assert told.status_code == 201, told.text
        return list(told.json()["ids"])

    def labels(self, gallery: str) -> dict[str, int]:
        told = self.api.get(f"galleries/{gallery}/labels", params={"limit": 1000}).json()
        return {each["label"]: each["count"] for each in told["labels"]}

    def items(self, gallery: str) -> list[dict[str, Any]]:
        return list(self.api.get(f"galleries/{gallery}/items", params={"limit": 1000}).json()["items"])


@contextmanager
def serving(folder: Path, *options: str, token: str = "") -> Iterator[Server]:
    """The process ends with the block. The bundled models, galleries in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "shitu",
        "serve",
        "--root",
        str(folder / "galleries"),
        "--port",
        str(port),
        *options,
    ]
    log = (folder / "serve.log").open("wb")
    process = subprocess.Popen([*command, *(("--token", token) if token else ())], cwd=folder, stderr=log)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=f"{url}/v1/", headers=headers, timeout=60) as api:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    api.get("health").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "serve.log").read_text("utf-8")
                    assert time.monotonic() < until, "the service does not start"
                    time.sleep(0.05)  # between two tries
            yield Server(url, folder / "galleries", api)
    finally:
        process.terminate()
        process.wait(60)
        log.close()


@contextmanager
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(WITHOUT_CHROMIUM)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page should not have done."""

    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


@contextmanager
def looking(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    """A page at the server. At the end it must have told no error, and asked no other host for anything."""
    options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"} | options
    context = browser.new_context(base_url=server.url, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    seen = Seen()
    page.on("console", lambda told: seen.errors.append(told.text) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    here = (server.url, "blob:", "data:")
    page.on("request", lambda asked: None if asked.url.startswith(here) else seen.elsewhere.append(asked.url))
    try:
        yield page
        assert not seen.errors, seen.errors
        assert not seen.elsewhere, seen.elsewhere
    finally:
        context.close()
