"""Arguments to image files: folders, patterns, links, and arguments that mean nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shitu.errors import UsageError
from shitu.images import find as finder
from shitu.images.find import find_images, is_image_name


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(root: Path, *inputs: str) -> list[str]:
    return [os.path.relpath(path, root) for path in find_images(str(root / text) for text in inputs)]


def test_folders_are_searched_in_the_order_of_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "c/e.webp", "c/d/f.Tiff", "notes.txt", "z.jpeg", "jpg", "苹果/苹果.jpg")
    touch(tmp_path, ".hidden.jpg", "._b.JPG", ".git/g.jpg", "__MACOSX/a.png")
    assert found(tmp_path, "") == ["a.png", "b.JPG", "c/d/f.Tiff", "c/e.webp", "z.jpeg", "苹果/苹果.jpg"]


def test_files_are_taken_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b.dat", ".a.jpg", "x/c.jpg")
    assert found(tmp_path, "b.dat", ".a.jpg", "b.dat", "x") == ["b.dat", ".a.jpg", "b.dat", "x/c.jpg"]
    assert list(find_images(str(tmp_path / "b.dat"))) == [str(tmp_path / "b.dat")]


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/z/a.jpg", "out/b.jpg")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/a-link").symlink_to(tmp_path / "in/z")
    (tmp_path / "in/outside").symlink_to(tmp_path / "out")
    (tmp_path / "in/outside2").symlink_to(tmp_path / "out")
    (tmp_path / "in/gone.jpg").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path, "in") == ["in/gone.jpg", "in/z/a.jpg", "in/outside/b.jpg"]


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.png", "a/b/3.jpg", "a/b/c/4.jpg", "a/.h/5.jpg", "a/b/.6.jpg", "a/7.txt", "8[1].jpg")
    (tmp_path / "a/b/loop").symlink_to(tmp_path / "a")
    assert found(tmp_path, "a/*.jpg") == ["a/1.jpg"]
    assert found(tmp_path, "a/*") == ["a/1.jpg", "a/2.png"]
    assert found(tmp_path, "a/[12].*") == ["a/1.jpg", "a/2.png"]
    assert found(tmp_path, "?/b/*.jpg") == ["a/b/3.jpg"]
    assert found(tmp_path, "**/*.jpg") == ["8[1].jpg", "a/1.jpg", "a/b/3.jpg", "a/b/c/4.jpg"]
    assert found(tmp_path, "a/**") == ["a/1.jpg", "a/2.png", "a/b/3.jpg", "a/b/c/4.jpg"]
    assert found(tmp_path, "**/**/4.jpg") == ["a/b/c/4.jpg"]
    assert found(tmp_path, "8[1].jpg") == ["8[1].jpg"]
    assert found(tmp_path, "a/b/.*") == ["a/b/.6.jpg"]


def test_a_relative_pattern_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "2.jpg")
    monkeypatch.chdir(tmp_path)
    assert list(find_images(["**/*.jpg", "."])) == ["2.jpg", "a/1.jpg", "./2.jpg", "./a/1.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.jpg", "missing.jpg: no such file or folder"),
        ("empty", "no image in this folder or below it; looked for files ending in .jpg"),
        ("*.webp", "no image matches this pattern; looked for"),
        ("nowhere/**/*.jpg", "no image matches this pattern"),
    ],
)
def test_an_input_that_means_nothing_is_refused_before_work_starts(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.jpg", "empty/notes.txt")
    with pytest.raises(UsageError, match=message.replace("*", r"\*")):
        find_images([str(tmp_path / "a.jpg"), str(tmp_path / text)])  # not consumed


def test_no_input_is_refused() -> None:
    with pytest.raises(UsageError, match="no image was named"):
        find_images([])
    with pytest.raises(UsageError, match="an empty name"):
        find_images([""])


def test_folders_are_walked_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    results = find_images([str(tmp_path)])
    monkeypatch.setattr(finder, "_names", lambda folder: pytest.fail("looked into b too early"))
    assert next(results).endswith("1.jpg")


def test_an_unreadable_folder_below_is_reported_as_a_failed_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "secret/b.jpg")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("secret"))
    assert found(tmp_path, "") == ["a.jpg", "secret"]


@pytest.mark.parametrize(("name", "answer"), [("a.JpEg", True), ("a.jfif", True), ("a.pnm", True), ("a.svg", False)])
def test_image_names(name: str, answer: bool) -> None:
    assert is_image_name(name) is answer
    assert is_image_name(Path("x") / name) is answer
