"""`shitu train` from the config to the end of the run: checks first, then a summary, then the trainer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import paddle
import yaml

from shitu.errors import EngineError, UsageError
from shitu.train import processes
from shitu.train.checkpoints import STATES, replace_file
from shitu.train.describe_network import describe
from shitu.train.image_list import ImageList, read_image_list
from shitu.train.memory import estimate_memory
from shitu.train.networks import DistillationModel, RecModel, build_network, freeze
from shitu.train.plan import Plan, make_plan, train_data
from shitu.train.run_state import plain
from shitu.train.schema import SGD, Adam, AdamW, TrainConfig
from shitu.train.schema_data import PKSampler
from shitu.train.summary import Setting, dry_run_lines, summarise
from shitu.train.trainer import Trainer, run_folder

_log = logging.getLogger("shitu")
Network = RecModel | DistillationModel
Progress = Callable[[int], AbstractContextManager[Any]]  # the number of steps -> a bar with update(n)


def run_training(config: TrainConfig, *, resume: bool, overwrite: bool, progress: Progress) -> dict[str, float]:
    """Train as the config says; returns the best evaluation.

    Raises ConfigError and UsageError before anything is done, StoppedError when stopped, ShituError when it fails.
    """
    use_device(config.Global.device)
    rank, world = processes.start()
    checkpoint = _checkpoint(config, resume=resume, overwrite=overwrite)
    images = read_image_list(train_data(config).dataset, what="DataLoader.Train")
    plan = make_plan(config, images.labels, world)
    trainer = Trainer(config, images, plan, rank=rank, resumes=checkpoint is not None)
    if checkpoint:
        trainer.resume(checkpoint)
    elif rank == 0:
        _begin(config, overwrite=overwrite)
    if rank == 0:
        for name, text in summarise(_setting(config, images, plan, trainer.network)):
            _log.info("%-14s %s", name, text)
    try:
        with progress(plan.total_steps) as bar:
            bar.update(trainer.step)
            trainer.on_step = lambda _: bar.update(1)
            return trainer.run()
    except RuntimeError as error:
        if world == 1:
            raise
        # the launcher takes the first that ends for the guilty one: let that be the one that died
        time.sleep(10)
        raise EngineError(f"lost the other processes: {str(error).strip().splitlines()[-1]}") from error


def dry_run(config: TrainConfig, cards: int) -> list[str]:
    """What a run on so many cards would do, as lines; nothing is trained or written."""
    use_device("cpu")
    images = read_image_list(train_data(config).dataset, what="DataLoader.Train")
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


def use_device(name: str) -> None:
    """The GPU of this process where the config wants one and there is one, else the CPU, with a warning."""
    if name.startswith("gpu"):
        if paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            # a launcher shows each process its own GPU alone
            paddle.device.set_device(f"{name}:0" if name == "gpu" else name)
            return
        _log.warning("Global.device is %s, but this Paddle sees no GPU; the CPU is used", name)
    elif name != "cpu":
        raise UsageError(f"Global.device is {name}; gpu or cpu is wanted")
    paddle.device.set_device("cpu")


def _checkpoint(config: TrainConfig, *, resume: bool, overwrite: bool) -> str | None:
    """What to go on from. Raises UsageError rather than start over an earlier run."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite together; one goes on, the other starts anew")
    if config.Global.checkpoints:
        return config.Global.checkpoints
    latest = run_folder(config) / "latest"
    there = latest.with_name(latest.name + STATES).is_file()
    if there and not (resume or overwrite):
        raise UsageError(
            f"{latest.parent} holds an earlier run; go on with it: --resume, start over it: --overwrite, or write "
            "elsewhere: -o Global.output_dir=FOLDER"
        )
    return str(latest) if there and resume else None


def _begin(config: TrainConfig, *, overwrite: bool) -> None:
    """An empty folder with the config as it was read."""
    folder = run_folder(config)
    if overwrite:
        for pattern in ("*.pdparams", "*.pdstates", "metrics.jsonl", "curves.png"):
            for old in folder.glob(pattern):
                old.unlink()
    text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    replace_file(folder / "config_as_read.yaml", lambda file: file.write(text.encode()))
