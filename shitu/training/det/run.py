"""`shitu train-det`: what the training loop is told of a detector, and of its configuration."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base import loop, processes
from shitu.training.base.ema import CycleEMA
from shitu.training.base.memory import estimate_memory, numbers
from shitu.training.base.schema import AMP
from shitu.training.base.task import Plan, Settings, Task, learning_rate_table
from shitu.training.det.batches import DetBatch, DetLoader
from shitu.training.det.build import PicoDet, build_detector, load_pretrained
from shitu.training.det.coco_data import DetData, read_coco
from shitu.training.det.evaluate import Metrics, eval_data, evaluate
from shitu.training.det.plan import build_optimizer, make_plan
from shitu.training.det.schema import CosineDecay, DetConfig
from shitu.training.det.transforms import compile_reader

_LOGGED = ("AP", "AP50", "AP75", "AR100", "bad_images")  # the others are for `shitu eval-det`


def run_training(config: DetConfig, *, resume: bool, overwrite: bool, progress: loop.Progress) -> Metrics:
    """Train as the config says; returns the best evaluation. Raises as `base.loop.train`."""
    use_device(config)
    return loop.train(
        settings_of(config),
        lambda rank, world, _: DetTask(config, rank, world),
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def settings_of(config: DetConfig) -> Settings:
    return Settings(
        what="a detector",
        config=config,
        folder=config.run_dir,
        folder_key="save_dir",
        seed=config.seed,
        log_steps=config.log_iter,
        save_steps=config.save_steps,
        amp=AMP(use_amp=config.use_amp, scale_loss=1024.0),
        may_change=(
            *("source", "save_dir", "epoch", "use_gpu", "weights", "worker_num", "pretrain_weights", "max_iters"),
            *("use_vdl", "use_tensorboard"),
        ),
        start_again="Use the config it was made with, or start from its weights alone: -o pretrain_weights=PATH",
        against_nan="A lower LearningRate.base_lr, a longer warm-up (LearningRate.schedulers.1.steps) or "
        "OptimizerBuilder.clip_grad_by_norm=35 often helps",
        boards=(*["tensorboard"] * config.use_tensorboard, *["visualdl"] * config.use_vdl),
    )


def use_device(config: DetConfig) -> None:
    """As shitu.training.base.processes.use_device; with the threads that the config wants on the CPU."""
    processes.use_device("gpu" if config.use_gpu else "cpu")
    if config.cpu_threads:
        paddle.core.set_num_threads(config.cpu_threads)


class DetTask(Task[DetBatch]):
    """PicoDet on COCO's annotations; without EvalDataset there is no best checkpoint."""

    checks_each_step = True  # ppdet's assigner waits for the numbers, and fails on what is none

    def __init__(self, config: DetConfig, rank: int, world: int) -> None:
        self.config, self.rank, self.world, self.settings = config, rank, world, settings_of(config)
        self.data, self.test = _data(config)
        self.plan = make_plan(config, self.data, world)
        self.loader = DetLoader(
            self.data, config.TrainReader, "TrainReader", seed=config.seed, workers=config.worker_num, replace=True
        )
        paddle.seed(config.seed)
        self.network: PicoDet = build_detector(config)
        if config.pretrain_weights:
            load_pretrained(self.network, config.pretrain_weights)
        on_gpu = paddle.device.get_device().startswith("gpu")
        if config.norm_type == "sync_bn" and world > 1 and on_gpu:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        processes.same(self.network.state_dict().values(), world)
        self.losses = nn.Layer()  # they have no state
        self.optimizer = build_optimizer(config.OptimizerBuilder, self.network)

    def batches(self, epoch: int, start: int) -> Generator[DetBatch, None, None]:
        return self.loader.epoch(self.plan.sampler, epoch, self.rank, start)

    def loss_of(self, batch: DetBatch, cast: AbstractContextManager[Any]) -> tuple[dict[str, paddle.Tensor], int]:
        return self.network.losses(batch.images, batch.boxes, batch.classes, cast), len(batch.boxes)

    def average(self) -> CycleEMA | None:
        config = self.config
        if not config.use_ema:
            return None
        return CycleEMA(self.network, config.ema_decay, config.ema_decay_type, config.cycle_epoch)

    def kept(self, epoch: int, *, last: bool) -> tuple[list[str], bool]:
        """Every snapshot_epoch-th and the last."""
        if not (last or epoch % self.config.snapshot_epoch == 0):
            return [], False
        return [f"epoch_{epoch}", *["model_final"] * last], self.test is not None

    def evaluate(self) -> Metrics:
        assert self.test is not None
        processes.same(self.network.state_dict().values(), self.world)
        return evaluate(self.network, self.test, self.config, rank=self.rank, world=self.world)

    def score(self, results: Metrics) -> float:
        return results.get("AP") or 0.0

    def told(self, results: Metrics) -> Metrics:
        return {name: value for name in _LOGGED if (value := results[name]) is not None}

    def summary(self) -> Iterator[str]:
        return _summary(self.config, self.data, self.test, self.plan, self.network)


def dry_run(config: DetConfig, cards: int) -> list[str]:
    """What a run on so many cards would do, as lines; nothing is trained, written or downloaded."""
    paddle.device.set_device("cpu")
    data, test = _data(config)
    plan = make_plan(config, data, cards)
    return [*_summary(config, data, test, plan, build_detector(config)), "", *learning_rate_table(plan)]


def _data(config: DetConfig) -> tuple[DetData, DetData | None]:
    """TrainDataset and EvalDataset; also what can be known to be wrong with the readers."""
    compile_reader(config.TrainReader, "TrainReader")
    compile_reader(config.EvalReader, "EvalReader")
    if config.TrainDataset is None:
        raise ConfigError(f"{config.source} has no TrainDataset; it says which images to train on")
    data = read_coco(config.TrainDataset, config.num_classes, what="a detector", training=True, seed=config.seed)
    return data, eval_data(config) if config.EvalDataset is not None else None


def _summary(config: DetConfig, data: DetData, test: DetData | None, plan: Plan, network: Any) -> Iterator[str]:
    boxes = np.diff(data.offsets)
    each = f"{boxes.min()} to {boxes.max()} each, median {np.median(boxes):g}"
    names = ", ".join(data.names[:5])
    yield f"data           {len(data):,} images, {len(data.xyxy):,} boxes ({each}), classes: {names}"
    yield f"evaluation     {f'{len(test):,} images' if test else 'none: no EvalDataset, so no best checkpoint either'}"
    millions = numbers(network.parameters()) / 1e6
    yield f"network        PicoDet, LCNet x{config.LCNet.scale:g}, {millions:.2f} M parameters"
    cards = f"{plan.world} card{'s' if plan.world > 1 else ''}"
    yield f"batch          {plan.batch_size} images a card x {cards} = {plan.total_batch} images a step"
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
    memory = estimate_memory(network, plan.batch_size, image_shape=shape, ema=config.use_ema)
    yield f"memory         about {memory.total / 1e6:,.0f} MB a card at the largest size, {height} x {width}"
