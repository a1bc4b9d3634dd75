"""The training loop of the feature extractor: read `run` from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu.errors import ShituError, StoppedError
from shitu.training.base import processes
from shitu.training.base.checkpoints import save_weights, sweep
from shitu.training.base.ema import MovingAverage
from shitu.training.base.gradients import average_gradients
from shitu.training.base.meter import Meter
from shitu.training.base.precision import Precision
from shitu.training.base.progress_text import shown
from shitu.training.base.run_log import RunLog
from shitu.training.base.state_arrays import arrays
from shitu.training.base.stop_request import StopRequest
from shitu.training.rec import run_state
from shitu.training.rec.eval_lists import EvalSet, open_eval
from shitu.training.rec.evaluate import evaluate
from shitu.training.rec.image_list import ImageList
from shitu.training.rec.loader import Batch, TrainLoader
from shitu.training.rec.losses import build_losses
from shitu.training.rec.networks import DistillationModel, RecModel, build_network, freeze, set_train_mode
from shitu.training.rec.optimise import build_optimizer
from shitu.training.rec.plan import Plan, train_data
from shitu.training.rec.pretrained import load_start_weights, load_weights
from shitu.training.rec.schema import TrainConfig
from shitu.training.rec.transforms import compile_transform

_log = logging.getLogger("shitu")


class Trainer:
    """One process's share of a run."""

    def __init__(
        self,
        config: TrainConfig,
        images: ImageList,
        plan: Plan,
        *,
        rank: int = 0,
        resumes: bool = False,
        on_step: Callable[[int], object] | None = None,
    ) -> None:
        self.config, self.plan, self.rank, self.on_step = config, plan, rank, on_step
        self.folder = run_folder(config)
        self.loader = _loader(config, images, plan, rank)
        self.eval_set = _eval_set(config)
        paddle.seed(config.Global.seed)
        self.network = build_network(
            config.Arch, images.class_count, image_shape=config.Global.image_shape, device=paddle.device.get_device()
        )
        if not resumes:
            _load_start(self.network, config)
        freeze(self.network, config.Arch)
        processes.same_start(self.network, plan.world)
        self.losses = build_losses(config.Loss.Train)
        self.optimizer = build_optimizer(config.Optimizer, self.network, self.losses)
        self.precision = Precision(config.AMP, self.network, self.optimizer)
        self.ema = MovingAverage(self.network, config.EMA.decay) if config.EMA else None
        self.meter = Meter()
        self.step = 0  # steps made since the very start
        self.best: dict[str, float] = {}
        self.stop = StopRequest()
        self.log = RunLog(self.folder, visualdl=config.Global.use_visualdl) if rank == 0 else None

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, float]:
        """Train to the end, evaluating and saving on the way; returns the best evaluation.

        Raises StoppedError after SIGINT or SIGTERM, with everything saved; ShituError where the loss is no number.
        """
        with self.stop.heard():
            while self.step < self.plan.total_steps:
                epoch, start = divmod(self.step, self.plan.steps_per_epoch)
                self._epoch(epoch, start)
                self._finish_epoch(epoch + 1, self._evaluate(epoch + 1))
        return self.best

    def _epoch(self, epoch: int, start: int) -> None:
        set_train_mode(self.network)
        began, first = time.perf_counter(), self.step
        with closing(self.loader.epoch(epoch, start)) as batches:
            for _ in range(min(self.plan.steps_per_epoch - start, self.plan.total_steps - self.step)):
                self._train_step(batches)
                last = self.step % self.plan.steps_per_epoch == 0 or self.step == self.plan.total_steps
                due = last or self.step % self.config.Global.print_batch_step == 0
                if self.on_step:
                    self.on_step(self.step)
                if due:
                    self._report(epoch, (self.step - first) / (time.perf_counter() - began))
                if not last:
                    self._between_steps(epoch, due)

    def _train_step(self, batches: Iterator[Batch]) -> None:
        for stream in self.plan.streams(self.rank):
            batch = next(batches)
            images, labels = batch.images, batch.labels
            # a batch's dropout is the same whatever came before it, and on whichever process
            paddle.seed(int(np.random.SeedSequence([self.config.Global.seed, self.step, stream]).generate_state(1)[0]))
            with self.precision.cast():
                outputs = self.network(images, labels)
            values = self.losses(outputs, labels)
            self.precision.scaled(values["loss"] / self.plan.update_freq).backward()
            self.meter.add({name: value.detach() for name, value in values.items()}, len(labels))
        average_gradients(self.optimizer._parameter_list, self.plan.world)
        self.optimizer.set_lr(self.plan.schedule(self.step))
        self.precision.step(self.optimizer)
        self.optimizer.clear_grad()
        if self.ema:
            self.ema.update()
        self.step += 1

    def _report(self, epoch: int, steps_per_second: float) -> None:
        means = self.meter.take(self.plan.world)
        self._check(epoch, means)
        if self.log:
            self.log.write_step(self.plan, epoch + 1, self.step, means, steps_per_second)

    def _check(self, epoch: int, means: dict[str, float]) -> None:
        if not all(math.isfinite(value) for value in means.values()):
            raise ShituError(
                f"the loss is no number any more at step {self.step} (epoch {epoch + 1}): {shown(means)}. The last "
                f"checkpoint in {self.folder} is from before. A lower Optimizer.lr.learning_rate, a longer "
                "warmup_epoch or Optimizer.clip_norm often helps; with AMP, level O1"
            )

    def _between_steps(self, epoch: int, due: bool) -> None:
        """Inside an epoch: save every save_steps, and stop when asked to."""
        stop = self.stop.granted(self.plan.world, due=due)
        every = self.config.Global.save_steps
        if stop or (every and self.step % every == 0):
            self._check(epoch, self.meter.means(self.plan.world))  # what no report has looked at yet
            if self.rank == 0:
                self._save_states()
        if stop:
            raise StoppedError(f"stopped at step {self.step} (epoch {epoch + 1}) and saved; go on with --resume")

    # --- evaluation and checkpoints ------------------------------------------------------------------------------

    def _evaluate(self, epoch: int) -> dict[str, float]:
        settings = self.config.Global
        due = epoch >= settings.start_eval_epoch and epoch % settings.eval_interval == 0
        if self.eval_set is None or not (due or self.step >= self.plan.total_steps):
            return {}
        processes.same_statistics(self.network, self.plan.world)
        with self._averaged():
            results = evaluate(self.network, self.eval_set, self.config, rank=self.rank, world=self.plan.world)
        if self.log:
            self.log.write({"epoch": epoch, "step": self.step, **results})
            _log.info("epoch %d: %s", epoch, shown(results))
        return results

    def _averaged(self) -> AbstractContextManager[Any]:
        return self.ema.in_place() if self.ema else nullcontext()

    def _finish_epoch(self, epoch: int, results: dict[str, float]) -> None:
        first = next(iter(results), "")
        is_best = bool(first) and results[first] > self.best.get(first, -1.0)
        if is_best:
            self.best = {"epoch": epoch, **results}
        if self.rank == 0:
            names = ["latest", *["best_model"] * is_best]
            names += [f"epoch_{epoch}"] * (epoch % self.config.Global.save_interval == 0)
            with self._averaged():
                weights = arrays(self.network)
            for name in names:
                save_weights(self.folder / name, weights)
            self._save_states()
        if self.log:
            self.log.draw()
        processes.barrier(self.plan.world)

    def _save_states(self) -> None:
        run_state.save(self)

    def resume(self, path: str) -> None:
        """Go on from a checkpoint. Raises ModelError where it belongs to another network."""
        sweep(self.folder)
        run_state.load(self, path)
        if self.log:
            self.log.drop_after(self.step)
        _log.info("going on from %s at step %d of %d", path, self.step, self.plan.total_steps)


def _load_start(network: RecModel | DistillationModel, config: TrainConfig) -> None:
    """The weights that the config names; those of the whole network make those of its backbone needless."""
    if config.Global.pretrained_model:
        load_weights(network, config.Global.pretrained_model)
    else:
        load_start_weights(network, config.Arch)


def run_folder(config: TrainConfig) -> Path:
    """Where a run writes: Global.output_dir and the name of the architecture, as in PaddleClas."""
    return Path(config.Global.output_dir) / type(config.Arch).__name__


def _eval_set(config: TrainConfig) -> EvalSet | None:
    """Opened before training, so that what is wrong with it shows at once."""
    data = config.DataLoader.Eval
    wanted = config.Global.eval_during_train and data is not None and data.Query is not None
    return open_eval(data, config.source) if wanted and data is not None else None


def _loader(config: TrainConfig, images: ImageList, plan: Plan, rank: int) -> TrainLoader:
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
