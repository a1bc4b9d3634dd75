"""COCO files checked before any work, nothing downloaded, and batches that are functions of their number alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.errors import ConfigError, EngineError, ShituError
from shitu.training.det.batches import DetBatch, DetLoader, Order
from shitu.training.det.coco_data import DetData, read_coco
from shitu.training.det.schema import COCODataSet, load_det_config
from shitu.training.det.transforms import compile_reader
from tests.train_det_set import CONFIG, small, write_coco_set

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    write_coco_set(folder, images=12)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """ppdet's data set downloads COCO where a path is wrong; ours must never try."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def read(folder: Path, num_classes: int = 1, training: bool = True, **keys: Any) -> DetData:
    section = COCODataSet(**{"dataset_dir": str(folder), "anno_path": "train.json", **keys})
    return read_coco(section, num_classes, what="TrainDataset", training=training)


def changed(folder: Path, coco: Path, change: Change) -> Path:
    """A copy of the set whose annotation file is changed."""
    shutil.copytree(coco, folder, dirs_exist_ok=True)
    content = json.loads((coco / "train.json").read_text("utf-8"))
    change(content)
    (folder / "train.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_images_boxes_and_classes_come_as_written(coco: Path) -> None:
    content = json.loads((coco / "train.json").read_text("utf-8"))
    data = read(coco)
    assert len(data) == 12
    for index, image in enumerate(content["images"]):
        boxes = [each["bbox"] for each in content["annotations"] if each["image_id"] == image["id"]]
        assert data.paths[index] == str(coco / image["file_name"])
        assert data.sizes[index].tolist() == [image["height"], image["width"]]
        assert data.xyxy[data.boxes_of(index)].tolist() == [[x, y, x + w, y + h] for x, y, w, h in boxes]


BAD: list[tuple[str, Change | str, dict[str, Any], str]] = [
    ("no file", lambda _: None, {"anno_path": "trian.json"}, "no annotation file {}/trian.json; it is "),
    ("not set", lambda _: None, {"anno_path": None}, "TrainDataset.anno_path is not set"),
    ("no folder", lambda _: None, {"image_dir": "pictures"}, "no folder {}/pictures; it is TrainDataset.dataset_dir"),
    ("wrong folder", lambda _: None, {"image_dir": "图"}, "none of the 12 images is in {}/图, such as 图/train_0.jpg"),
    ("half a file", '{"images": [', {}, "{}/train.json is not JSON"),
    ("a list", "[]", {}, "{}/train.json holds a list; wanted images, annotations and categories"),
    ("no boxes", lambda c: c.update(annotations=[]), {}, "has no boxes"),
    ("no categories", lambda c: c.pop("categories"), {}, "has no list `categories` (found: images, annotations)"),
    ("no images", lambda c: c.update(images=[]), {}, "`images` is empty"),
    ("80 classes", lambda c: c.update(categories=[{"id": k, "name": f"c{k}"} for k in range(1, 81)]), {},
     "has 80 categories (c1, c2, c3, c4, c5, ...), but num_classes is 1; count all as foreground with any_category"),
    ("same id", lambda c: c["images"][3].update(id=1), {}, "has the id 1 of another image"),
    ("no size", lambda c: c["images"][3].pop("width"), {}, "images[3] wants id, file_name, width and height"),
    ("text as box", lambda c: c["annotations"][0].update(bbox="1 2 3 4"), {}, "annotation 1 has the bbox 1 2 3 4"),
    ("NaN", lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 4]), {}, "annotation 1 has the bbox"),
    ("unknown image", lambda c: c["annotations"][0].update(image_id=99), {}, "image_id of an image"),
    ("outside", lambda c: c["annotations"][0].update(bbox=[500, 500, 10, 10]), {}, "1 boxes lie outside their images"),
    ("xyxy", lambda c: [a.update(bbox=[60, 60, 130, 110]) for a in c["annotations"]], {},
     "18 of 18 boxes stick out of their images"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "keys", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_files_are_told_of_at_once(
    change: Change | str, keys: dict[str, Any], said: str, coco: Path, tmp_path: Path
) -> None:
    if isinstance(change, str):
        folder = changed(tmp_path, coco, lambda _: None)
        (folder / "train.json").write_text(change, encoding="utf-8")
    else:
        folder = changed(tmp_path, coco, change)
    with pytest.raises(ConfigError) as caught:
        read(folder, **keys)
    assert said.format(folder) in str(caught.value)


def test_any_category_is_foreground_on_request(coco: Path, tmp_path: Path) -> None:
    def two(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 7, "name": "cup"}, {"id": 9, "name": "猫"}]
        for number, each in enumerate(content["annotations"]):
            each["category_id"] = (7, 9)[number % 2]

    folder = changed(tmp_path, coco, two)
    assert read(folder, any_category=True).classes.tolist() == [0] * 18
    data = read(folder, num_classes=2)
    assert (data.names, data.classes.tolist()) == (("cup", "猫"), [0, 1] * 9)


