"""The rules of the house: imports point one way, files stay readable, the command line starts at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "shitu"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, LONGEST_BODY = 300, 60

# A unit may import from itself and from the floors above its own; never from another unit of its floor.
FLOORS = (
    ("errors", "results", "resources", "cores"),
    ("measure", "digest", "files", "list_line", "object_store"),
    ("config", "images", "fleet"),
    ("models", "gallery.base"),
    ("engines", "gallery.read", "gallery.change", "draw", "sources"),
    ("gallery.write.items", "gallery.unpickle"),
    ("gallery.foreign",),
    ("gallery.origin", "gallery.inspect_foreign"),
    ("gallery.inspect", "gallery.write"),
    ("gallery.reader", "gallery.export", "gallery.duplicates", "gallery.stores"),
    ("gallery.gallery", "gallery.open"),
    ("gallery.copy",),
    ("gallery",),
    ("recognise", "made_with"),
    ("build", "self_test", "convert"),
    ("datasets", "evaluation", "video"),
    ("api",),
    ("benchmark",),
    ("training", "training.base"),
    ("training.rec", "training.det"),
    ("finetune",),
    ("serve",),
    ("cli",),
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
# By which files, or folders, a library comes in; paths, since a name may occur twice.
DOORS = {
    "faiss": ("gallery/read/faiss_index.py",),
    "paddle": ("engines/paddle.py", "convert/child.py", "training/"),
    "paddle2onnx": ("convert/child.py",),
    "onnx": ("convert/", "benchmark/roofline.py"),
    "onnxruntime": ("engines/onnxruntime.py", "convert/quantize_onnx.py"),
    "openvino": ("engines/openvino.py",),
    "cv2": ("recognise/preprocess.py", "training/", "video/capture.py", "video/record.py"),
    "sqlite3": ("gallery/read/items.py", "gallery/read/schema.py", "gallery/write/items.py"),
    "paddleclas": (),  # both by training/base/toolkits.py, which says how to install them
    "ppdet": (),
    "matplotlib": ("training/base/curves.py",),
    "pyarrow": ("cli/sheets.py",),
    "pycocotools": ("training/det/evaluate.py",),
    "pypdfium2": ("sources/pdf_child.py",),
    "pillow_heif": ("images/formats.py",),
    "fastapi": ("serve/",),
    "uvicorn": ("serve/app.py",),
    "prometheus_client": ("serve/metrics.py",),
    "pymilvus": ("gallery/stores/milvus_connection.py",),
    "grpc": ("gallery/stores/milvus_connection.py",),
    "psycopg": ("gallery/stores/postgres_connection.py",),
    "ray": ("fleet/on_ray.py",),
    "fsspec": ("object_store.py",),
}
DYNAMIC = "a name that only running it tells"
MAY_BE_DYNAMIC = ("__init__.py", "training/base/toolkits.py")


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
INSIDE = [path for path in FILES if inside(path) not in ("__init__.py", "__main__.py")]


@cache
def imported(source: str) -> frozenset[str]:
    """Every module and, of `from a import b`, every `a.b` that the source imports anywhere, types alone included."""
    names, importers = set(), {"import_module", "__import__"}
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute"
            assert not node.level, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
            importers |= {alias.asname or "" for alias in node.names if alias.name == "import_module"}
    for node in nodes:
        if isinstance(node, ast.Call) and called(node.func) in importers:
            first = node.args[0] if node.args else None
            names.add(str(first.value) if isinstance(first, ast.Constant) else DYNAMIC)
    return frozenset(names)


def called(function: ast.expr) -> str:
    return getattr(function, "id", "") or getattr(function, "attr", "")


def ours(source: str) -> set[str]:
    """The modules of shitu that the source imports."""
    names = {name for name in imported(source) if name.split(".")[0] == "shitu"}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def unit(module: str) -> str:
    """The unit of FLOORS to which a module belongs: the longest that its name begins with."""
    inner = module.removeprefix("shitu.").split(".")
    found = [name for count in range(len(inner), 0, -1) if (name := ".".join(inner[:count])) in FLOOR_OF]
    assert found, f"{module} has no floor"
    return found[0]


# --- imports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", INSIDE, ids=inside)
def test_imports_point_one_way(path: Path) -> None:
    own = unit(module_of(path))
    for name in ours(text(path)) - {"shitu"}:
        other = unit(name)
        assert other == own or FLOOR_OF[other] < FLOOR_OF[own], f"{inside(path)} imports {name}, which stands below it"


def test_every_floor_has_its_modules() -> None:
    assert {unit(module_of(path)) for path in INSIDE} == set(FLOOR_OF)


def test_nothing_imports_in_a_circle() -> None:
    """Not for types either; an import of a name from a package counts as one of the package's __init__."""
    graph = {name: ours(text(path)) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def intruders(library: str, root: Path, doors: tuple[str, ...]) -> list[str]:
    """Files below `root` that import the library and are no door to it."""
    users = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*.py"))
        if any(name.split(".")[0] == library for name in imported(text(path)))
    ]
    return [user for user in users if not any(user == door or user.startswith(door) for door in doors)]


