"""What is looked at before a detector is trained: its batches, with the boxes that it is told of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import paddle

from shitu.errors import ConfigError
from shitu.training.base.sheet import Told, as_pixels, draw_sheet
from shitu.training.det.batches import DetLoader
from shitu.training.det.coco_data import read_coco
from shitu.training.det.plan import make_plan
from shitu.training.det.schema import DetConfig, Reader


def show_batches(config: DetConfig, count: int) -> list[Path]:
    """Draw the first `count` batches of one process: batch_1.png and so on in the run's folder. Raises ConfigError."""
    paddle.device.set_device("cpu")
    if config.TrainDataset is None:
        raise ConfigError(f"{config.source} has no TrainDataset; it says which images to train on")
    data = read_coco(config.TrainDataset, config.num_classes, what="a detector", training=True, seed=config.seed)
    order = make_plan(config, data, 1).sampler
    loader = DetLoader(
        data, config.TrainReader, "TrainReader", seed=config.seed, workers=config.worker_num, replace=True
    )
    black, white = _black_and_white(config.TrainReader)
    paths = []
    with closing(loader.epoch(order, 0, 0)) as batches:
        for number, batch in zip(range(1, count + 1), batches, strict=False):
            told = [
                Told(", ".join(dict.fromkeys(data.names[c] for c in classes.flatten().tolist())), boxes.numpy())
                for boxes, classes in zip(batch.boxes, batch.classes, strict=True)
            ]
            pictures = as_pixels(batch.images.numpy(), black, white)
            paths.append(draw_sheet(pictures, told, config.run_dir / f"batch_{number}.png"))
    return paths


def _black_and_white(reader: Reader) -> tuple[Sequence[float], Sequence[float]]:
    """What NormalizeImage, as ppdet has it, makes of 0 and 255."""
    operators = (*reader.sample_transforms, *reader.batch_transforms)
    options = next(each["NormalizeImage"] or {} for each in operators if "NormalizeImage" in each)
    mean, std = np.asarray(options.get("mean", [0, 0, 0])), np.asarray(options.get("std", [1, 1, 1]))
    if options.get("norm_type", "mean_std") != "mean_std":
        mean, std = np.zeros(3), np.ones(3)
    white = (1.0 if options.get("is_scale", True) else 255.0) * np.ones(3)
    return (-mean / std).tolist(), ((white - mean) / std).tolist()
