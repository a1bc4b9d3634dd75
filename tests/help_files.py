"""What the examples of the training commands take for granted: public sets, own data, weights."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from shitu.training.base.checkpoints import arrays, save_weights
from shitu.training.det.build import build_detector
from shitu.training.det.schema import load_det_config
from shitu.training.rec.networks import build_network
from shitu.training.rec.schema import load_train_config
from tests.conftest import ROOT
from tests.mainbody_sets import CATEGORIES, image
from tests.miniatures import write_all, write_lists
from tests.train_det_set import CONFIG, write_coco_set


def write_training_files(folder: Path) -> None:
    """Below `folder`, as the examples name them."""
    _datasets(folder)
    _own_data(folder)
    _weights(folder)


def write_foreign_networks(folder: Path) -> None:
    """ONNX files called as those that people bring."""
    from tests.foreign_networks import NOTES, embedder, yolo

    embedder(folder / "clip.onnx")
    yolo(folder / "yolov8n.onnx", {**NOTES, "names": "{0: 'bottle', 1: 'cup'}"})


def _datasets(folder: Path) -> None:
    write_all(folder / "datasets")
    write_lists(folder)
    coco = {
        "images": [image(1, "1.jpg")],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 20], "iscrowd": 0, "area": 400}],
        "categories": CATEGORIES,
    }
    for part in ("train2017", "val2017"):
        _picture(folder / "datasets" / "coco" / part / "1.jpg")
        _json(folder / "datasets" / "coco" / "annotations" / f"instances_{part}.json", coco)
    merged = {**coco, "categories": [{"id": 1, "name": "foreground"}]}
    merged["annotations"] = [{**each, "category_id": 1} for each in coco["annotations"]]
    for name in ("coco.json", "rpc.json"):
        _json(folder / name, merged)
    for name, images in (("train", 16), ("val", 2)):
        write_coco_set(folder / "dataset" / "mainbody", images=images, name=name)
    (folder / "dataset" / "mainbody" / "图").rename(folder / "dataset" / "mainbody" / "images")
    (folder / "dataset" / "mainbody" / "images" / "图").symlink_to(".")


def _own_data(folder: Path) -> None:
    for number in range(12):
        _picture(folder / "photos" / f"{number}.jpg", number)
        box = {"label": f"kind {number % 2}", "points": [[2, 2], [30, 30]], "shape_type": "rectangle"}
        content = {"version": "5.0.1", "imagePath": f"{number}.jpg", "imageData": None, "shapes": [box]}
        _json(folder / "photos" / f"{number}.json", content)
    lines = [f"{number}.jpg {number % 2}\n" for number in range(12)]
    for name, part in (("train", lines[:8]), ("query", lines[8:10]), ("gallery", lines[10:])):
        (folder / f"{name}.txt").write_text("".join(part))
    _picture(folder / "images" / "1.jpg")
    _json(
        folder / "instances.json",
        {
            "images": [image(1, "1.jpg")],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 20]}],
            "categories": CATEGORIES,
        },
    )


def _weights(folder: Path) -> None:
    config = load_train_config(ROOT / "configs" / "train" / "demo_cpu.yaml")
    network = build_network(config.Arch, 80, image_shape=config.Global.image_shape)
    save_weights(folder / "output" / "best_model", arrays(network))
    save_weights(folder / "best", arrays(build_detector(load_det_config(CONFIG, ()))))


def _picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), (20 * shade, 200, 250 - 20 * shade)).save(path)


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
