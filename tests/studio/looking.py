"""What a test of the studio needs: galleries on a running service, and a Chromium that remembers what went wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import DEMO
from tests.serving import files, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright, of the extra dev, is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_MS = 20_000  # for what a busy machine does
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
KITCHEN = DEMO / "photos" / "kitchen_shelf.jpg"
expect = sync_api.expect
expect.set_options(timeout=WAIT_MS)


@dataclass
class Server:
    """A running service, its folder of galleries, and a client of its /v1."""

    url: str
    root: Path
    api: Any
    count: int = 0

    def make(self, name: str = "") -> str:
        """An empty gallery."""
        self.count += 1
        name = name or f"things {self.count}"
        assert self.api.post("galleries", json={"name": name}).status_code == 201
        return name

    def teach(self, gallery: str, label: str, *pictures: Path, box: str = "") -> list[int]:
        told = self.api.post(f"galleries/{gallery}/items", files=files(*pictures), data={"label": label, "bbox": box})
        assert told.status_code == 201, told.text
        return list(told.json()["ids"])

    def labels(self, gallery: str) -> dict[str, int]:
        told = self.api.get(f"galleries/{gallery}/labels", params={"limit": 1000}).json()
        return {each["label"]: each["count"] for each in told["labels"]}

    def items(self, gallery: str) -> list[dict[str, Any]]:
        return list(self.api.get(f"galleries/{gallery}/items", params={"limit": 1000}).json()["items"])


@contextmanager
def studio(folder: Path, *options: str, token: str = "") -> Iterator[Server]:
    """A service with the bundled models, whose galleries lie in `folder`."""
    with serving(folder, *options, token=token) as running, running.client() as client:
        client.base_url = f"{running.url}/v1/"
        yield Server(running.url, folder / "galleries", client)


@contextmanager
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page should not have done."""

    errors: list[str] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


@contextmanager
def looking(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    """A page at the server. At the end it must have told no error, and asked no other host for anything."""
    options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"} | options
    context = browser.new_context(base_url=server.url, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    seen = Seen()
    page.on("console", lambda told: seen.told.append(told) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    here = (server.url, "blob:", "data:")
    page.on("request", lambda asked: None if asked.url.startswith(here) else seen.elsewhere.append(asked.url))
    try:
        yield page
        errors = [*seen.errors, *(each.text for each in seen.told if not _of_what_is_gone(server, each))]
        assert not errors, errors
        assert not seen.elsewhere, seen.elsewhere
    finally:
        context.close()


def _of_what_is_gone(server: Server, told: Any) -> bool:
    """Whether a picture was not found since its entry was removed while it was asked for."""
    found = re.search(r"galleries/([^/]+)/items/(\d+)/picture", told.location["url"])
    if not found or "404" not in told.text:
        return False
    number = int(found[2])
    page = server.api.get(f"galleries/{found[1]}/items", params={"after": number - 1, "limit": 1}).json()
    return number not in [each["id"] for each in page.get("items", [])]


def visit(page: Any, name: str, gallery: str, **more: str) -> None:
    query = "&".join(f"{key}={quote(value)}" for key, value in {"g": gallery, **more}.items())
    page.goto(f"/studio/{name}?{query}")
    expect(page.locator("#gallery")).to_have_value(gallery)


def show(page: Any, photo: Path) -> None:
    """Choose a photo on the page Try, and wait for its boxes."""
    page.locator("input.photos").first.set_input_files(photo)
    expect(page.locator(".boxes")).to_have_attribute("aria-label", re.compile(re.escape(photo.name)))
    expect(page.locator("#work")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".stage .box").first).to_be_visible()


def pictures_of(name: str) -> list[Path]:
    return sorted(DEMO.glob(f"gallery/*/{name}.*"))
