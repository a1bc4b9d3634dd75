"""The README's examples run: its shell lines on pictures of one's own, its Python, its JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DEMO, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What the README's reader has: two pictures of things, photos of shelves, a folder of teas."""
    for target, source in (
        ("my_pictures/cola.jpg", "gallery/google/beer_mug.jpg"),
        ("my_pictures/juice.jpg", "gallery/google/avocado.jpg"),
        ("my_photos/shelf.jpg", "photos/fridge.jpg"),
        ("tea/green.jpg", "gallery/google/carrot.jpg"),
        ("shelf.jpg", "photos/fridge.jpg"),
    ):
        (tmp_path / target).parent.mkdir(exist_ok=True)
        shutil.copy(DEMO / source, tmp_path / target)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def test_own_photos_and_python(home: Path) -> None:
    script = next(block for block in blocks("") if "my_gallery.txt" in block).replace(".venv/bin/shitu", "shitu")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "苹果汁" in done.stdout
    assert "Green tea" in done.stdout
    assert (home / "output" / "shelf.jpg").is_file()
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "苹果汁" in done.stdout


def test_the_json_has_the_keys_of_a_record() -> None:
    from shitu.results import Match, Recognition, Region

    (text,) = blocks("json")
    shown = json.loads(text)
    region = Region((0, 0, 1, 1), 0.5, (Match("a", 0.5, 1, "a.jpg"),))
    real = Recognition("x.jpg", 1, 1, (region,)).to_dict()
    assert list(shown) == list(real)
    assert list(shown["regions"][0]) == list(real["regions"][0])
    assert list(shown["regions"][0]["matches"][0]) == list(real["regions"][0]["matches"][0])


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
