"""`gallery map`: where entries lie, which are doubtful, and that labels of strangers are only text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from shitu.cli import main
from shitu.evaluation.gallery_map import flat
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from tests.test_gallery_formats import unit

EVIL = "<script>alert(1)</script>\"'&\x01 绿茶"


class Page(HTMLParser):
    """The tags, and the text within <bdi>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.names: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "bdi"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.names.append(data)
        self._inside = False


@pytest.mark.parametrize("dist_type", ["IP", "hamming"])
def test_the_page(dist_type: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    vectors = unit(12) if dist_type == "IP" else rng.integers(0, 256, (12, 4), dtype=np.uint8)
    vectors[7] = vectors[3]  # the same picture under two labels: both are doubtful
    labels = [EVIL if n == 3 else "coffee" if n == 7 else "tea" for n in range(12)]
    items = [Item(label, f"图 {n}.png", f"{n}") for n, label in enumerate(labels)]
    for n in range(11):  # the twelfth picture is not there
        Image.new("RGB", (90, 60), (20 * n, 90, 30)).save(tmp_path / f"图 {n}.png")
    gallery = Gallery.create(tmp_path / "g", vectors, items, index_method="Flat", dist_type=dist_type, fingerprint="f")
    arguments = [
        "gallery",
        "map",
        str(tmp_path / "g"),
        "--html",
        str(tmp_path / "m.html"),
        "--image-root",
        str(tmp_path),
    ]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    told = json.loads(done.stdout)
    nearest = {n: next(m for m in found if m.id != n) for n, found in enumerate(gallery.search(vectors, 3))}
    doubtful = [n for n, match in nearest.items() if match.label != labels[n]]
    assert {3, 7} <= set(doubtful)
    assert (told["entries"], told["shown"], told["doubtful"]) == (12, 12, len(doubtful))
    page = Page((tmp_path / "m.html").read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe"} == {"link"}
    assert all(attrs.get("src", "data:").startswith("data:image/jpeg") for tag, attrs in page.tags if tag == "img")  # type: ignore[union-attr]
    assert EVIL.replace("\x01", "\ufffd") in page.names
    spots = [attrs["class"] for tag, attrs in page.tags if "spot" in (attrs.get("class") or "").split()]
    assert spots.count("spot doubt") == len(doubtful)
    assert len(spots) == 12


def test_places_are_principal_components() -> None:
    """Points on a plane in 32 dimensions: distances within the plane stay, up to the scale of each axis."""
    rng = np.random.default_rng(7)
    plane = rng.standard_normal((200, 2)) * [3, 1]
    axes = np.linalg.qr(rng.standard_normal((32, 2)))[0]
    points = (plane @ axes.T).astype(np.float32)

    class Stub:
        facts = type("Facts", (), {"measure": type("Measure", (), {"packed": False})})

        def blocks(self):  # type: ignore[no-untyped-def]
            for start in range(0, 200, 64):
                yield np.arange(start, min(start + 64, 200)), points[start : start + 64]

    found = flat(Stub(), points)  # type: ignore[arg-type]
    _, _, rotation = np.linalg.svd(plane - plane.mean(axis=0), full_matrices=False)
    right = (plane - plane.mean(axis=0)) @ rotation.T
    for axis in range(2):
        assert abs(np.corrcoef(found[:, axis], right[:, axis])[0, 1]) > 0.9999
    assert (found.min(), found.max()) == (0, 1)


def test_of_many_entries_some_are_shown(tmp_path: Path) -> None:
    items = [Item("tea", "") for _ in range(100)]
    Gallery.create(tmp_path / "g", unit(100), items, index_method="Flat", dist_type="IP", fingerprint="f")
    arguments = ["gallery", "map", str(tmp_path / "g"), "--html", str(tmp_path / "m.html"), "--most", "7"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert json.loads(done.stdout)["shown"] == 7
    text = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "7 of 100 entries, spread evenly" in text
    assert [f"id {n}<" in text for n in (0, 99)] == [True, True]


@pytest.mark.parametrize("name", ["m.txt", "absent/m.html"])
def test_a_place_that_cannot_be(name: str, tmp_path: Path) -> None:
    Gallery.create(tmp_path / "g", unit(1), [Item("a", "")], index_method="Flat", dist_type="IP", fingerprint="f")
    done = CliRunner().invoke(main, ["gallery", "map", str(tmp_path / "g"), "--html", str(tmp_path / name)])
    assert (done.exit_code, "Error: " in done.stderr) == (2, True)