def test_boxes_that_stick_out_a_little_are_cut_off(coco: Path, tmp_path: Path) -> None:
    folder = changed(tmp_path, coco, lambda c: c["annotations"][0].update(bbox=[-1, -1, 60, 60]))
    assert read(folder).xyxy[0].tolist() == [0, 0, 59, 59]


def test_images_without_boxes_are_for_those_who_ask(coco: Path, tmp_path: Path) -> None:
    folder = changed(tmp_path, coco, lambda c: c.update(annotations=c["annotations"][6:]))
    assert len(read(folder)) == 8
    assert len(read(folder, allow_empty=True)) == 12
    assert len(read(folder, allow_empty=True, empty_ratio=0.2)) == 10
    assert len(read(folder, training=False)) == 12  # an evaluation counts what is found where nothing is


def test_crowds_are_for_the_evaluation_alone(coco: Path, tmp_path: Path) -> None:
    data = read(changed(tmp_path, coco, lambda c: c["annotations"][1].update(iscrowd=1)))
    assert len(data.xyxy) == 17
    assert [each["iscrowd"] for each in data.coco["annotations"]].count(1) == 1


# --- batches -----------------------------------------------------------------------------------------------------


def test_an_epoch_deals_out_each_image_once_to_streams_that_differ() -> None:
    order = Order(count=103, batch_size=5, streams=4, seed=3)
    assert len(order) == 5
    dealt = [order.batch(2, stream, step) for stream in range(4) for step in range(5)]
    assert len(set(np.concatenate(dealt).tolist())) == 100
    again, next_epoch = order.batch(2, 1, 3), order.batch(3, 1, 3)
    assert np.array_equal(again, dealt[8])
    assert not np.array_equal(again, next_epoch)


def test_two_processes_see_what_one_sees_with_twice_the_batch() -> None:
    one, two = Order(64, 8, 1, 0), Order(64, 4, 2, 0)
    for step in range(len(one)):
        both = np.concatenate([two.batch(0, 0, step), two.batch(0, 1, step)])
        assert np.array_equal(one.batch(0, 0, step), both)


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 images do not fill one batch of 2 x 4"):
        Order(3, 4, 2, 0)


def loaded(folder: Path, workers: int, **more: Any) -> DetLoader:
    reader = load_det_config(CONFIG, small(folder, folder, **more)).TrainReader
    return DetLoader(read(folder), reader, "TrainReader", seed=1, workers=workers, replace=True)


def batches(coco: Path, workers: int, start: int = 0, **more: Any) -> list[DetBatch]:
    return list(loaded(coco, workers, **more).epoch(Order(12, 4, 1, 1), 5, 0, start))


def same(one: DetBatch, other: DetBatch) -> bool:
    boxes = all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(one.boxes, other.boxes, strict=True))
    return boxes and np.array_equal(one.images.numpy(), other.images.numpy())


def test_a_batch_is_the_same_wherever_and_whenever_it_is_made(coco: Path) -> None:
    sizes = {"TrainReader.batch_transforms.0.BatchRandomResize.target_size": "[32, 64, 96, 128]"}
    whole, rest = batches(coco, 0, **sizes), batches(coco, 0, start=2, **sizes)
    assert len(whole) == 3
    assert len({batch.images.shape[2] for batch in whole}) > 1
    for shared in (True, False):
        others = batches(coco, 2, **sizes, **{"TrainReader.use_shared_memory": shared})
        assert all(map(same, whole, others)), shared
        assert not multiprocessing.active_children()
    assert same(whole[2], rest[0])
    assert not same(whole[0], whole[1])


