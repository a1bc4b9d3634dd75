"""The training loop of the detector: read `run` from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import paddle

from shitu.errors import ShituError, StoppedError
from shitu.training.base import processes
from shitu.training.base.amp import AMP
from shitu.training.base.checkpoints import save_weights, sweep
from shitu.training.base.gradients import average_gradients
from shitu.training.base.meter import Meter
from shitu.training.base.precision import Precision
from shitu.training.base.progress_text import shown
from shitu.training.base.run_log import RunLog
from shitu.training.base.state_arrays import arrays
from shitu.training.base.stop_request import StopRequest
from shitu.training.det import run_state
from shitu.training.det.batches import DetBatch, DetLoader
from shitu.training.det.build import build_detector
from shitu.training.det.coco_data import DetData
from shitu.training.det.ema import CycleEMA
from shitu.training.det.evaluate import Metrics, evaluate
from shitu.training.det.optimise import build_optimizer
from shitu.training.det.plan import Plan
from shitu.training.det.schema import DetConfig
from shitu.training.det.weights import load_pretrained

_log = logging.getLogger("shitu")
_LOGGED = ("AP", "AP50", "AP75", "AR100", "bad_images")  # the others are for `shitu eval-det`


class Trainer:
    """One process's share of a run. `test` is what to evaluate on; None: nothing, and no best checkpoint."""

    def __init__(self, config: DetConfig, data: DetData, test: DetData | None, plan: Plan, *, rank: int = 0) -> None:
        self.config, self.plan, self.test, self.rank = config, plan, test, rank
        self.folder = config.run_dir
        workers = config.worker_num
        self.loader = DetLoader(
            data, config.TrainReader, "TrainReader", seed=config.seed, workers=workers, replace=True
        )
        paddle.seed(config.seed)
        self.network = build_detector(config)
        if config.pretrain_weights:
            load_pretrained(self.network, config.pretrain_weights)
        on_gpu = paddle.device.get_device().startswith("gpu")
        if config.norm_type == "sync_bn" and plan.world > 1 and on_gpu:
            paddle.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        processes.same_start(self.network, plan.world)
        self.optimizer = build_optimizer(config.OptimizerBuilder, self.network)
        amp = AMP(use_amp=config.use_amp, scale_loss=1024.0)
        self.precision = Precision(amp, self.network, self.optimizer)
        self.ema = None
        if config.use_ema and rank == 0:  # who evaluates and saves
            self.ema = CycleEMA(self.network, config.ema_decay, config.ema_decay_type, config.cycle_epoch)
        self.meter = Meter()
        self.step = 0  # steps made since the very start
        self.best: Metrics = {}
        self.stop = StopRequest()
        self.log = RunLog(self.folder, visualdl=False) if rank == 0 else None
        self.on_step: Callable[[], object] = lambda: None

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> Metrics:
        """Train to the end, evaluating and saving on the way; returns the best evaluation.

        Raises StoppedError after SIGINT or SIGTERM, with everything saved; ShituError where the loss is no number.
        """
        with self.stop.heard():
            while self.step < self.plan.total_steps:
                epoch, start = divmod(self.step, self.plan.steps_per_epoch)
                self._epoch(epoch, start)
                self._finish_epoch(epoch + 1)
        return self.best

    def _epoch(self, epoch: int, start: int) -> None:
        self.network.train()
        began, first = time.perf_counter(), self.step
        with closing(self.loader.epoch(self.plan.order, epoch, self.rank, start)) as batches:
            for _ in range(min(self.plan.steps_per_epoch - start, self.plan.total_steps - self.step)):
                self._train_step(batches)
                last = self.step % self.plan.steps_per_epoch == 0 or self.step == self.plan.total_steps
                due = last or self.step % self.config.log_iter == 0
                self.on_step()
                if due:
                    self._report(epoch, (self.step - first) / (time.perf_counter() - began))
                if not last:
                    self._between_steps(epoch, due)

    def _train_step(self, batches: Iterator[DetBatch]) -> None:
        batch = next(batches)
        losses = self.network.losses(batch.images, batch.boxes, batch.classes, self.precision.cast())
        self._check(losses)
        self.meter.add({name: value.detach() for name, value in losses.items()}, len(batch.boxes))
        self.precision.scaled(losses["loss"]).backward()
        average_gradients(self.optimizer._parameter_list, self.plan.world)
        self.optimizer.set_lr(self.plan.schedule(self.step))
        self.precision.step(self.optimizer)
        self.optimizer.clear_grad()
        if self.ema:
            self.ema.update()
        self.step += 1

    def _check(self, losses: dict[str, paddle.Tensor]) -> None:
        """Before the weights take harm. Waiting for the number costs nothing: ppdet's assigner has waited already."""
        values = {name: float(value) for name, value in losses.items()}
        if not all(map(math.isfinite, values.values())):
            raise ShituError(
                f"the loss is no number any more at step {self.step + 1}: {shown(values)}. What {self.folder} holds "
                "is from before. A lower LearningRate.base_lr, a longer warm-up (LearningRate.schedulers.1.steps) or "
                "OptimizerBuilder.clip_grad_by_norm=35 often helps"
            )

    def _report(self, epoch: int, steps_per_second: float) -> None:
        means = self.meter.take(self.plan.world)
        if self.log:
            self.log.write_step(self.plan, epoch + 1, self.step, means, steps_per_second)

    def _between_steps(self, epoch: int, due: bool) -> None:
        """Inside an epoch: save every save_steps, and stop when asked to."""
        stop = self.stop.granted(self.plan.world, due=due)
        every = self.config.save_steps
        if self.rank == 0 and (stop or (every and self.step % every == 0)):
            self._save_states()
        if stop:
            raise StoppedError(f"stopped at step {self.step} (epoch {epoch + 1}) and saved; go on with --resume")

    # --- evaluation and checkpoints ------------------------------------------------------------------------------

    def _finish_epoch(self, epoch: int) -> None:
        """After the last step of each epoch; every snapshot_epoch-th and the last are evaluated and kept."""
        if self.rank == 0:
            if epoch % self.config.snapshot_epoch == 0 or self.step == self.plan.total_steps:
                self._snapshot(epoch)
            self._save_states()
        if self.log:
            self.log.draw()
        processes.barrier(self.plan.world)

    def _snapshot(self, epoch: int) -> None:
        """Evaluate and save the averaged weights, and go on with the others."""
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        if self.ema:
            self.network.set_state_dict(self.ema.snapshot())
        names = [f"epoch_{epoch}"]
        if self._is_best(epoch):
            names.append("best_model")
        if self.step == self.plan.total_steps:
            names.append("model_final")
        for name in names:
            save_weights(self.folder / name, arrays(self.network))
        self.network.set_state_dict(own)

    def _is_best(self, epoch: int) -> bool:
        if self.test is None:
            return False
        results = evaluate(self.network, self.test, self.config)
        known = {name: value for name in _LOGGED if (value := results[name]) is not None}
        if self.log:
            self.log.write({"epoch": epoch, "step": self.step, **known})
        _log.info("epoch %d: %s", epoch, shown(known))
        before = self.best.get("AP")
        if before is not None and known.get("AP", 0.0) <= before:
            return False
        self.best = {"epoch": epoch, **results}
        return True

    def _save_states(self) -> None:
        run_state.save(self)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises ModelError where it belongs to another network."""
        sweep(self.folder)
        run_state.load(self, path)
        if self.log:
            self.log.drop_after(self.step)
        _log.info("going on from %s at step %d of %d", path, self.step, self.plan.total_steps)
