"""fetch_model and `shitu models` against a mirror on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from shitu import resources
from shitu.cli.models import models
from shitu.errors import DownloadError, ModelError, UsageError
from shitu.models import download as download_module
from shitu.models import open_model
from shitu.models.fetch import fetch_model
from shitu.models.known import known_model
from shitu.models.verify import verify_model
from tests.test_download import serving, status

GENERAL = "general_PPLCNetV2_base_pretrained_v1.0_infer"
KNOWN = known_model(GENERAL)
assert KNOWN is not None


def program(inside: bytes = b"blocks") -> bytes:
    """The least that is a ProgramDesc: field 1, a block."""
    return b"\x0a" + bytes([len(inside)]) + inside


def weights(size: int = 70_000) -> bytes:
    """One tensor of bytes (uint8) that fills a .pdiparams of `size`."""
    count = size - 27
    number = bytes(((count >> shift) & 0x7F) | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21))
    description = b"\x08\x14\x10" + number
    head = bytes(4) + bytes(8) + bytes(4) + len(description).to_bytes(4, "little") + description
    return head + bytes(range(1, 8)) * (count // 7) + b"w" * (count % 7)


FILES = {"inference.pdmodel": program(), "inference.pdiparams": weights(), "inference.pdiparams.info": b"i"}


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def official(files: dict[str, bytes] = FILES, folder: str = f"{GENERAL}/") -> bytes:
    return tar_of({f"{folder}{name}": content for name, content in files.items()})


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server of `server.archive`, set as the mirror; downloads go to tmp/home/models."""
    monkeypatch.setattr(resources, "bundled", lambda name: tmp_path / "bundled")
    monkeypatch.setattr(download_module, "PAUSES_S", (0.01,))
    monkeypatch.setenv("SHITU_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    with serving(lambda handler: bool(handler.answer(content=handler.server.archive))) as server:
        server.archive = official()
        monkeypatch.setenv("SHITU_MODELS_URL", f"{server.url}/mirror/")
        yield server


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, list(arguments))


def left(home: Path) -> list[str]:
    """What stands in a home, but for the lock's file, which stays."""
    return sorted(path.name for path in home.iterdir() if not path.name.endswith(".lock"))


def test_fetch_open_verify_and_fetch_again(tmp_path: Path, mirror: Any) -> None:
    home = tmp_path / "home" / "models"
    path = fetch_model(KNOWN, home, base_url=f"{mirror.url}/mirror/")
    assert mirror.paths == [f"/mirror/dygraph/rec/models/inference/PP-ShiTuV2/{GENERAL}.tar"]
    assert left(home) == [GENERAL]
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    record = yaml.safe_load((path / "shitu-download.yaml").read_text())
    assert record["url"].startswith(mirror.url)
    assert set(record["files"]) == set(FILES)
    assert record["archive"]["size"] == len(mirror.archive)
    assert path.stat().st_mode & 0o777 == 0o755
    assert open_model(f"./models/{GENERAL}", task="recognition").path == path
    assert verify_model(path) == []
    assert fetch_model(KNOWN, home, base_url=mirror.url) == path
    assert len(mirror.paths) == 1


@pytest.mark.parametrize("folder", ["", "another_name/", f"{GENERAL}/"])
def test_archives_with_another_folder_or_none(tmp_path: Path, mirror: Any, folder: str) -> None:
    mirror.archive = official(folder=folder)
    assert verify_model(fetch_model(KNOWN, tmp_path / "h", base_url=mirror.url)) == []


