"""The command line as a process: the locale, pipes, Ctrl-C, the terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DEMO, index_overrides

BEACH, DESK = DEMO / "photos" / "beach.jpg", DEMO / "photos" / "desk.jpg"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 demo pictures: 4 classes by 3 makers, the first class with a Chinese name."""
    folder = tmp_path_factory.mktemp("gallery")
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:12]
    text = "".join(f"{line}\n".replace("\tambulance", "\t救护车 🚑") for line in lines)
    (folder / "list.txt").write_text(text, encoding="utf-8")
    overrides = index_overrides(folder / "list.txt", folder / "index")
    subprocess.run([sys.executable, "-m", "shitu", "build-gallery", *options(overrides)], check=True)
    return folder / "index"


def options(overrides: list[str]) -> list[str]:
    return [part for override in overrides for part in ("-o", override)]


@pytest.fixture
def start(gallery: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command line as a process in an empty folder, with that gallery."""
    started = []

    def run(name: str, *arguments: object, **more: Any) -> subprocess.Popen[bytes]:
        common = options([f"IndexProcess.index_dir={gallery}", "IndexProcess.score_thres=-1"])
        line = [sys.executable, "-m", "shitu", name, *common, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path}
        started.append(subprocess.Popen(line, **{**pipes, **more}))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}],
    ids=" ".join,
)
def test_any_locale_prints_chinese(start: Any, tmp_path: Path, locale: dict[str, str]) -> None:
    (tmp_path / "海滩.jpg").write_bytes(BEACH.read_bytes())
    (tmp_path / "坏.jpg").write_text("text")
    arguments = ["predict", "-o", "IndexProcess.return_k=12", "海滩.jpg", "坏.jpg"]
    process = start(*arguments, env={**os.environ, **locale})
    out, err = process.communicate()
    good, bad = (json.loads(line) for line in out.decode("utf-8").splitlines())
    assert (good["image"], bad["image"]) == ("海滩.jpg", "坏.jpg")
    assert "救护车 🚑" in {match["label"] for match in good["regions"][0]["matches"]}
    assert err.decode("utf-8").startswith("Failed: 坏.jpg: not an image")
    assert process.returncode == 1
    assert (tmp_path / "output" / "海滩.jpg").exists()


def test_a_path_that_is_no_text_comes_back_from_json(start: Any, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.jpg"
    try:
        Path(os.fsdecode(name)).write_bytes(DESK.read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    out, err = start("predict-det", "--no-pictures", os.fsdecode(name)).communicate()
    assert os.fsencode(json.loads(out.decode("utf-8"))["image"]) == name
    assert re.fullmatch(rb"1 image: \d+ objects found\n", err)


def test_head_ends_it_quietly(start: Any) -> None:
    process = start("predict-det", "--no-pictures", DEMO / "photos", DEMO / "gallery")
    assert process.stdout.readline().startswith(b'{"image"')
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_told(start: Any) -> None:
    with open("/dev/full", "wb") as full:
        _, err = start("predict-det", "--no-pictures", DESK, stdout=full).communicate()
    assert err == b"Error: No space left on device: standard output\n"


def test_ctrl_c(start: Any) -> None:
    process = start("predict", "-")
    process.stdin.write(f"{DESK}\n".encode() * 500)  # half a minute of work
    process.stdin.flush()
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert json.loads(line)["image"] == str(DESK)
    assert out.count(b"\n") < 250
    assert err.decode() == "\nInterrupted; what was finished is kept.\n"


def test_ctrl_c_while_building(start: Any, tmp_path: Path) -> None:
    settings = options(index_overrides(DEMO / "gallery.txt", tmp_path / "own", batch_size=4))
    process = start("build-gallery", *settings)
    rows = tmp_path / "own" / "building" / "rows.jsonl"
    while not (rows.exists() and rows.read_bytes().count(b"\n") >= 8) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    err = process.stderr.read().decode()
    assert process.wait() == 130
    assert "The gallery is as it was; the same command goes on where it stopped." in err
    assert "Traceback" not in err
    _, err = start("build-gallery", *settings).communicate()
    assert "of them from the build that was interrupted" in err.decode()
    assert err.decode().endswith("holds 240.\n")


def test_progress_bars_are_for_terminals(start: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("text")
    shown = {}
    for columns in (100, 0):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = start("predict-rec", "--npy", "v.npy", DEMO / "photos", "bad.jpg", stderr=theirs)
        os.close(theirs)
        shown[columns] = read_terminal(ours)
        assert len(process.stdout.read().splitlines()) == 10
        assert process.wait() == 1
    for text in shown.values():
        assert re.search(r"100%\|█+\| 11/11 \[\d\d:\d\d<\d\d:\d\d, .*images/s\]", text)
        assert "\r\x1b[31mFailed: bad.jpg: not an image" in text, "the bar is wiped away before a message"
    process = start("predict-rec", "--npy", "v.npy", DEMO / "photos", "bad.jpg")
    _, err = process.communicate()
    refused = "Failed: bad.jpg: not an image; shitu reads JPEG, PNG, WebP, BMP, TIFF, GIF or PPM\n"
    assert err.decode() == f"{refused}10 images embedded, 1 failed\n"


def read_terminal(ours: int) -> str:
    data = b""
    try:
        while block := os.read(ours, 65536):
            data += block
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    return data.decode("utf-8")
