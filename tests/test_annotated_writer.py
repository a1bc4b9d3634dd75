"""Annotated pictures on disk: their names, and what they never overwrite."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shitu.draw.annotated_writer import AnnotatedWriter
from shitu.errors import ShituError, UsageError
from shitu.images.read import read_image

PICTURE = np.full((20, 30, 3), [200, 30, 60], dtype=np.uint8)


def listing(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("a/photo.jpg", "photo.jpg"),
        ("a/photo.JPEG", "photo.JPEG"),
        ("a/苹果.png", "苹果.png"),
        ("a/photo.webp", "photo.webp.jpg"),
        ("a/photo", "photo.jpg"),
        ("a/photo.v2.tif", "photo.v2.tif.jpg"),
        ("/", "image.jpg"),
    ],
)
def test_a_picture_keeps_the_name_of_its_image(tmp_path: Path, image: str, name: str) -> None:
    path = AnnotatedWriter(tmp_path / "new" / "output").write(image, PICTURE)
    assert path == tmp_path / "new" / "output" / name
    assert np.abs(read_image(path).astype(int) - PICTURE).max() <= 4
    with Image.open(path) as written:
        assert written.format == ("PNG" if name.endswith("png") else "JPEG")
    assert listing(path.parent) == [name]  # no unfinished file stays


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    def run() -> list[str]:
        writer = AnnotatedWriter(tmp_path / "out")
        images = ["a/photo.jpg", "b/photo.jpg", "x/b/photo.jpg", "b/PHOTO.jpg", "a/photo.jpg"]
        return [writer.write(str(tmp_path / image), PICTURE).name for image in images]

    names = run()
    assert names == ["photo.jpg", "b__photo.jpg", "x__b__photo.jpg", "b__PHOTO.jpg", "photo.jpg"][:3] + names[3:]
    assert len({name.lower() for name in names}) == 4
    assert names[4] == names[0]
    assert run() == names  # again, over the old pictures
    assert len(listing(tmp_path / "out")) == 4


def test_a_number_where_the_folders_do_not_tell(tmp_path: Path) -> None:
    writer = AnnotatedWriter(tmp_path / "out")
    paths = [writer.path_for(f"{tmp_path}/{top}/p/q/r/a.jpg") for top in ("1", "2", "3", "4", "5", "6")]
    assert len({path.name for path in paths}) == 6
    assert paths[0].name == "a.jpg"
    assert paths[5].name == "a_3.jpg"


def test_an_image_is_never_overwritten(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.fromarray(PICTURE).save(photo)
    before = photo.read_bytes()
    path = AnnotatedWriter(tmp_path).write(str(photo), PICTURE)
    assert path != photo
    assert photo.read_bytes() == before


def test_neither_is_an_image_that_is_read_later_nor_any_other_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    Image.fromarray(PICTURE).save(out / "photo.jpg")
    before = (out / "photo.jpg").read_bytes()
    writer = AnnotatedWriter(out)
    first = writer.write(str(tmp_path / "photo.jpg"), PICTURE)
    second = writer.write(str(out / "photo.jpg"), PICTURE)
    assert len({first, second, out / "photo.jpg"}) == 3
    assert (out / "photo.jpg").read_bytes() == before
    (out / "link.png").symlink_to(tmp_path / "elsewhere.png")
    assert writer.path_for("link.png").name != "link.png"


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        AnnotatedWriter(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot make this folder"):
        AnnotatedWriter(tmp_path / "file" / "below")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="no permission"):
        AnnotatedWriter(tmp_path / "new")


def test_a_picture_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = AnnotatedWriter(tmp_path)
    with pytest.raises(ShituError, match=r"wide.jpg: cannot write"):
        writer.write("wide.jpg", np.zeros((1, 70000, 3), dtype=np.uint8))
    assert listing(tmp_path) == []

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ShituError, match="No space left"):
        writer.write("a.jpg", PICTURE)
    assert listing(tmp_path) == []


def test_very_long_names(tmp_path: Path) -> None:
    writer = AnnotatedWriter(tmp_path)
    images = ["x" * 240 + ".webp", "y" * 240 + ".webp", "果" * 80 + ".jpg", "瓶" * 83 + ".jpg"]
    paths = [writer.write(image, PICTURE) for image in images]
    assert len(set(paths)) == 4
    assert all(len(os.fsencode(path.name)) <= 200 and path.suffix == ".jpg" for path in paths)