@pytest.mark.parametrize("shared", [True, False])
def test_a_worker_that_is_killed_ends_the_epoch_with_an_error(coco: Path, shared: bool) -> None:
    loader = loaded(coco, 2, **{"TrainReader.use_shared_memory": shared})
    made = loader.epoch(Order(12, 1, 1, 1), 0, 0)
    next(made)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    assert workers[0].pid
    os.kill(workers[0].pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"loads images was killed \(SIGKILL\); .* worker_num"):
        list(made)
    assert not multiprocessing.active_children()


def test_images_and_boxes_are_transformed_together(coco: Path) -> None:
    """Without any augmentation but the size, a box is its share of the picture."""
    more = {
        "TrainReader.sample_transforms": "[{Decode: {}}]",
        "TrainReader.batch_transforms.0.BatchRandomResize.target_size": "[64]",
    }
    data = read(coco)
    for batch in batches(coco, 0, **more):
        assert batch.images.shape == [4, 3, 64, 64]
        for index, boxes in zip(batch.indices.tolist(), batch.boxes, strict=True):
            height, width = data.sizes[index]
            share = data.xyxy[data.boxes_of(index)] / [width, height, width, height]
            assert np.allclose(boxes.numpy() / 64, share, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_replaced_in_training_and_reported(
    workers: int, coco: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(tmp_path, coco, lambda c: c["images"][2].update(width=120, height=160))
    (folder / "图" / "train_5.jpg").write_bytes(b"no picture")
    loader = loaded(folder, workers)
    made = list(loader.epoch(Order(12, 4, 1, 1), 0, 0))
    assert {Path(path).name for path in loader.bad} == {"train_2.jpg", "train_5.jpg"}
    assert not {2, 5} & {index for batch in made for index in batch.indices.tolist()}
    assert "is 160 x 120, but its annotation says 120 x 160" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_but_bad_images_is_an_error_and_no_endless_search(workers: int, coco: Path, tmp_path: Path) -> None:
    folder = changed(tmp_path, coco, lambda _: None)
    for picture in (folder / "图").iterdir():
        picture.write_bytes(b"")
    with pytest.raises(ShituError, match="20 images in a row cannot be used"):
        batches(folder, workers)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("TrainReader.sample_transforms.1={RandomCorp: {}}", "unknown operator RandomCorp; did you mean RandomCrop?"),
        (
            "TrainReader.sample_transforms.2={RandomFlip: {prop: 1}}",
            "RandomFlip has no option prop; did you mean prob?",
        ),
        ("TrainReader.sample_transforms.1={DecodeCache: {cache_root: /tmp}}", "unknown operator DecodeCache"),
        (
            "TrainReader.batch_transforms.0={BatchRandomResize: {target_size: [100], keep_ratio: false}}",
            "multiples of 32",
        ),
        (
            "TrainReader.batch_transforms.0={BatchRandomResize: {target_size: [64], keep_ratio: true}}",
            "false is wanted",
        ),
        (
            "TrainReader.batch_transforms.0={BatchRandomResize: {keep_ratio: false}}",
            "BatchRandomResize wants target_size",
        ),
        ("TrainReader.batch_transforms=[{Permute: {}}]", "Resize or BatchRandomResize, NormalizeImage and Permute"),
        ("TrainReader.batch_transforms.1={NormalizeImage: {std: [0, 1, 1]}}", "std is invalid"),
    ],
)
def test_operators_are_checked(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_reader(load_det_config(CONFIG, (override,)).TrainReader, "TrainReader")
    assert said in str(caught.value)


def test_the_choice_of_empty_images_is_no_epoch_s_order(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[int] = []
    new = np.random.default_rng

    def noted(seed: Any) -> np.random.Generator:
        states.append(new(seed).bit_generator.state["state"]["state"])
        return new(seed)

    folder = changed(tmp_path, coco, lambda c: c.update(annotations=c["annotations"][6:]))
    monkeypatch.setattr("numpy.random.default_rng", noted)
    assert len(read(folder, allow_empty=True, empty_ratio=0.2)) == 10
    for epoch in range(6):
        Order(10, 5, 1, 0).batch(epoch, 0, 0)
    assert len(set(states)) == 7
