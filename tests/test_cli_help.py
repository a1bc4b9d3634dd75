"""Every command has a help text that ends with an example, and every example works."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import urlparse

import click
import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.models.known import KNOWN_MODELS
from tests.conftest import DEMO, ROOT, index_overrides
from tests.help_files import write_foreign_networks, write_training_files
from tests.help_promises import PROMISES
from tests.test_fetch_model import program, weights


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """(words, help text) of a command and all below it."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, click.Context(below, info_name=name, parent=context))


def examples(text: str) -> list[str]:
    """The lines after `Example:` or `Examples:`, up to the end."""
    lines = [line.strip() for line in text.rstrip().splitlines()]
    start = max((number for number, line in enumerate(lines) if line in ("Example:", "Examples:")), default=len(lines))
    return lines[start + 1 :]


HELP = dict(commands(main, click.Context(main, info_name="shitu")))
EXAMPLES = [example for text in HELP.values() for example in examples(text)]
SERVERS = [example for example in EXAMPLES if example.startswith("shitu serve")]


@pytest.mark.parametrize("command", HELP)
def test_help_ends_with_an_example_of_the_command(command: str) -> None:
    found = examples(HELP[command])
    assert found, "no Example: at the end"
    for example in found:
        assert example == command or example.startswith(f"{command} ")


@pytest.mark.parametrize("command", HELP)
def test_help_says_what_everything_is_for(command: str) -> None:
    lines = HELP[command].splitlines()
    assert lines[0].startswith("Usage: shitu")
    assert lines[2].strip(), "no description"
    assert max(map(len, lines)) <= 100, "an example that is wider than a terminal"


def test_all_commands_of_the_issue_are_there() -> None:
    names = ["build-gallery", "predict", "predict-det", "predict-rec", "evaluate", "calibrate", "check", "demo"]
    names += [
        f"gallery {name}"
        for name in (
            ["info", "list", "verify", "append", "remove", "compact", "export", "undo", "dedup", "map", "copy", "tune"]
        )
    ]
    names += [f"models {name}" for name in ["list", "download", "verify"]]
    names += ["train", "eval", "export", "train-det", "eval-det", "export-det", "dataset convert", "dataset check"]
    names += [
        "config schema",
        "config show",
        "models convert",
        "models add",
        "quantize",
        "benchmark",
        "init",
        "completion",
        "serve",
    ]
    assert {f"shitu {name}" for name in names} <= set(HELP)


# --- running them ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared_sessions: None) -> Path:
    """What the examples take for granted: the demo's gallery, a gallery of one's own, a list of unwanted images."""
    folder = tmp_path_factory.mktemp("built")
    lines = [f"{line}\n" for line in (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:24]]
    for number in range(18):
        lines[number] = lines[number].split("\t")[0] + "\tgreen tea\n"
    (folder / "unwanted.txt").write_text(lines[20], encoding="utf-8")
    (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "first.txt").write_text("".join(lines[:6]), encoding="utf-8")
    for name in ("first.txt", "list.txt"):  # two, so that there is something to undo
        build(folder / name, folder / "my_gallery")
    build(DEMO / "gallery.txt", folder / "output" / "demo_index", crop="both")
    write_training_files(folder)
    write_foreign_networks(folder)
    return folder


def build(data_file: Path, index_dir: Path, **more: object) -> None:
    overrides = index_overrides(data_file, index_dir, index_method="Flat", **more)
    arguments = ["build-gallery", *(part for each in overrides for part in ("-o", each))]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0


@pytest.fixture
def repository(built: Path, tmp_path: Path) -> Path:
    """The root of the repository as the examples see it, where they may write."""
    root = tmp_path / "root"
    shutil.copytree(built, root, symlinks=True)
    for name in ("configs", "demo", "models"):
        (root / name).symlink_to(ROOT / name)
    program = tmp_path / "bin" / "shitu"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m shitu "$@"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return root


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on this machine, with models of the official sizes at the official paths."""
    folder = tmp_path_factory.mktemp("mirror")
    wanted = {word for example in EXAMPLES for word in example.split()}
    for model in KNOWN_MODELS:
        if model.url and model.name in wanted:
            path = folder / urlparse(model.url).path.lstrip("/")
            path.parent.mkdir(parents=True)
            with tarfile.open(path, "w") as tar:
                whole = {"inference.pdmodel": program(), "inference.pdiparams": weights(model.params_bytes or 70_000)}
                for name, content in whole.items():
                    info = tarfile.TarInfo(f"{model.name}/{name}")
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_example_promises_something() -> None:
    assert set(PROMISES) == set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example: str, repository: Path, tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It succeeds, prints what it promises and nothing else, and leaves what it should; a pipe, in a shell."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SHITU_MODELS_URL", mirror)
    monkeypatch.setenv("SHITU_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    if example in SERVERS:
        status, out, err = served(shlex.split(example)[1:])
    elif "|" in example:
        shell = ["bash", "-o", "pipefail", "-c", example]
        done = subprocess.run(shell, capture_output=True, encoding="utf-8", timeout=120, check=False)
        status, out, err = done.returncode, done.stdout, done.stderr
    else:
        run = CliRunner().invoke(main, shlex.split(example)[1:], catch_exceptions=False)
        status, out, err = run.exit_code, run.stdout, run.stderr
    assert status == 0, err
    PROMISES[example].check(out, err, repository)


def served(arguments: list[str]) -> tuple[int, str, str]:
    """A server is asked to stop once it listens."""
    command = [sys.executable, "-m", "shitu", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stdout is not None
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if "Listening on" in line:
                server.send_signal(signal.SIGINT)
        return server.wait(60), server.stdout.read(), "".join(said)


def test_crops_and_the_command_that_they_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jpg").write_text("text")
    text = f"{DEMO / 'photos' / 'desk.jpg'}\ta desk\n{tmp_path / 'bad.jpg'}\tx\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    overrides = index_overrides(tmp_path / "list.txt", tmp_path / "own", crop="all")
    settings = [part for override in overrides for part in ("-o", override)]
    arguments = ["build-gallery", *settings, "--crops", "my crops"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 1, "a listed image could not be read"
    assert "Failed: " in done.stderr
    count = len(list((tmp_path / "my crops").glob("*.jpg")))
    assert f"{count} crops in my crops" in done.stderr
    next(iter((tmp_path / "my crops").glob("*.jpg"))).unlink()
    advice = shlex.split(done.stderr.splitlines()[-1])
    assert advice[:2] == ["shitu", "build-gallery"]
    done = CliRunner().invoke(main, [*advice[1:], "-o", "IndexProcess.index_dir=own"], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stderr.endswith(f"own holds {count - 1}.\n")


def test_no_command_shows_the_commands() -> None:
    done = CliRunner().invoke(main, ["--help"])
    names = ["init", "build-gallery", "predict", "predict-det", "predict-rec", "evaluate", "calibrate", "gallery"]
    names += ["serve", "models", "quantize", "benchmark"]
    names += [
        "dataset",
        "finetune",
        "train",
        "eval",
        "export",
        "train-det",
        "eval-det",
        "export-det",
        "check",
        "demo",
        "config",
    ]
    names += ["completion"]
    shown = done.stdout[done.stdout.index("Commands:") :].splitlines()[1 : len(names) + 1]
    assert [line.split()[0] for line in shown] == names
