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
    """What the README's reader has: pictures of things, a photo of a shelf, a folder of teas, known answers, drinks."""
    for target, source in (
        ("my_pictures/Cola 0.5 l/1.jpg", "gallery/google/beer_mug.jpg"),
        ("my_pictures/苹果汁/a.jpg", "gallery/google/avocado.jpg"),
        ("tea/green.jpg", "gallery/google/carrot.jpg"),
        ("shelf.jpg", "photos/fridge.jpg"),
        ("drink_dataset_v2.0/gallery/a.jpg", "gallery/google/avocado.jpg"),
        ("drink_dataset_v2.0/test_images/100.jpeg", "photos/fridge.jpg"),
    ):
        (tmp_path / target).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(DEMO / source, tmp_path / target)
    (tmp_path / "answers.txt").write_text("my_pictures/苹果汁/a.jpg\t苹果汁\nshelf.jpg\t苹果汁\n", encoding="utf-8")
    (tmp_path / "drink_dataset_v2.0/gallery/drink_label.txt").write_text("a.jpg\t苹果汁\n", encoding="utf-8")
    return tmp_path


def bash(script: str, home: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("SHITU_GALLERY", None)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_photos_and_python(home: Path) -> None:
    build, measure = (next(each for each in blocks("sh") if word in each) for word in ("my_pictures", "calibrate"))
    told = bash(build, home)
    assert "苹果汁" in told
    assert "Green tea" in told
    assert (home / "output" / "shelf.jpg").is_file()
    bash(measure, home)
    assert (home / "mine.yaml").is_file()
    bash(
        "export SHITU_GALLERY=mine; shitu predict shelf.jpg; shitu init -g mine; shitu predict shelf.jpg --unnamed",
        home,
    )
    bash("source <(shitu completion); shitu config show -c drink", home)
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "苹果汁" in done.stdout


def test_the_official_quick_start_translated(home: Path) -> None:
    block = next(each for each in blocks("sh") if "build_gallery=True" in each)
    ours = [line.partition("→")[2].strip() for line in block.splitlines() if "→" in line]
    assert "苹果汁" in bash("\n".join(ours), home)
    theirs = [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("paddleclas")]
    words = [line[line.index("-o") :] for line in theirs]
    assert "苹果汁" in bash(f"shitu build-gallery {words[0]}\nshitu predict {words[1]}", home), "-o as it is"


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
