"""The columns of a list line; what each reader makes of them is in test_list_file, test_datasets_check and others."""

from __future__ import annotations

import doctest

import pytest

from shitu import list_line
from shitu.list_line import is_whole, split_label, splitter


def test_the_examples() -> None:
    assert doctest.testmod(list_line).failed == 0


@pytest.mark.parametrize("line", ["a.jpg\t3", "  a.jpg\t3  ", "a.jpg\t 3\r\n"])
def test_white_space_around_columns_is_no_part_of_them(line: str) -> None:
    assert splitter("\t", 2)(line) == splitter(" ", 2)(line) == split_label(line, "\t") == ["a.jpg", "3"]
    assert splitter(b"\t", 2)(line.encode()) == [b"a.jpg", b"3"]


@pytest.mark.parametrize("fields", [["a"], ["a", ""], ["a", "3", "7"], []])
def test_what_is_not_whole(fields: list[str]) -> None:
    assert not is_whole(fields, 2)
    assert is_whole(["a", "3"], 2)