def test_flipped_byte_is_found_and_not_overwritten(tmp_path: Path, mirror: Any) -> None:
    path = fetch_model(KNOWN, tmp_path / "home" / "models", base_url=mirror.url)
    changed = bytearray(FILES["inference.pdiparams"])
    changed[5] ^= 1
    (path / "inference.pdiparams").write_bytes(changed)
    with pytest.raises(
        ModelError, match=r"is damaged: inference.pdiparams: SHA-256 .*; delete the folder and run again"
    ):
        fetch_model(KNOWN, tmp_path / "home" / "models", base_url=mirror.url)
    result = run("verify")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert f"{GENERAL}: WRONG: inference.pdiparams: SHA-256" in result.output
    (path / "shitu-download.yaml").write_text("files: {../x: {size: 1, sha256: 0}}")
    assert "which is outside the folder" in verify_model(path)[0]


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (tar_of({"../evil": b"x"}), "its member '../evil' was refused by Python"),
        (official({"readme": b"x"}), "the archive holds no model"),
        (official({"inference.pdmodel": b"x"}), "its weights, inference.pdiparams, are missing"),
        (official({**FILES, "inference.pdmodel": b"<html>log in"}), "it is not a program"),
        (official({**FILES, "inference.pdiparams": weights()[:-1]}), "it ends inside tensor 1"),
        (official({**FILES, "inference.pdmodel": program(b"\x0cscale_factor")}), "is a detection model"),
        (official()[:2000], "the archive is damaged"),
        (b"<html>please log in</html>", "the archive is damaged"),
        (b"", "the archive is damaged"),
    ],
    ids=["evil", "no model", "half a model", "no program", "cut weights", "a detector", "truncated", "page", "empty"],
)
def test_bad_archives_leave_nothing(tmp_path: Path, mirror: Any, archive: bytes, words: str) -> None:
    mirror.archive = archive
    if not archive:
        mirror.act = status(200)
    home = tmp_path / "h"
    with pytest.raises(DownloadError) as caught:
        fetch_model(KNOWN, home, base_url=mirror.url)
    assert words in str(caught.value)
    assert f"or unpack the archive by hand, so that {home / GENERAL} holds inference.pdmodel (or .json)" in str(
        caught.value
    )
    assert left(home) == []
    assert not (tmp_path / "evil").exists()


def test_mainbody_of_another_size_is_refused(tmp_path: Path, mirror: Any) -> None:
    mainbody = known_model("picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer")
    assert mainbody is not None
    with pytest.raises(DownloadError, match="has 70000 bytes, the official one 26542897"):
        fetch_model(mainbody, tmp_path / "h", base_url=mirror.url)
    assert left(tmp_path / "h") == []


def test_two_at_once_download_once(tmp_path: Path, mirror: Any) -> None:
    mirror.act = lambda handler: handler.answer(content=mirror.archive, pause=0.05)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch_model(KNOWN, tmp_path / "h", base_url=mirror.url), range(2)))
    assert paths == [tmp_path / "h" / GENERAL] * 2
    assert len(mirror.paths) == 1
    assert verify_model(paths[0]) == []


