"""Pictures of every page, to look at: `python -m tests.studio.pictures FOLDER`; those of the README are among them.

A page is shown in English and light, in Chinese and dark, and on a phone, as WebP.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from PIL import Image

from shitu.cli import main
from tests.studio.looking import KITCHEN, WAIT_MS, chromium, expect, looking, show, studio, visit

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 760}},
    "dark": {"viewport": {"width": 1280, "height": 760}, "color_scheme": "dark", "locale": "zh-CN"},
    "phone": {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True},
}
GALLERY = "demo"
IN_SIGHT = "[...document.images].filter(each => each.checkVisibility() && each.getBoundingClientRect().y < innerHeight)"


def begin(page: Any) -> None:
    visit(page, "try", GALLERY)


def name_it(page: Any) -> None:
    visit(page, "try", GALLERY)
    show(page, KITCHEN)
    boxes = page.locator(".stage .box.unnamed").all()
    max(boxes, key=lambda each: each.bounding_box()["width"]).click()
    page.keyboard.type("mate drink")


def labels(page: Any) -> None:
    visit(page, "gallery", GALLERY)
    expect(page.locator("#grid li").first).to_be_visible()


def label(page: Any) -> None:
    visit(page, "gallery", GALLERY, label="banana")
    page.locator("#items li").nth(1).click()


def doubts(page: Any) -> None:
    labels(page)
    page.locator("#doubtful").click()
    expect(page.locator(".doubts li").first).to_be_visible()


def on_map(page: Any) -> None:
    visit(page, "map", GALLERY)
    expect(page.locator("#legend li").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    area = page.locator("#plot").bounding_box()
    corners = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in LASSO]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=5)
    page.mouse.up()


LASSO = ((0.78, 0.78), (0.80, 0.60), (0.97, 0.52), (0.985, 0.85), (0.86, 0.93))


def review(page: Any) -> None:
    visit(page, "review", GALLERY)
    expect(page.locator("#work")).to_be_visible()


def measure(page: Any) -> None:
    visit(page, "measure", GALLERY)
    page.locator("button[value=evaluate]").click()
    expect(page.locator("#result")).to_be_visible(timeout=3 * WAIT_MS)


PAGES: dict[str, Callable[[Any], None]] = {
    **{"start": begin, "try": name_it, "gallery": labels, "label": label, "doubts": doubts, "map": on_map},
    **{"review": review, "measure": measure},
}


def take(browser: Any, server: Any, folder: Path) -> None:
    for look, options in LOOKS.items():
        for name, go in PAGES.items():
            with looking(browser, server, **options) as page:
                go(page)
                page.wait_for_function(f"() => {IN_SIGHT}.every(each => each.naturalWidth)")
                path = folder / f"studio_{name}{'' if look == 'light' else f'_{look}'}.webp"
                with Image.open(BytesIO(page.screenshot())) as picture:
                    picture.convert("RGB").save(path, quality=82, method=6)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = CliRunner().invoke(main, ["build-gallery", "-o", f"IndexProcess.index_dir={scratch}/{GALLERY}"])
        assert made.exit_code == 0, made.output
        collect = ("--collect", f"{scratch}/collected", "--collect-below", "0.9", "--score", "0.55")
        with studio(Path(scratch), "-g", f"{scratch}/{GALLERY}", *collect) as running, chromium() as window:
            take(window, running, Path(sys.argv[1]))
