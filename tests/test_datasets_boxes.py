"""LabelMe and COCO -> crops and lists: against pictures of known colours; and boxes that turn with their picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shitu.datasets.boxed_image import upright_boxes, upright_size
from shitu.datasets.crops import new_folder
from shitu.images.read import read_image
from tests.dataset_commands import run
from tests.own_data import COLOURS, coco, everything_but, labelme, lines, painted, picture, shape


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# LabelMe


def crops_by_name(folder: str, list_file: str) -> dict[str, np.ndarray]:
    names = dict(line.split("\t") for line in lines(Path(list_file).with_suffix(".classes.txt")))
    found = {}
    for line in lines(list_file):
        path, label = line.rsplit(None, 1)
        found[names[label]] = read_image(f"{folder}/{path}")
    return found


def test_crops_of_shapes_have_their_colours() -> None:
    painted("root/sub dir/a.png", {"红": (2, 3, 12, 23), "绿": (20, 10, 40, 30), "blue sky": (45, 0, 60, 40)})
    shapes = [
        shape("红", (12, 23), (2, 3)),  # drawn from the lower right
        shape("绿", (30, 20), (40, 20), kind="circle"),
        shape("blue sky", (45, 0), (70, 2), (50, 90), kind="polygon"),  # over the edge
        shape("point", (5, 5), kind="point"),
    ]
    labelme("root/sub dir/a.json", shapes, imageWidth=60, imageHeight=40)
    assert run("from-labelme", "root", "-o", "t.txt", "--crops", "crops").exit_code == 0
    found = crops_by_name("crops", "t.txt")
    assert {name: crop.shape[:2] for name, crop in found.items()} == {
        "红": (20, 10),
        "绿": (20, 20),
        "blue sky": (40, 15),
    }
    for name, crop in found.items():
        assert np.abs(crop.astype(int).mean((0, 1)) - COLOURS[name]).max() < 5


def test_whole_images_have_one_label() -> None:
    for name in "abcd":
        painted(f"root/{name}.png", {})
    labelme("root/a.json", [shape("红", (0, 0), (5, 5)), shape("红", (9, 9), (12, 12))])
    labelme("root/b.json", [shape("红", (0, 0), (5, 5)), shape("绿", (9, 9), (12, 12))], imagePath="b.png")
    labelme(
        "root/c.json",
        [],
        imagePath="C:\\Users\\me\\c.png",
        flags={"绿": True, "红": False},
        imageWidth=60,
        imageHeight=40,
    )
    labelme("root/d.json", [], imagePath="d.png")
    done = run("from-labelme", "root", "-o", "t.txt")
    assert done.exit_code == 1
    assert "b.png: several labels (['红', '绿'])" in done.stderr
    assert lines("t.txt") == ["a.png 0", "c.png 1"]
    assert lines("t.classes.txt") == ["0\t红", "1\t绿"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "holds a list"),
        ("{}", "`shapes` is no list"),
        ('{"shapes": [1]}', "`shapes` is no list"),
        ('{"shapes": [], "imagePath": "gone.png"}', "no image 'gone.png', and none beside it"),
        ('{"shapes": [], "imagePath": "../../secret.png"}', "no image '../../secret.png'"),
        ('{"shapes": [{"label": "x", "points": [[NaN, 1], [2, 3]]}], "imagePath": "a.png"}', "box 0 [nan"),
        ('{"shapes": [{"label": "x", "points": [[1, 1]]}], "imagePath": "a.png"}', "box 0 [nan"),
        ('{"shapes": [{"label": "x", "points": "no"}], "imagePath": "a.png"}', "box 0 [nan"),
        (
            '{"shapes": [{"label": "x", "points": [[70, 1], [80, 9]]}], "imagePath": "a.png"}',
            "leaves nothing of 60 x 40",
        ),
        ('{"shapes": [{"label": "x\\ny\\u0007", "points": [[1, 1], [9, 9]]}], "imagePath": "a.png"}', "not plain text"),
        ('{"shapes": [{"label": "\\ud800", "points": [[1, 1], [9, 9]]}], "imagePath": "a.png"}', "not plain text"),
        ('{"shapes": [], "imagePath": "' + "x" * 5000 + '"}', "no image 'xxx"),
        ('{"shapes": [{"label": 3, "points": [[1, 1], [9, 9]]}], "imagePath": "a.png"}', "the label '' is empty"),
        (
            '{"shapes": [{"label": "x", "points": [[1, 1], [9, 9]]}], "imagePath": "a.png", "imageWidth": 9, '
            '"imageHeight": 9}',
            "annotated at 9 x 9 pixels, but the picture has 60 x 40",
        ),
    ],
)
def test_bad_labelme_files(text: str, said: str) -> None:
    painted("root/a.png", {})
    picture("secret.png")
    Path("root/bad.json").write_text(text)
    done = run("from-labelme", "root", "-o", "t.txt", "--crops", "crops")
    assert done.exit_code == 2  # nothing is left
    assert said in done.stderr
    assert "nothing is written" in done.stderr
    assert everything_but("root", "secret.png") == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_picture(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rectangle's box as it lies in the stored pixels comes out where it lies in the upright ones."""
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[5:12, 30:50] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save("a.png", exif=exif)
    upright = read_image("a.png")
    ys, xs = np.nonzero(upright[..., 0])
    truth = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    size = (upright.shape[1], upright.shape[0])
    assert upright_size("a.png") == size
    assert np.array_equal(upright_boxes(np.array(truth, float), size, "a.png", size), truth)
    if orientation >= 5:  # otherwise the size does not tell which of the two was annotated
        moved = upright_boxes(np.array([[30.0, 5, 50, 12]]), (60, 40), "a.png", size)
        assert np.array_equal(moved, truth)


