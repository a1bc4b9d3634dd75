"""data_file lines -> (image, label)."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu.build.list_file import Entry, read_list
from shitu.errors import ConfigError


def lines(tmp_path: Path, data: bytes, delimiter: str = "\t") -> list[tuple[str, str]]:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    return [(entry.image, entry.label) for entry in read_list(path, None, delimiter)]


@pytest.mark.parametrize(
    ("data", "delimiter", "expected"),
    [
        (b"a.jpg\tcola\n", "\t", [("a.jpg", "cola")]),
        (b"a.jpg\tcola zero 0.5 l", "\t", [("a.jpg", "cola zero 0.5 l")]),
        (b"my photos/a b.jpg\tcola zero\n", "\t", [("my photos/a b.jpg", "cola zero")]),
        ("图/苹果.jpg\t苹果 汁\n".encode(), "\t", [("图/苹果.jpg", "苹果 汁")]),
        ("\ufeffa.jpg\tcola\r\nb.jpg\tbeer\r\n".encode(), "\t", [("a.jpg", "cola"), ("b.jpg", "beer")]),
        (b"\n  \na.jpg\tcola\n\n", "\t", [("a.jpg", "cola")]),
        (b"a.jpg\tcola\t17\textra\n", "\t", [("a.jpg", "cola")]),
        (b"a.jpg Bravo Apple Juice\n", " ", [("a.jpg", "Bravo Apple Juice")]),
        (b"a.jpg;cola;zero\n", ";", [("a.jpg", "cola;zero")]),
        (b"a.jpg||cola\n", "||", [("a.jpg", "cola")]),
        (b"", "\t", []),
    ],
)
def test_lines(tmp_path: Path, data: bytes, delimiter: str, expected: list[tuple[str, str]]) -> None:
    assert lines(tmp_path, data, delimiter) == expected


def test_further_columns(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg cola zero\t1,2,3,4\t x \nb.jpg beer\n")
    assert [entry.more for entry in read_list(tmp_path / "list.txt", None, " ")] == [("1,2,3,4", "x"), ()]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a.jpg cola\n", r"list.txt:1: 'a.jpg cola': wanted an image and a label with '\\t' between them"),
        (b"ok.jpg\tx\na.jpg\t \n", "list.txt:2"),
        (b"\tcola\n", "wanted an image"),
        ("苹果.jpg\t苹果".encode("gb18030"), "is not UTF-8 text .* iconv -f GB18030"),
        (b"a\0.jpg\tcola\n", "NUL"),
    ],
)
def test_bad_lines(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lines(tmp_path, data)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.txt", tmp_path):
        with pytest.raises(ConfigError, match="data_file"):
            list(read_list(path, None, "\t"))


def test_image_root_and_absolute_paths(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\tx\n/abs/b.jpg\ty\n", encoding="utf-8")
    assert list(read_list(path, "/home/me/pictures", "\t")) == [
        Entry("a.jpg", "/home/me/pictures/a.jpg", "x", 1),
        Entry("/abs/b.jpg", "/abs/b.jpg", "y", 2),
    ]
