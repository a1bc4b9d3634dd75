"""`shitu gallery`: what is printed where, and the exit status."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from shitu.cli.gallery import gallery as group
from shitu.errors import GalleryError, UsageError
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.write.lock import write_lock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vectors = np.eye(8, dtype=np.float32)
    items = [Item(f"tea {n % 3}", f"a b/{n}.jpg", f"{n:064x}", (0, 0, n + 1, 2) if n else None) for n in range(8)]
    Gallery.create(tmp_path / "图 库", vectors, items, index_method="HNSW32", dist_type="IP", fingerprint="f")
    return tmp_path / "图 库"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def refused(result: Result, kind: type[Exception], text: str) -> None:
    assert isinstance(result.exception, kind)
    assert text in str(result.exception)
    assert result.stdout == ""


def test_info(folder: Path) -> None:
    result = call("info", folder)
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert (facts["entries"], facts["labels"], facts["index_method"]) == (8, 3, "HNSW32")
    table = call("info", folder, "--format", "table").stdout
    assert ["entries", "8"] in [line.split() for line in table.splitlines()]


def test_list(folder: Path) -> None:
    records = [json.loads(line) for line in call("list", folder).stdout.splitlines()]
    assert records[0] == {"id": 0, "label": "tea 0", "image": "a b/0.jpg", "sha256": "0" * 64, "box": None}
    assert records[7]["box"] == [0, 0, 8, 2]
    assert len(records) == 8


def test_verify(folder: Path) -> None:
    result = call("verify", folder)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "sound" in result.stderr
    (vectors,) = folder.glob("gen-*/vectors.bin")
    content = bytearray(vectors.read_bytes())
    content[4] = 7
    vectors.write_bytes(content)
    result = call("verify", folder)
    assert result.exit_code == 1
    assert "1 vector(s) (id 0) changed on disk" in result.stdout
    os.truncate(vectors, 10)
    result = call("verify", folder)
    assert result.exit_code == 1
    assert "has 10 bytes" in result.stdout


def test_remove_by_every_kind_of_request(folder: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "list.txt"
    wanted.write_text("a b/1.jpg\ttea 1\n\n4\na b/5.jpg\ttea 0\n99\n", encoding="utf-8-sig")
    result = call(
        "remove", folder, "--id", 0, "--label", "tea 2", "--image", "a b/7.jpg", "--image", "x", "--list", wanted
    )
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    # ids 0; 2 and 5; 7; 1 and 4
    assert (answer["removed"], answer["entries"]) == (6, 2)
    unmatched = ["--image x", f"{wanted}:4: a b/5.jpg\ttea 0", f"{wanted}:5: 99"]
    assert answer["unmatched"] == unmatched
    assert result.stderr.splitlines() == [f"{request}: no such entry" for request in unmatched]
    assert [json.loads(line)["id"] for line in call("list", folder).stdout.splitlines()] == [3, 6]


def test_remove_nothing(folder: Path, tmp_path: Path) -> None:
    result = call("remove", folder, "--id", 99)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"removed": 0, "entries": 8, "unmatched": ["--id 99"]}
    refused(call("remove", folder), UsageError, "--list")
    bad = tmp_path / "bad.txt"
    bad.write_text("only_a_path.jpg\n", encoding="utf-8")
    refused(call("remove", folder, "--list", bad), UsageError, "bad.txt:1")
    bad.write_bytes(b"\xb2\xe8\t1")
    refused(call("remove", folder, "--list", bad), UsageError, "UTF-8")
    assert len(Gallery.open(folder)) == 8


def test_compact(folder: Path) -> None:
    call("remove", folder, "--label", "tea 0")
    result = call("compact", folder)
    answer = json.loads(result.stdout)
    assert answer["entries"] == 5
    assert answer["bytes"] < answer["bytes_before"]
    assert [json.loads(line)["id"] for line in call("list", folder).stdout.splitlines()] == [1, 2, 4, 5, 7]


def test_export(folder: Path, tmp_path: Path) -> None:
    result = call("export", folder, "--to", tmp_path / "out")
    assert json.loads(result.stdout) == {"entries": 8, "to": str(tmp_path / "out"), "format": "paddleclas"}
    assert Gallery.open(tmp_path / "out").find(labels=["tea 1"]) == [1, 4, 7]


def test_the_folder_from_the_configuration(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"IndexProcess:\n  index_dir: {folder}\n", encoding="utf-8")
    assert json.loads(call("info", "-c", config).stdout)["entries"] == 8
    assert json.loads(call("info", "-o", f"IndexProcess.index_dir={folder}").stdout)["entries"] == 8
    refused(call("info"), UsageError, "folder")
    refused(call("info", "-c", config, "-o", "IndexProcess.index_dir=''"), UsageError, "index_dir is empty")


@pytest.mark.parametrize("command", ["info", "list", "verify", "compact"])
def test_no_gallery(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "absent", tmp_path / "empty"):
        refused(call(command, folder), GalleryError, "shitu build-gallery")
    assert not (tmp_path / "absent").exists()


def test_a_busy_gallery(folder: Path) -> None:
    import threading

    results: list[Result] = []
    with write_lock(folder):
        thread = threading.Thread(target=lambda: results.append(call("remove", folder, "--id", 1)))
        thread.start()
        thread.join()
    assert "is being written" in str(results[0].exception)


@pytest.mark.parametrize("command", [[], *([name] for name in group.commands)])
def test_each_help_ends_with_an_example(command: list[str]) -> None:
    lines = call(*command, "--help").stdout.strip().splitlines()
    assert lines[-1].startswith("    shitu gallery")


def test_through_the_whole_command_line(folder: Path) -> None:
    from shitu.cli import main

    runner = CliRunner()
    assert runner.invoke(main, ["gallery", "info", str(folder)]).exit_code == 0
    result = runner.invoke(main, ["gallery", "info", str(folder / "absent")])
    assert result.exit_code == 2
    assert "Error: there is no gallery" in result.stderr