# COCO


def test_coco_crops_have_their_colours() -> None:
    painted("root/sub/a.png", {"红": (2, 3, 12, 23), "绿": (20, 10, 40, 30)})
    boxes = [
        {"bbox": [2, 3, 10, 20]},
        {"bbox": [20.4, 10.0, 19.9, 20], "category_id": 2},
        {"bbox": [0, 0, 60, 40], "category_id": 3, "iscrowd": 1},
        {"bbox": [0, 0, 2, 2]},  # below --min-size
    ]
    done = run("from-coco", coco(boxes), "--image-root", "root", "--crops", "crops", "-o", "t.txt", "--min-size", 3)
    assert done.exit_code == 0
    found = crops_by_name("crops", "t.txt")
    assert {name: crop.shape[:2] for name, crop in found.items()} == {"红": (20, 10), "绿": (20, 20)}
    for name, crop in found.items():
        assert np.abs(crop.astype(int).mean((0, 1)) - COLOURS[name]).max() < 5


def test_coco_whole_images() -> None:
    painted("root/sub/a.png", {})
    assert (
        run("from-coco", coco([{"bbox": [1, 1, 5, 5]}] * 2), "--image-root", "root", "--whole", "-o", "t.txt").exit_code
        == 0
    )
    assert (lines("t.txt"), lines("t.classes.txt")) == (["sub/a.png 0"], ["0\t红"])
    neither = run("from-coco", "coco.json", "-o", "t.txt")
    assert neither.exit_code == 2
    assert "--crops DIR" in neither.stderr


IMAGE = {"id": 7, "width": 60, "height": 40}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"images": [{**IMAGE, "file_name": "../secret.png"}]}, "it leaves the folder"),
        ({"images": [{**IMAGE, "file_name": "/etc/passwd.png"}]}, "it is absolute"),
        ({"images": [{**IMAGE, "file_name": "C:\\x.png"}]}, "it is absolute"),
        ({"images": [{**IMAGE, "file_name": "a\nb.png"}]}, "it holds a control character"),
        ({"images": [{**IMAGE, "file_name": 5}]}, "the file name '5': it is empty"),
        ({"images": [{**IMAGE, "file_name": "\ud800.png"}]}, "not UTF-8"),
        ({"images": [{**IMAGE, "file_name": "gone.png"}]}, "no such file"),
        ({"images": [{**IMAGE, "file_name": "x" * 5000}]}, "cannot be opened"),
        ({"categories": [{"id": 1, "name": "\ud800"}]}, "not plain text"),
        ({"images": [{**IMAGE, "file_name": "sub/a.png"}] * 2}, "1 images share an id"),
        ({"images": [{"file_name": "sub/a.png"}]}, "`id` is 'None'"),
        ({"images": {}}, "`images` is no list of objects"),
        ({"categories": [{"id": 1}]}, "has no `name`"),
        ({"annotations": [[]]}, "`annotations` is no list of objects"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [float("nan"), 1, 2, 3]}]}, "box 0 [nan"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 1, 10**400, 3]}]}, "box 0 [nan"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 1, -5, 3]}]}, "leaves nothing"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, "box 0 [nan"),
        (
            {"annotations": [{"image_id": 8, "category_id": 1, "bbox": [1, 1, 5, 3]}]},
            "1 annotations belong to no image",
        ),
    ],
)
def test_bad_coco_files(more: dict[str, Any], said: str) -> None:
    painted("root/sub/a.png", {})
    picture("secret.png")
    done = run(
        "from-coco", coco([{"bbox": [1, 1, 5, 5]}], **more), "--image-root", "root", "--crops", "c", "-o", "t.txt"
    )
    assert done.exit_code == 2
    assert said in done.stderr
    assert everything_but("root", "secret.png", "coco.json") == []


def test_a_folder_of_crops_is_whole_or_absent() -> None:
    def interrupted(folder: Path) -> Iterator[None]:
        (folder / "half.jpg").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_folder(Path("crops")) as folder:
        next(interrupted(folder))
    assert os.listdir() == []
    picture("crops/mine.png")
    painted("root/sub/a.png", {})
    done = run("from-coco", coco([{"bbox": [1, 1, 5, 5]}]), "--image-root", "root", "--crops", "crops", "-o", "t.txt")
    assert "not an empty folder" in done.stderr
    assert os.listdir("crops") == ["mine.png"]
