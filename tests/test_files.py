"""Files and folders are replaced whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from shitu.digest import sha256_of
from shitu.files import replace_file, replace_folder


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)  # the name beside it must not be longer
    for content in (b"one", b"two"):
        replace_file(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
        path.chmod(0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    assert sha256_of(path) == hashlib.sha256(b"two").hexdigest()
    assert sha256_of(path, path) == hashlib.sha256(b"twotwo").hexdigest()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_what_fails_leaves_the_old_file(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def half(file: BinaryIO) -> None:
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, half, durable=durable)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for content in ("one", "two"):
        replace_folder(folder(tmp_path / "new", content), target)
        assert (target / "file").read_text() == content
        assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_replaced_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, new = folder(tmp_path / "target", "old"), folder(tmp_path / "new", "new")
    real = os.replace

    def refuse(source: Path, place: Path) -> None:
        if source == new:
            raise OSError("no")
        real(source, place)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        replace_folder(new, target)
    assert (target / "file").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [new, target]


def test_an_interrupt_after_the_swap_leaves_the_new_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, new = folder(tmp_path / "target", "old"), folder(tmp_path / "new", "new")
    real = os.replace

    def interrupted(source: Path, place: Path) -> None:
        real(source, place)
        if source == new:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(new, target)
    assert (target / "file").read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [target]
