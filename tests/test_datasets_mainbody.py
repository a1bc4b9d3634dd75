"""Mainbody annotations: miniatures of the five original layouts -> COCO files that pycocotools and ppdet open."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.dataset_commands import run
from tests.mainbody_sets import coco, converted, image, opened, picture, voc, write_json
from tests.own_data import examples

pytest.importorskip("pycocotools", reason="needs the train extra")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# The five layouts


def test_coco2017() -> None:
    picture("c/train2017/000000000009.jpg")
    picture("c/train2017/000000000025.jpg")
    picture("c/train2017/000000000030.jpg")
    images = [image(9, "000000000009.jpg"), image(25, "000000000025.jpg"), image(30, "000000000030.jpg")]
    content = coco(images, [(9, [1.08, 2.5, 10, 20]), (9, [5, 5, 5, 5]), (30, [0, 0, 60, 40])])
    content["annotations"][2]["iscrowd"] = 1
    write_json("c/annotations/instances_train2017.json", content)
    assert converted("coco2017", "c") == {
        "train2017/000000000009.jpg": [[1.08, 2.5, 10, 20], [5, 5, 5, 5]],
        "train2017/000000000025.jpg": [],  # a picture of background; the third had a crowd and nothing else
    }


def test_rpc_starts_with_a_byte_order_mark() -> None:
    picture("r/train2019/6970169_camera0-1.jpg")
    content = coco([image(0, "6970169_camera0-1.jpg")], [(0, [10, 10, 20, 20])])
    write_json("r/instances_train2019.json", content, "utf-8-sig")
    assert converted("rpc", "r") == {"train2019/6970169_camera0-1.jpg": [[10, 10, 20, 20]]}


@pytest.mark.parametrize("place", ["train/patch8", "images/v1/patch8", "train/images/v1/patch8"])
def test_objects365_wherever_the_patches_lie(place: str) -> None:
    picture(f"o/{place}/objects365_v1_00420917.jpg")
    content = coco([image(420917, "images/v1/patch8/objects365_v1_00420917.jpg")], [(420917, [1, 2, 3, 4])])
    write_json("o/annotations/zhiyuan_objv2_train.json", content)
    assert converted("objects365", "o") == {f"{place}/objects365_v1_00420917.jpg": [[1, 2, 3, 4]]}


@pytest.mark.parametrize("header", ["", "image,xmin,ymin,xmax,ymax\n"])
@pytest.mark.parametrize("outer", ["", "personai_icartoonface_dettrain/"])
def test_icartoonface_reads_the_sizes_from_the_images(header: str, outer: str) -> None:
    name = "personai_icartoonface_dettrain_00001.jpg"
    picture(f"i/{outer}icartoonface_dettrain/{name}", (30, 50), orientation=6)
    lines = f"{header}{name},1,2,11,22\n{name},40,5,60,35\n"
    Path(f"i/{outer}icartoonface_dettrain.csv").write_text(lines)
    path = f"{outer}icartoonface_dettrain/{name}"
    assert converted("icartoonface", "i") == {path: [[1, 2, 10, 20], [40, 5, 10, 25]]}
    assert opened("out.json")[1] == {path: (50, 30)}  # upright, as ppdet decodes it


def test_logodet3k() -> None:
    for name in ("Food/7 Up/1", "Food/7 Up/2", "Clothes/李宁/1"):
        picture(f"l/{name}.jpg")
        voc(f"l/{name}.xml", (1, 2, 31, 22), (5, 5, 10, 10))
    voc("l/Food/7 Up/2.xml", (1, 2, 31, 22), w=0, h=0)  # a size that is none: read from the image
    assert converted("logodet3k", "l") == {
        "Clothes/李宁/1.jpg": [[1, 2, 30, 20], [5, 5, 5, 5]],
        "Food/7 Up/1.jpg": [[1, 2, 30, 20], [5, 5, 5, 5]],
        "Food/7 Up/2.jpg": [[1, 2, 30, 20]],
    }


# What happens to boxes and images


def test_boxes_are_clipped_and_those_without_area_dropped() -> None:
    picture("a.png")
    picture("b.png")
    boxes = [
        (1, [-5, -5, 15, 15]),
        (1, [50, 30, 100, 100]),
        (1, [10, 10, 0, 5]),
        (1, [10, 10, -4, 5]),
        (1, [70, 10, 5, 5]),
        (1, [float("nan"), 1, 2, 3]),
        (1, [1, 2, 3]),
        (1, None),
        (1, [1, 1, 10**400, 5]),
        (1, [20, 20, 3, 3]),
        (2, [0, 0, 0, 0]),
    ]
    write_json("x.json", coco([image(1, "a.png"), image(2, "b.png")], boxes))
    done = run("mainbody", "coco", "x.json", "-o", "out.json", "--min-area", 10)
    assert done.exit_code == 0
    assert opened("out.json")[0] == {"a.png": [[0, 0, 10, 10], [50, 30, 10, 10]]}
    for line in (
        "4 boxes that are none",
        "4 boxes without area",
        "1 boxes below 10 square pixels",
        "1 images left without",
    ):
        assert line in done.stderr


def test_max_boxes_leaves_the_image_out() -> None:
    picture("a.png")
    picture("b.png")
    write_json(
        "x.json", coco([image(1, "a.png"), image(2, "b.png")], [(1, [1, 1, 5, 5])] * 3 + [(2, [1, 1, 5, 5])] * 2)
    )
    assert list(converted("coco", "x.json", "--max-boxes", 2)) == ["b.png"]


def test_missing_images_fail_or_are_passed_over() -> None:
    picture("a.png")
    write_json("x.json", coco([image(1, "a.png"), image(2, "gone.png")], [(1, [1, 1, 5, 5]), (2, [1, 1, 5, 5])]))
    done = run("mainbody", "coco", "x.json", "-o", "out.json")
    assert done.exit_code == 1
    assert "gone.png: no such file below ." in done.stderr
    assert list(opened("out.json")[0]) == ["a.png"]
    assert list(converted("coco", "x.json", "--skip-missing")) == ["a.png"]


def test_random_boxes_against_a_plain_twin() -> None:
    random = np.random.default_rng(0)
    picture("a.png")
    boxes = np.round(random.uniform(-30, 70, (300, 4)), 1).tolist()
    write_json("x.json", coco([image(1, "a.png")], [(1, box) for box in boxes]))
    twin = []
    for left, top, width, height in boxes:
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, 60), min(top + height, 40)
        if x2 - x1 > 0.01 and y2 - y1 > 0.01:
            twin.append([x1, y1, x2 - x1, y2 - y1])
    assert np.allclose(converted("coco", "x.json")["a.png"], twin, atol=0.01)


def test_ppdet_reads_the_file() -> None:
    pytest.importorskip("ppdet", reason="needs paddledet")
    from shitu.training.base.toolkits import ppdet

    picture("data/train2017/1.jpg")
    write_json("data/annotations/instances_train2017.json", coco([image(1, "1.jpg")], [(1, [1, 2, 30, 20])]))
    converted("coco2017", "data")
    source = ppdet("data.source.coco").COCODataSet(
        "data", "", os.path.abspath("out.json"), ["image", "gt_bbox", "gt_class"]
    )
    source.parse_dataset()
    (record,) = source.roidbs
    assert record["im_file"] == "data/train2017/1.jpg"
    assert (record["gt_bbox"].tolist(), record["gt_class"].tolist()) == ([[1, 2, 31, 22]], [[0]])


# Merging


def test_merged_files_have_new_ids_and_prefixes() -> None:
    write_json("a.json", coco([image(5, "1.jpg"), image(6, "2.jpg")], [(5, [1, 1, 5, 5]), (6, [2, 2, 5, 5])]))
    write_json("b=.json", coco([image(5, "1.jpg")], [(5, [3, 3, 5, 5]), (5, [4, 4, 5, 5])]))
    done = run("mainbody-merge", "set a/train=a.json", "b=.json", "-o", "all.json")
    assert done.exit_code == 0
    assert opened("all.json")[0] == {
        "set a/train/1.jpg": [[1, 1, 5, 5]],
        "set a/train/2.jpg": [[2, 2, 5, 5]],
        "1.jpg": [[3, 3, 5, 5], [4, 4, 5, 5]],
    }


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a.json", "a.json"), "1.jpg is listed twice"),
        (("../up=a.json",), "prefix '../up': it leaves the folder"),
        (("/abs=a.json",), "prefix '/abs': it is absolute"),
        (("x=gone.json",), "gone.json: No such file"),
        (("unsized.json",), "no width and height"),
    ],
)
def test_files_that_cannot_be_merged(files: tuple[str, ...], said: str) -> None:
    write_json("a.json", coco([image(5, "1.jpg")], []))
    write_json("unsized.json", coco([{"id": 1, "file_name": "1.jpg"}], []))
    done = run("mainbody-merge", *files, "-o", "all.json")
    assert done.exit_code == 2
    assert said in done.stderr
    assert sorted(os.listdir()) == ["a.json", "unsized.json"]


def test_the_examples_of_the_page_run() -> None:
    for folder, split in (("coco/annotations", 2017), ("rpc", 2019)):
        picture(f"datasets/{folder.split('/')[0]}/train{split}/1.jpg")
        write_json(f"datasets/{folder}/instances_train{split}.json", coco([image(1, "1.jpg")], [(1, [1, 1, 5, 5])]))
    commands = examples("datasets/mainbody.md")
    assert len(commands) == 3
    for command in commands:
        assert run(*command).exit_code == 0
    assert list(opened("datasets/mainbody.json")[0]) == ["coco/train2017/1.jpg", "rpc/train2019/1.jpg"]
