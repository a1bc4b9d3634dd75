"""`shitu train`: what the training loop is told of a feature extractor, and of its configuration."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from shitu.errors import ShituError
from shitu.training.base import loop, processes
from shitu.training.base.boards import BOARDS, package
from shitu.training.base.checkpoints import load_states
from shitu.training.base.ema import MovingAverage
from shitu.training.base.faults import Faults
from shitu.training.base.memory import estimate_memory
from shitu.training.base.task import Metrics, Plan, Settings, Task, learning_rate_table
from shitu.training.rec.blocks import recomputable, recompute_blocks
from shitu.training.rec.eval_lists import ClassSet, EvalSet, open_eval
from shitu.training.rec.evaluate import check_metrics, evaluate, metric_names
from shitu.training.rec.export import export_config
from shitu.training.rec.fake_quant import add_rounding
from shitu.training.rec.image_list import ImageList, read_image_list
from shitu.training.rec.loader import Batch, TrainLoader
from shitu.training.rec.losses import build_losses
from shitu.training.rec.networks import DistillationModel, RecModel, build_network, freeze, part, set_train_mode, steady
from shitu.training.rec.plan import build_optimizer, make_plan, train_data
from shitu.training.rec.pretrained import start_from, to_fetch
from shitu.training.rec.prune import prune
from shitu.training.rec.rates import rates_told
from shitu.training.rec.schema import TrainConfig
from shitu.training.rec.schema_optimizer import SGD, Adam, AdamW
from shitu.training.rec.summary import describe, summarise
from shitu.training.rec.transforms import compile_transform

_log = logging.getLogger("shitu")
_OF_GLOBAL = "checkpoints output_dir epochs device early_stop max_minutes keep_checkpoints use_visualdl use_tensorboard"
MAY_CHANGE = ("source", *(f"Global.{key}" for key in _OF_GLOBAL.split()))  # by a resume


def run_training(
    config: TrainConfig, *, resume: bool, overwrite: bool, progress: loop.Progress, export: bool = True
) -> dict[str, float]:
    """Train as the config says, then `export`; returns the best evaluation. Raises as `base.loop.train`."""
    processes.use_device(config.Global.device)
    settings = settings_of(config)
    best = loop.train(
        settings,
        lambda rank, world, resumes: RecTask(config, rank, world, resumes=resumes),
        checkpoint=config.Global.checkpoints,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )
    if export and processes.start()[0] == 0:
        _export(config, settings.folder / ("best_model" if best else "latest"))
    return best


def settings_of(config: TrainConfig) -> Settings:
    return Settings(
        what="an extractor",
        config=config,
        folder=Path(config.Global.output_dir) / type(config.Arch).__name__,  # as in PaddleClas
        folder_key="Global.output_dir",
        seed=config.Global.seed,
        log_steps=config.Global.print_batch_step,
        save_steps=config.Global.save_steps,
        amp=config.AMP,
        may_change=MAY_CHANGE,
        start_again="Use the config and the list it was made with, or start from its weights alone: "
        "-o Global.pretrained_model=PATH",
        against_nan="A lower Optimizer.lr.learning_rate, a longer warmup_epoch or Optimizer.clip_norm often helps; "
        "with AMP, level O1",
        boards=tuple(name for name in BOARDS if getattr(config.Global, f"use_{name}")),
        early_stop=config.Global.early_stop,
        most_seconds=config.Global.max_minutes and 60 * config.Global.max_minutes,
        keep_checkpoints=config.Global.keep_checkpoints,
    )


class RecTask(Task[Batch]):
    """A RecModel, or several (distillation), on a list of images; all processes evaluate together."""

    def __init__(self, config: TrainConfig, rank: int, world: int, *, resumes: bool) -> None:
        self.config, self.rank, self.world, self.settings = config, rank, world, settings_of(config)
        self.images = read_image_list(train_data(config).dataset, what="DataLoader.Train.dataset")
        self.plan = make_plan(config, self.images.labels, world)
        self.loader = train_loader(config, self.images, self.plan, rank)
        self.eval_set = _eval_set(config)
        paddle.seed(config.Global.seed)
        shape, classes = config.Global.image_shape, self.images.class_count
        self.network: RecModel | DistillationModel = build_network(config.Arch, classes, image_shape=shape)
        freeze(self.network, config.Arch)
        if not resumes:
            start_from(self.network, config)
        if config.Slim:
            for name in config.Arch.parts():
                steady(part(self.network, name), norms=config.Slim.prune is None)
        prune(self.network, config)
        add_rounding(self.network, config, None if resumes else self._some_images)
        processes.same(self.network.state_dict().values(), world)
        if config.Arch.recompute:
            recompute_blocks(self.network)
        self.losses = build_losses(config.Loss.Train)
        self.optimizer = build_optimizer(config.Optimizer, self.network, self.losses)

    def _some_images(self) -> paddle.Tensor:
        """One batch, as training will see them."""
        batches = self.loader.epoch(0, 0)
        try:
            images: paddle.Tensor = next(batches).images
            return images
        finally:
            batches.close()

    def batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        return self.loader.epoch(epoch, start)

    def loss_of(self, batch: Batch, cast: AbstractContextManager[Any]) -> tuple[dict[str, paddle.Tensor], int]:
        with cast:
            outputs = self.network(batch.images, batch.labels)
        return self.losses(outputs, batch.labels), len(batch.labels)

    def train_mode(self) -> None:
        set_train_mode(self.network)

    def average(self) -> MovingAverage | None:
        return MovingAverage(self.network, self.config.EMA.decay) if self.config.EMA else None

    def kept(self, epoch: int, *, last: bool) -> tuple[list[str], bool]:
        settings = self.config.Global
        due = epoch >= settings.start_eval_epoch and epoch % settings.eval_interval == 0
        names = ["latest", *[f"epoch_{epoch}"] * (epoch % settings.save_interval == 0)]
        return names, self.eval_set is not None and (due or last)

    def evaluate(self) -> Metrics:
        assert self.eval_set is not None
        # Paddle keeps a norm's statistics as parameters: buffers() has none of them
        processes.same(self.network.state_dict().values(), self.world)
        return evaluate(self.network, self.eval_set, self.config, rank=self.rank, world=self.world)

    def score(self, results: Metrics) -> float:
        """The first of Metric.Eval."""
        return float(results.get(metric_names(self.config.Metric.Eval)[0], -1.0))

    def summary(self) -> Iterator[str]:
        return _summary(self.config, self.images, self.plan, self.network)


def train_loader(config: TrainConfig, images: ImageList, plan: Plan, rank: int) -> TrainLoader:
    """Of one process's batches."""
    data = train_data(config)
    return TrainLoader(
        images,
        plan.sampler,
        compile_transform(data.dataset.transform_ops, "DataLoader.Train.dataset.transform_ops"),
        seed=config.Global.seed,
        streams=plan.streams(rank),
        workers=data.loader.num_workers,
        use_shared_memory=data.loader.use_shared_memory,
    )


