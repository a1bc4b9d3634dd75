"""What is looked at before an extractor is trained: its batches, and how the loss answers to the learning rate."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from shitu.training.base import processes
from shitu.training.base.checkpoints import replace_file
from shitu.training.base.curves import draw_rates
from shitu.training.base.find_lr import STEPS, find_rate
from shitu.training.base.loop import Progress
from shitu.training.base.sheet import Told, as_pixels, draw_sheet
from shitu.training.rec.image_list import read_image_list
from shitu.training.rec.plan import make_plan, train_data
from shitu.training.rec.run import RecTask, settings_of, train_loader
from shitu.training.rec.schema import TrainConfig


def show_batches(config: TrainConfig, count: int, *, world: int = 1) -> list[Path]:
    """Draw the first `count` batches of a run over `world` processes, as its first process gets them.

    They are batch_1.png and so on in the run's folder. Raises as a run does before its first step.
    """
    processes.use_device("cpu")
    images = read_image_list(train_data(config).dataset, what="DataLoader.Train.dataset")
    plan = make_plan(config, images.labels, world)
    loader = train_loader(config, images, plan, rank=0)
    normalise = loader.transform.normalise
    black, white = normalise.table[:, 0].tolist(), normalise.table[:, 255].tolist()
    folder, paths = settings_of(config).folder, []
    with closing(loader.epoch(0)) as batches:
        for number, batch in zip(range(1, count + 1), batches, strict=False):
            planes = batch.images.numpy()
            pictures = as_pixels(planes[:, ::-1] if normalise.bgr else planes, black, white)
            told = [Told(str(images.original_labels[label])) for label in batch.labels.tolist()]
            paths.append(draw_sheet(pictures, told, folder / f"batch_{number}.png"))
    return paths


def find_lr(config: TrainConfig, *, steps: int = STEPS, progress: Progress) -> dict[str, Any] | None:
    """A learning rate for the config, as Optimizer.lr.learning_rate wants it; find_lr.png and .jsonl say why.

    The weights and batches are those with which a run would begin. None in all processes but the first.
    """
    processes.use_device(config.Global.device)
    rank, world = processes.start()
    task = RecTask(config, rank, world, resumes=False)
    found = find_rate(task, rank, steps=steps, progress=progress)
    if rank:
        return None
    folder, factor = settings_of(config).folder, task.plan.schedule.scaling.factor
    lines = [{"lr": lr, "loss": loss} for lr, loss in zip(found.rates, found.losses, strict=True)]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    replace_file(folder / "find_lr.jsonl", lambda file: file.write(text.encode()))
    picture = draw_rates(found, folder / "find_lr.png")
    told = {"learning_rate": found.tenth, "steepest": found.steepest}
    return {
        **{name: float(f"{rate / factor:.3g}") for name, rate in told.items()},
        **{"steps": len(lines), "picture": str(picture) if picture else None},
    }