def test_a_killed_process_is_no_hindrance(tmp_path: Path, mirror: Any) -> None:
    home, go_on = tmp_path / "home" / "models", threading.Event()

    def stall(handler: Any) -> bool:
        handler.answer(content=mirror.archive, cut=40_000)
        return go_on.wait(3)

    mirror.act = stall
    code = "import sys, pathlib; from shitu.models.fetch import fetch_model as f; from shitu.models import known"
    code += "; f(known.known_model(sys.argv[1]), pathlib.Path(sys.argv[2]), base_url=sys.argv[3])"
    command = [sys.executable, "-c", code, GENERAL, str(home), f"{mirror.url}/mirror"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    )
    part = home / f".{GENERAL}.tar.part"
    deadline = time.monotonic() + 4
    while not (part.exists() and part.stat().st_size == 40_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    (home / f".{GENERAL}.unpacking-left").mkdir()  # of another one, killed later
    assert "not downloaded" in run("list").output
    mirror.act = lambda handler: handler.answer(content=mirror.archive)
    assert run("download", GENERAL).output == f"{GENERAL}: downloaded to {home / GENERAL}\n"
    assert left(home) == [GENERAL]


def test_download_command(tmp_path: Path, mirror: Any) -> None:
    home = tmp_path / "home" / "models"
    assert run("download", GENERAL).output == f"{GENERAL}: downloaded to {home / GENERAL}\n"
    again = run("download", GENERAL)
    assert (again.exit_code, again.output) == (0, f"{GENERAL}: already at {home / GENERAL} and verified\n")
    (home / GENERAL / "shitu-download.yaml").unlink()
    assert "its checksums are not on record" in run("download", GENERAL).output
    assert run("verify").output == f"{GENERAL}: complete, but no checksums are on record\n"
    run("download", "--dir", str(tmp_path / "elsewhere"), f"{GENERAL}/")
    assert verify_model(tmp_path / "elsewhere" / GENERAL) == []


def test_download_command_goes_on_with_the_others(tmp_path: Path, mirror: Any) -> None:
    mirror.act = lambda handler: (
        handler.answer(content=mirror.archive) if GENERAL in handler.path else status(404)(handler)
    )
    result = run("download", "--all")
    assert isinstance(result.exception, DownloadError)
    assert str(result.exception).count("404") == 12
    assert result.output == f"{GENERAL}: downloaded to {tmp_path / 'home' / 'models' / GENERAL}\n"


def test_download_command_refuses(tmp_path: Path, mirror: Any) -> None:
    (tmp_path / "bundled" / "ours").mkdir(parents=True)
    for arguments, words in {
        ("download",): "wanted either names of models or --all",
        ("download", "--all", GENERAL): "wanted either",
        ("download", GENERAL[:-6]): f"no model {GENERAL[:-6]} can be downloaded; did you mean {GENERAL}?",
        ("download", "ours"): "no model ours can be downloaded; it is bundled",
        ("download", "qqq"): "see `shitu models list`",
    }.items():
        error = run(*arguments).exception
        assert isinstance(error, UsageError)
        assert words in str(error)
    assert isinstance(run("download", "--url", "ftp://x", GENERAL).exception, DownloadError)
    (tmp_path / "file").write_text("")
    error = run("download", "--dir", str(tmp_path / "file" / "x"), GENERAL).exception
    assert "choose another --dir" in str(error)


def test_list_command(tmp_path: Path, mirror: Any) -> None:
    run("download", GENERAL)
    (tmp_path / "bundled" / "broken").mkdir(parents=True)
    ours = tmp_path / "bundled" / "ours"
    ours.mkdir()
    (ours / "inference.json").write_bytes(b"12345")
    (ours / "inference.pdiparams").write_bytes(b"12345")
    rows = {row["name"]: row for row in map(json.loads, run("list", "--format", "json").output.splitlines())}
    assert len(rows) == 13 + 2
    assert set(rows["ours"]) == {"name", "task", "size", "where", "licence", "dimension"}
    assert (rows["ours"]["where"], rows["ours"]["size"]) == ("bundled", 10)
    assert rows["broken"]["where"] == "bundled (damaged)"
    assert rows[GENERAL]["where"] == str(tmp_path / "home" / "models" / GENERAL)
    assert (rows[GENERAL]["task"], rows[GENERAL]["dimension"]) == ("recognition", 512)
    assert rows["ppyolov2_r50vd_dcn_mainbody_v1.0_infer"]["size"] == 210_500_000
    table = run("list").output.splitlines()
    assert table[0].split() == ["name", "task", "size", "where", "licence", "dimension"]
    assert len(table) == 2 + len(rows)


def test_verify_command(tmp_path: Path, mirror: Any) -> None:
    nothing = run("verify")
    assert (nothing.exit_code, nothing.output) == (0, "no models here\n")
    run("download", GENERAL)
    assert run("verify", GENERAL).output == f"{GENERAL}: ok\n"
    assert run("verify", str(tmp_path / "home" / "models" / GENERAL)).output == f"{GENERAL}: ok\n"
    error = run("verify", "qqq").exception
    assert isinstance(error, ModelError)
    assert str(error).startswith("no model qqq: there is no such folder")


@pytest.mark.parametrize("command", [[], ["list"], ["download"], ["verify"]])
def test_help_ends_with_an_example_that_parses(tmp_path: Path, mirror: Any, command: list[str]) -> None:
    *_, heading, example = run(*command, "--help").output.rstrip().splitlines()
    assert heading.strip() == "Example:"
    program, group, *arguments = example.split()
    assert (program, group) == ("shitu", "models")
    assert arguments[: len(command)] == command
    mirror.archive = official({**FILES, "inference.pdiparams": weights(26_542_897)}, folder="")
    assert run(*arguments).exit_code == 0


def test_what_was_downloaded_and_is_no_such_model_is_not_called_ok(tmp_path: Path, mirror: Any) -> None:
    """Its record was made of whatever had come, so that it agreed with it."""
    path = fetch_model(KNOWN, tmp_path / "home" / "models", base_url=mirror.url)
    record = yaml.safe_load((path / "shitu-download.yaml").read_text())
    for content in (b"<html>please log in</html>", program(b"\x0cscale_factor")):
        (path / "inference.pdmodel").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        record["files"]["inference.pdmodel"] = {"size": len(content), "sha256": sha256}
        (path / "shitu-download.yaml").write_text(yaml.safe_dump(record))
        result = run("verify", GENERAL)
        assert (result.exit_code, f"{GENERAL}: WRONG: " in result.output) == (1, True)
