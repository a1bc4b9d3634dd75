"""docs/service.md: its commands and its Python run against a service, and its tables leave nothing out."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DEMO, ROOT
from tests.serving import Running, serving

DOCS = (ROOT / "docs/service.md").read_text(encoding="utf-8")
START = "shitu serve -g my_gallery"
SERVE = sorted((ROOT / "shitu/serve").rglob("*.py"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What its reader has: a photo of a shelf, one of a tea, and a zip with a folder per thing."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(DEMO / "photos/fridge.jpg", folder / "shelf.jpg")
    shutil.copy(DEMO / "gallery/google/carrot.jpg", folder / "tea.jpg")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.write(DEMO / "gallery/google/avocado.jpg", "苹果汁/a.jpg")
    return folder


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Running]:
    with serving(home, *START.split()[2:]) as service:
        yield service


def run(command: list[str], home: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "no_proxy": "*"}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_five_minutes_and_the_api_by_example(service: Running, home: Path) -> None:
    first, *scripts = blocks("sh")
    assert first.splitlines() == ["pip install 'shitu[serve]'", START]
    assert len(scripts) == 4
    (says,) = re.findall("the service says `(.*?)`", DOCS)
    assert f"{says}\n".replace("http://127.0.0.1:8080", service.url) in service.said
    told = []
    for script in scripts:
        asked = script.replace("http://127.0.0.1:8080", service.url).replace("curl ", "curl -sS --fail-with-body ")
        told.append(run(["bash", "-euo", "pipefail", "-c", asked], home))
    teach, ask, correct, work = told
    assert teach.startswith('{"ids":[')
    assert "shelf.jpg" in teach
    assert ask.count('"answers"') == 3
    assert '"Cola 0.5 l"' in correct
    assert '"problems":[]' in work.replace(" ", "")
    with zipfile.ZipFile(home / "my_gallery.zip") as archive:
        assert "my_gallery/gallery.json" in archive.namelist()


@pytest.mark.parametrize("number", range(2))
def test_its_python_runs(number: int, service: Running, home: Path) -> None:
    if number:
        pytest.importorskip("requests", reason="the client that PaddleX's documents show needs it")
    code = blocks("python")[number].replace("http://127.0.0.1:8080", service.url)
    told = run([sys.executable, "-c", code], home)
    assert "Green tea" in told or "[" in told


def test_two_processes_serve_one_gallery(service: Running, home: Path) -> None:
    """What one is taught, the other knows, and both may teach."""
    from shitu import Client

    with serving(home, *START.split()[2:]) as other:
        one, two = Client(service.url), Client(other.url)
        for taught, asked, photo in (
            (one, two, "gallery/google/beer_mug.jpg"),
            (two, one, "gallery/google/avocado.jpg"),
        ):
            label = f"taught {photo}"
            taught.add(DEMO / photo, label=label)
            assert asked.predict(DEMO / photo)[0].labels[:1] == [label]
        assert len(one) == len(two)


def test_every_error_code_is_in_the_table() -> None:
    """All that are raised, or stand in a table of problems.py, and no other."""
    table = DOCS[DOCS.index("## Errors") : DOCS.index("`Client` adds")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {code for row in rows for code in re.findall("`(.*?)`", row)}
    raised = set()
    for path in SERVE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HttpError" and len(node.args) > 2:
                raised |= {each.value for each in [node.args[1]] if isinstance(each, ast.Constant)}
    from shitu.serve.problems import _KINDS, STATUS_CODES

    raised |= {code for *_, code in _KINDS} | set(STATUS_CODES.values())
    assert told == raised


def test_every_option_and_link_is_there() -> None:
    from click.testing import CliRunner

    from shitu.cli import main

    options = CliRunner().invoke(main, ["serve", "--help"]).output
    others = {"--server", "--format", "--json", "--fail-with-body", "--pipeline", "--serve", "--soak"}
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCS)) - others:
        assert option in options, option
    for target in re.findall(r"\]\(([^)#:]+)\)", DOCS):
        assert (ROOT / "docs" / target).exists(), target
