"""`shitu train` from the config to the end of the run: checks first, then a summary, then the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from shitu.errors import ShituError
from shitu.training.base import processes
from shitu.training.base.device import use_device
from shitu.training.base.earlier_run import begin, find_checkpoint
from shitu.training.base.memory import estimate_memory
from shitu.training.rec.describe_network import describe
from shitu.training.rec.export import export_config
from shitu.training.rec.image_list import ImageList, read_image_list
from shitu.training.rec.networks import DistillationModel, RecModel, build_network, freeze
from shitu.training.rec.plan import Plan, make_plan, train_data
from shitu.training.rec.schema import SGD, Adam, AdamW, TrainConfig
from shitu.training.rec.schema_data import PKSampler
from shitu.training.rec.summary import Setting, dry_run_lines, summarise
from shitu.training.rec.trainer import Trainer, run_folder

_log = logging.getLogger("shitu")
Network = RecModel | DistillationModel
Progress = Callable[[int], AbstractContextManager[Any]]  # the number of steps -> a bar with update(n)


def run_training(config: TrainConfig, *, resume: bool, overwrite: bool, progress: Progress) -> dict[str, float]:
    """Train as the config says; returns the best evaluation.

    Raises ConfigError and UsageError before anything is done, StoppedError when stopped, ShituError when it fails.
    """
    use_device(config.Global.device)
    rank, world = processes.start()
    folder = run_folder(config)
    checkpoint = config.Global.checkpoints or find_checkpoint(
        folder, resume=resume, overwrite=overwrite, key="Global.output_dir", world=world
    )
    images = read_image_list(train_data(config).dataset, what="DataLoader.Train.dataset")
    plan = make_plan(config, images.labels, world)
    trainer = Trainer(config, images, plan, rank=rank, resumes=checkpoint is not None)
    if checkpoint:
        trainer.resume(str(checkpoint))
    elif rank == 0:
        begin(folder, config, overwrite=overwrite)
    if rank == 0:
        for name, text in summarise(_setting(config, images, plan, trainer.network)):
            _log.info("%-14s %s", name, text)
    with processes.losing_none(world), progress(plan.total_steps) as bar:
        bar.update(trainer.step)
        trainer.on_step = lambda _: bar.update(1)
        best = trainer.run()
    if rank == 0:
        _export(config, folder / ("best_model" if best else "latest"))
    return best


def _export(config: TrainConfig, weights: Path) -> None:
    """The model for `shitu predict`, in the folder of the weights."""
    folder = weights.parent
    settings = replace(config.Global, pretrained_model=str(weights), save_inference_dir=str(folder / "inference"))
    try:
        done = export_config(replace(config, Global=settings))
    except ShituError as error:  # the training is done and saved; `shitu export` can follow
        _log.warning("no inference model was made of %s: %s", weights, error)
    else:
        _log.info("the model of %s: -o Global.rec_inference_model_dir=%s", weights.name, done.folder)


def dry_run(config: TrainConfig, cards: int) -> list[str]:
    """What a run on so many cards would do, as lines; nothing is trained or written."""
    use_device("cpu")
    images = read_image_list(train_data(config).dataset, what="DataLoader.Train.dataset")
    plan = make_plan(config, images.labels, cards)
    network = build_network(config.Arch, images.class_count, image_shape=config.Global.image_shape)
    freeze(network, config.Arch)
    return dry_run_lines(_setting(config, images, plan, network))


def _setting(config: TrainConfig, images: ImageList, plan: Plan, network: Network) -> Setting:
    """The run in numbers."""
    size = describe(network, config.Global.image_shape)
    sampler, optimizer = train_data(config).sampler, config.Optimizer
    slots = {Adam: 2, AdamW: 2, SGD: 0}.get(type(optimizer), 1)
    return Setting(
        counts=images.counts,
        parameters=size.parameters,
        trainable=size.trainable,
        head_parameters=size.head,
        macs=size.macs,
        batch_size=plan.batch_size,
        cards=plan.world,
        update_freq=plan.update_freq,
        images_per_class=sampler.sample_per_id if isinstance(sampler, PKSampler) else None,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        warmup_steps=plan.schedule.warmup_steps,
        lr=plan.schedule,
        config_lr=optimizer.lr.learning_rate,
        scaling=plan.scaling.reason,
        memory=estimate_memory(
            network,
            plan.batch_size,
            image_shape=config.Global.image_shape,
            optimizer_slots=slots,
            ema=config.EMA is not None,
        ),
    )
