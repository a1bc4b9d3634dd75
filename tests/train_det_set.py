"""A small COCO set for the detector's tests: demo pictures on plain coloured ground, so that the boxes are known."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shitu.training.det.schema import DetConfig, load_det_config

DEMO = Path(__file__).parent.parent / "demo"
CONFIG = Path(__file__).parent.parent / "configs" / "det" / "picodet_lcnet_x1_0_320_mainbody.yml"


def write_coco_set(folder: Path, *, images: int = 16, seed: int = 0, name: str = "train") -> dict[str, Any]:
    """`folder`/NAME.json and `folder`/图/*.jpg: one or two cut-outs each on 160 x 120 or 120 x 160 pixels."""
    rng = np.random.default_rng(seed)
    pictures = sorted((DEMO / "gallery").rglob("*.png")) + sorted((DEMO / "gallery").rglob("*.jpg"))
    (folder / "图").mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "foreground", "supercategory": "foreground"}],
    }
    for number in range(images):
        width, height = ((160, 120), (120, 160))[number % 2]
        scene = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(60, 200, 3)))
        file_name = f"图/{name}_{number}.jpg"
        for part in range(1 + number % 2):
            side = int(rng.integers(36, 56))
            x, y = int(rng.integers(0, width - side)), part * height // 2 + int(rng.integers(0, height // 2 - side + 1))
            with Image.open(pictures[int(rng.integers(len(pictures)))]) as cut_out:
                scene.paste(cut_out.convert("RGB").resize((side, side)), (x, y))
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number + 1,
                    "category_id": 1,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                }
            )
        scene.save(folder / file_name, quality=92)
        content["images"].append({"id": number + 1, "file_name": file_name, "width": width, "height": height})
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return content


def small(folder: Path, save_dir: Path, **more: Any) -> tuple[str, ...]:
    """Overrides that make the light config train on such a set in seconds: 128 px, batches of 4."""
    values: dict[str, Any] = {
        "TrainDataset.dataset_dir": folder,
        "TrainDataset.image_dir": ".",
        "EvalDataset.dataset_dir": folder,
        "EvalDataset.image_dir": ".",
        "TrainReader.batch_size": 4,
        "TrainReader.batch_transforms.0.BatchRandomResize.target_size": "[96, 128]",
        "EvalReader.sample_transforms.1.Resize.target_size": "[128, 128]",
        "LCNet.scale": 0.25,
        "LearningRate.scaling": "none",
        "LearningRate.base_lr": 0.02,
        "LearningRate.schedulers.1.steps": 4,
        "worker_num": 0,
        "log_iter": 1,
        "snapshot_epoch": 1,
        "save_dir": save_dir,
        **more,
    }
    return tuple(f"{key}={value}" for key, value in values.items())


def config_of(coco: Path, save_dir: Path, **more: Any) -> DetConfig:
    return load_det_config(CONFIG, small(coco, save_dir, **more))


class Bar:
    """What takes the place of a progress bar."""

    def update(self, count: int) -> None:
        pass


def no_bar(_: int) -> AbstractContextManager[Any]:
    return nullcontext(Bar())