@pytest.mark.parametrize("library", DOORS)
def test_heavy_libraries_have_one_door(library: str) -> None:
    assert intruders(library, PACKAGE, DOORS[library]) == []
    for door in DOORS[library]:
        assert (PACKAGE / door).exists()


def test_only_doors_import_what_a_variable_names() -> None:
    assert intruders(DYNAMIC, PACKAGE, MAY_BE_DYNAMIC) == []


@pytest.mark.parametrize(
    "source",
    [
        "import faiss as index",
        "from faiss import IndexFlat",
        "def late():\n    import faiss.swigfaiss",
        "import importlib\nimportlib.import_module('faiss')",
        "from importlib import import_module as load\nload('faiss.contrib')",
        "__import__('faiss')",
    ],
)
def test_a_file_named_like_a_door_is_none(source: str, tmp_path: Path) -> None:
    """Two holes of before: names were compared, not paths, and `import_module` was not seen."""
    for place in ("gallery/read/faiss_index.py", "training/faiss_index.py", "cli/check.py"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(source, encoding="utf-8")
    assert intruders("faiss", tmp_path, DOORS["faiss"]) == ["cli/check.py", "training/faiss_index.py"]


def test_a_name_unknown_before_it_runs_is_told_apart() -> None:
    assert imported("from importlib import import_module\nimport_module(f'{package}.x')") >= {DYNAMIC}


def test_nothing_here_imports_research_or_benchmarks() -> None:
    for path in [*FILES, *sorted(Path(__file__).parent.glob("*.py"))]:
        assert not {name.split(".")[0] for name in imported(text(path))} & {"research", "benchmarks"}, path


def measures_named(source: str) -> set[str]:
    """The names of measures that stand in the source as texts of their own."""
    texts = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str)} & {"IP", "L2", "hamming"}


def test_only_one_file_asks_which_measure_it_is() -> None:
    """The configuration lists them; Pillow has a filter, and paddledet a regulariser, of such a name."""
    may = ("measure.py", "config/", "recognise/transform_ops.py", "training/det/schema.py")
    asking = [inside(path) for path in FILES if measures_named(text(path))]
    assert [name for name in asking if not name.startswith(may)] == []
    assert "measure.py" in asking


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=inside)
def test_files_stay_short(path: Path) -> None:
    assert len(text(path).splitlines()) <= MOST_LINES
    assert [f"{name}: {length} lines" for name, length in bodies(text(path)) if length > LONGEST_BODY] == []


def bodies(source: str) -> Iterator[tuple[str, int]]:
    """Every function, and the lines of its body without the docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = ast.get_docstring(node, clean=False) is not None
            body = node.body[1:] if told else node.body
            if body:
                yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_the_command_line_loads_nothing_heavy() -> None:
    """What makes `shitu --help` answer in under 0.3 s; the time itself is in benchmarks/cold_start.py."""
    code = "import sys, shitu.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"paddle", "faiss", "cv2", "numpy", "PIL", "tqdm", "pydantic"} & set(loaded)


def test_who_only_recognises_loads_nothing_that_writes() -> None:
    """And nothing that a photo seldom needs: docs/design.md, "The house"."""
    code = "import sys, shitu.recognise.from_config, shitu.recognise.files; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    seldom = {
        *(
            "build",
            "config.mistakes",
            "config.overrides",
            "files",
            "gallery.change",
            "gallery.foreign",
            "gallery.gallery",
        ),
        *("gallery.inspect", "gallery.write", "images.not_opened", "models.exported", "models.known", "models.verify"),
        *("recognise.binarize", "recognise.nms", "recognise.transform_ops"),
    }
    assert not {f"shitu.{name}" for name in seldom} & set(loaded)
    assert not {"pymilvus", "psycopg", "grpc"} & set(loaded), "who uses a folder pays for no database"
    assert all(
        (PACKAGE / f"{name.replace('.', '/')}.py").exists() or (PACKAGE / name.replace(".", "/")).is_dir()
        for name in seldom
    )
