"""Rows -> a list file and its classes file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from shitu.datasets import write_list as write_list_module
from shitu.datasets.rows import Row, natural_key, path_problem
from shitu.datasets.write_list import write_list
from shitu.errors import ConfigError, UsageError


def test_natural_order() -> None:
    names = ["10", "9", "id_00000080", "id_00000007", "a2b10", "a2b9", "", "b", "007", "7", "苹果"]
    order = ["", "007", "7", "9", "10", "a2b9", "a2b10", "b", "id_00000007", "id_00000080", "苹果"]
    assert sorted(names, key=natural_key) == order
    assert natural_key("9" * 5000) > natural_key("8" * 5000)


def test_path_problems() -> None:
    for path in ("a.jpg", "a..b/c.jpg", "a b/ü.jpg", "...jpg"):
        assert path_problem(path) is None
    for path in (
        "../a.jpg",
        "/a.jpg",
        "C:\\a.jpg",
        "a\0b.jpg",
        "..\\a.jpg",
        "a/../b.jpg",
        "",
        " a.jpg",
        "a.jpg ",
        "a\tb.jpg",
        "a\u2028b.jpg",
        "\udcff.jpg",
        "..",
        "c:a.jpg",
    ):
        assert path_problem(path)


def test_writer_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    rows = [Row("a b.jpg", "x")]
    with pytest.raises(UsageError, match="--delimiter tab"):
        write_list(rows, tmp_path / "a.txt", delimiter="space")
    with pytest.raises(UsageError, match="is a folder"):
        write_list(rows, tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        write_list(rows, Path("/proc/nowhere/a.txt"))
    with pytest.raises(UsageError, match=r"prefix '\.\./x': it leaves"):
        write_list(rows, tmp_path / "a.txt", prefix="../x")
    with pytest.raises(ConfigError, match=r"no image is left for .*first left out: 'a b.jpg': it has no class"):
        write_list([Row("a b.jpg", " \n")], tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="no image is left"):
        write_list([], tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    write_list([Row("a.jpg", "x")], target)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_list_module, "_write_out", full)
    with pytest.raises(OSError, match="No space"):
        write_list([Row("b.jpg", "y")], target)
    assert target.read_text() == "a.jpg 0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.classes.txt", "a.txt"]


def test_labels_become_one_line(tmp_path: Path) -> None:
    write_list([Row("a.jpg", "b\tc\nd"), Row("b.jpg", "b c  d")], tmp_path / "a.txt")
    assert (tmp_path / "a.classes.txt").read_text() == "0\tb c d\n"


def test_memory_grows_with_classes_only(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write_list((Row(f"train/{n % 50}/{n}.jpg", str(n % 50)) for n in range(count)), tmp_path / "a.txt")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(20_000) < peak(2_000) + 100_000
