"""The rules of the house: imports point one way, files stay readable, the command line starts at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "shitu"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module or package may import from its own floor or from those above it in this list.
FLOORS = (
    ("errors", "results", "resources", "cores"),
    ("config", "images"),
    ("models",),
    ("engines", "gallery", "draw"),
    ("recognise",),
    ("build", "self_test"),
    ("datasets", "evaluation"),
    ("training",),
    ("cli",),
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
DOORS = {"faiss": {"faiss_index"}, "paddle": {"paddle"}, "sqlite3": {"items"}}


def unit(path: Path) -> str:
    """The module or package of the first level to which a file belongs."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


INSIDE = [path for path in MODULES if unit(path) not in ("__init__", "__main__")]


def test_every_module_has_its_floor() -> None:
    assert {unit(path) for path in INSIDE} == set(FLOOR_OF)


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    for name in imported(path):
        if name.startswith("shitu."):
            other = name.split(".")[1]
            assert FLOOR_OF[other] <= FLOOR_OF[unit(path)], f"{path} imports {name}, which stands below it"


@pytest.mark.parametrize("library", DOORS)
def test_heavy_libraries_have_one_door(library: str) -> None:
    users = {path.stem for path in MODULES if any(name.split(".")[0] == library for name in imported(path))}
    users -= {path.stem for path in (PACKAGE / "training").rglob("*.py")}
    assert users == DOORS[library]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_has_more_than_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_the_command_line_loads_nothing_heavy() -> None:
    """What makes `shitu --help` answer in under 0.3 s; the time itself is in benchmarks/cold_start.py."""
    code = "import sys, shitu.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"paddle", "faiss", "cv2", "numpy", "PIL", "tqdm"} & set(loaded)
