"""A plain `pip install .` into an empty environment: the bundled models, configs and demo come along."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT

STUDIO = ("templates/base.html", "static/try.js", "static/studio.css", "static/words/zh.json")


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment in which nothing but shitu was asked for."""
    home = tmp_path_factory.mktemp("plain")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", ROOT], capture_output=True, text=True, check=False
    )
    if done.returncode and "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    return python.parent


def test_it_recognises_without_the_checkout(binaries: Path, tmp_path: Path) -> None:
    done = subprocess.run([binaries / "shitu", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "broccoli" in done.stdout
    assert len(list((tmp_path / "output" / "demo").glob("*.jpg"))) == 10


def test_it_needs_neither_paddleclas_nor_paddledet(binaries: Path, tmp_path: Path) -> None:
    done = subprocess.run([binaries / "shitu", "check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    for package in ("paddleclas", "paddledet"):
        assert any(line.startswith(package) and "not installed" in line for line in done.stdout.splitlines())
    installed = binaries.parent / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    assert (installed / "shitu" / "_bundled" / "models").is_dir()
    templates = ("evaluation/report.html", "evaluation/report_plots.html", "cli/evaluate.txt", "cli/calibrate.txt")
    for data in (*templates, "datasets/public_sets.yaml", *(f"serve/studio/{name}" for name in STUDIO)):
        assert (installed / "shitu" / data).is_file()