def _eval_set(config: TrainConfig) -> EvalSet | ClassSet | None:
    """Opened before training, so that what is wrong with it shows at once."""
    if not evaluates(config):
        return None
    check_metrics(config)
    return open_eval(config.DataLoader.Eval, config.source)


def evaluates(config: TrainConfig) -> bool:
    """Whether a run is to be evaluated."""
    data = config.DataLoader.Eval
    return config.Global.eval_during_train and data is not None and (data.Query or data.dataset) is not None


def _export(config: TrainConfig, weights: Path) -> None:
    """The model for `shitu predict`, in the folder of the weights."""
    folder = weights.parent
    processes.use_device("cpu")  # a GPU may compute in TF32, which no export's comparison passes
    settings = replace(config.Global, pretrained_model=str(weights), save_inference_dir=str(folder / "inference"))
    try:
        done = export_config(replace(config, Global=settings))
    except ShituError as error:  # the training is done and saved; `shitu export` can follow
        _log.warning("no inference model was made of %s: %s", weights, error)
    else:
        _log.info("the model of %s: -o Global.rec_inference_model_dir=%s", weights.name, done.folder)


def dry_run(config: TrainConfig, cards: int) -> list[str]:
    """What a run on so many cards would do, as lines; nothing is trained or written."""
    processes.use_device("cpu")
    faults, fetching = Faults(), to_fetch(config)
    data = faults.of(lambda: train_data(config))
    images = faults.of(lambda: read_image_list(data.dataset, what="DataLoader.Train.dataset")) if data else None
    plan = faults.of(lambda: make_plan(config, images.labels, cards)) if images else None
    network = faults.of(lambda: _network(config, images.class_count if images else 2))
    if network and not fetching:
        faults.of(lambda: start_from(network, config))
    if evaluates(config):
        faults.of(lambda: check_metrics(config))
        faults.of(lambda: open_eval(config.DataLoader.Eval, config.source))
    losses = faults.of(lambda: build_losses(config.Loss.Train))
    if network and losses:
        faults.of(lambda: _try_losses(network, losses, config.Global.image_shape))
        faults.of(lambda: build_optimizer(config.Optimizer, network, losses))
    if data:
        faults.of(lambda: compile_transform(data.dataset.transform_ops, "DataLoader.Train.dataset.transform_ops"))
    for name in settings_of(config).boards:
        faults.of(partial(package, name))
    if there := config.Global.checkpoints:
        faults.of(lambda: load_states(there))
    faults.end()
    assert images
    assert plan
    assert network
    later = [f"start weights  {url}, fetched when the run begins" for url in fetching]
    return [*_summary(config, images, plan, network), *later, "", *learning_rate_table(plan)]


def _network(config: TrainConfig, classes: int) -> RecModel | DistillationModel:
    network = build_network(config.Arch, classes, image_shape=config.Global.image_shape)
    prune(network, config)
    freeze(network, config.Arch)
    return network


def _try_losses(network: nn.Layer, losses: nn.Layer, shape: Sequence[int]) -> None:
    """Of four images of noise: whether each loss gets the outputs that it wants."""
    labels = paddle.to_tensor([0, 0, 1, 1])
    with paddle.no_grad():
        losses(network(paddle.rand([4, *shape]), labels), labels)


def _summary(
    config: TrainConfig, images: ImageList, plan: Plan, network: RecModel | DistillationModel
) -> Iterator[str]:
    optimizer, shape = config.Optimizer, config.Global.image_shape
    slots = {Adam: 2, AdamW: 2, SGD: 0}.get(type(optimizer), 1)
    how: dict[str, Any] = {"image_shape": shape, "optimizer_slots": slots, "ema": config.EMA is not None}
    again = recomputable(network) if config.Arch.recompute else ()
    yield from summarise(
        plan,
        counts=images.counts,
        size=describe(network, shape),
        memory=estimate_memory(network, plan.batch_size, **how, recomputed=again),
        images_per_class=getattr(train_data(config).sampler, "sample_per_id", None),
        learning_rate=f"{optimizer.lr.learning_rate:g} in the config, {plan.schedule.scaling.reason}",
    )
    yield from rates_told(network)
