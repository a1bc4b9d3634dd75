"""`shitu train-det` from the config to the end of the run: checks first, then a summary, then the trainer."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import paddle

from shitu.errors import ConfigError
from shitu.training.base import device, processes
from shitu.training.base.earlier_run import begin, find_checkpoint
from shitu.training.base.learning_rate_table import learning_rate_table
from shitu.training.base.memory import estimate_memory
from shitu.training.det.build import build_detector
from shitu.training.det.coco_data import DetData, read_coco
from shitu.training.det.evaluate import Metrics, eval_data
from shitu.training.det.plan import Plan, make_plan
from shitu.training.det.schema import COCODataSet, CosineDecay, DetConfig
from shitu.training.det.trainer import Trainer
from shitu.training.det.transforms import compile_reader

_log = logging.getLogger("shitu")
Progress = Callable[[int], AbstractContextManager[Any]]  # the number of steps -> a bar with update(n)


def run_training(config: DetConfig, *, resume: bool, overwrite: bool, progress: Progress) -> Metrics:
    """Train as the config says; returns the best evaluation.

    Raises ConfigError and UsageError before anything is done, StoppedError when stopped, ShituError when it fails.
    """
    use_device(config)
    rank, world = processes.start()
    checkpoint = find_checkpoint(config.run_dir, resume=resume, overwrite=overwrite, key="save_dir", world=world)
    data, test = _data(config)
    plan = make_plan(config, data, world)
    trainer = Trainer(config, data, test, plan, rank=rank)
    if checkpoint:
        trainer.resume(checkpoint)
    elif rank == 0:
        begin(config.run_dir, config, overwrite=overwrite)
    if rank == 0:
        for line in _summary(config, data, test, plan, trainer.network):
            _log.info("%s", line)
    with processes.losing_none(world), progress(plan.total_steps) as bar:
        bar.update(trainer.step)
        trainer.on_step = lambda: bar.update(1)
        return trainer.run()


def dry_run(config: DetConfig, cards: int) -> list[str]:
    """What a run on so many cards would do, as lines; nothing is trained, written or downloaded."""
    paddle.device.set_device("cpu")
    data, test = _data(config)
    plan = make_plan(config, data, cards)
    network = build_detector(config)
    rates = learning_rate_table(
        plan.schedule,
        total_steps=plan.total_steps,
        warmup_steps=plan.schedule.warmup_steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    return [*_summary(config, data, test, plan, network), "", *rates]


def use_device(config: DetConfig) -> None:
    """As shitu.training.base.device.use_device; with the threads that the config wants on the CPU."""
    device.use_device("gpu" if config.use_gpu else "cpu")
    if config.cpu_threads:
        paddle.core.set_num_threads(config.cpu_threads)


def _data(config: DetConfig) -> tuple[DetData, DetData | None]:
    """TrainDataset and EvalDataset; also what can be known to be wrong with the readers."""
    compile_reader(config.TrainReader, "TrainReader")
    compile_reader(config.EvalReader, "EvalReader")
    section = config.TrainDataset
    if not isinstance(section, COCODataSet):
        raise ConfigError(f"{config.source} has no TrainDataset; it says which images to train on")
    data = read_coco(section, config.num_classes, what="TrainDataset", training=True, seed=config.seed)
    return data, eval_data(config) if config.EvalDataset is not None else None


# --- what is told before a run -----------------------------------------------------------------------------------


def _summary(config: DetConfig, data: DetData, test: DetData | None, plan: Plan, network: Any) -> Iterator[str]:
    boxes = np.diff(data.offsets)
    each = f"{boxes.min()} to {boxes.max()} each, median {np.median(boxes):g}"
    names = ", ".join(data.names[:5])
    yield f"data           {len(data):,} images, {len(data.xyxy):,} boxes ({each}), classes: {names}"
    yield f"evaluation     {f'{len(test):,} images' if test else 'none: no EvalDataset, so no best checkpoint either'}"
    parameters = sum(math.prod(p.shape) for p in network.parameters())
    yield f"network        PicoDet, LCNet x{config.LCNet.scale:g}, {parameters / 1e6:.2f} M parameters"
    cards = f"{plan.world} card{'s' if plan.world > 1 else ''}"
    yield f"batch          {plan.order.batch_size} images a card x {cards} = {plan.total_batch} images a step"
    yield f"steps          {plan.epochs} epochs of {plan.steps_per_epoch:,} steps, {plan.total_steps:,} in all"
    schedule = plan.schedule
    yield (
        f"learning rate  {schedule.peak:g} at its peak; {schedule.section.base_lr:g} in the config, "
        f"{schedule.scaling.reason}"
    )
    if schedule.warmup_steps >= plan.total_steps:
        yield f"               Warning: the warm-up of {schedule.warmup_steps} steps is not over when the run ends"
    decay = schedule.section.schedulers[0]
    if isinstance(decay, CosineDecay) and decay.max_epochs not in (None, config.epoch):
        yield f"               Warning: CosineDecay's max_epochs is {decay.max_epochs}, but epoch is {config.epoch}"
    _, _, (height, width) = compile_reader(config.TrainReader, "TrainReader")
    shape = (3, height, width)
    memory = estimate_memory(network, plan.order.batch_size, image_shape=shape, ema=config.use_ema)
    yield f"memory         about {memory.total / 1e6:,.0f} MB a card at the largest size, {height} x {width}"
