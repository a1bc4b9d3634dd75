"""The training loop, one for the extractor and the detector: read `train`, then `Loop.run`, from top to bottom.

What differs between the two is a Task: its network and batches, how a batch becomes a loss, when and how it is
evaluated. Everything that a kill, a resume, a second process or a full disk could spoil is here.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Generic

import numpy as np
import paddle

from shitu.errors import ModelError, ShituError, StoppedError
from shitu.training.base import checkpoints, processes
from shitu.training.base.curves import draw_curves
from shitu.training.base.launch import StopRequest
from shitu.training.base.log import Meter, Pace, RunLog, shown, text_log
from shitu.training.base.precision import Precision
from shitu.training.base.task import Batch, Metrics, Settings, Task

_log = logging.getLogger("shitu")
Progress = Callable[[int], AbstractContextManager[Any]]  # the number of steps -> a bar with update(n)


def train(
    settings: Settings,
    open_task: Callable[[int, int, bool], Task[Any]],
    *,
    checkpoint: str | None = None,
    resume: bool,
    overwrite: bool,
    progress: Progress,
) -> Metrics:
    """Train to the end; returns the best evaluation. `open_task` gets rank, number of processes, whether it resumes.

    Raises ConfigError and UsageError before anything is done, StoppedError when stopped, ShituError when it fails.
    """
    rank, world = processes.start()
    folder, key = settings.folder, settings.folder_key
    found = checkpoint or checkpoints.find_checkpoint(folder, resume=resume, overwrite=overwrite, key=key, world=world)
    task = open_task(rank, world, found is not None)
    log = RunLog(folder, settings.boards) if rank == 0 else None
    loop = Loop(task, rank, log)
    if rank == 0 and not found:
        checkpoints.begin(folder, settings.config, overwrite=overwrite)
    with text_log(folder / "train.log") if log else nullcontext():
        if found:
            loop.resume(str(found))
        if log:
            log.begin(loop.step)
            for line in task.summary():
                _log.info("%s", line)
        with (
            closing(log.boards) if log else nullcontext(),
            processes.losing_none(world),
            progress(task.plan.total_steps) as bar,
        ):
            bar.update(loop.step)
            loop.on_step = lambda: bar.update(1)
            return loop.run()


class Loop(Generic[Batch]):
    """One process's share of a run."""

    def __init__(self, task: Task[Batch], rank: int, log: RunLog | None = None) -> None:
        self.task, self.rank, self.log, self.plan, self.settings = task, rank, log, task.plan, task.settings
        self.world, self.folder = task.plan.world, task.settings.folder
        self.precision = Precision(self.settings.amp, task.network, task.optimizer)
        self.ema = task.average()
        self.meter, self.pace = Meter(), Pace()
        self.step = 0  # steps made since the very start
        self.best: Metrics = {}
        self.over = False  # before the last step: no gain any more, or the time is up
        self.seconds, self._since = 0.0, time.monotonic()  # of training before this process, and its start
        self.unfinished = False  # whether the checkpoint that this goes on from lacks its evaluation
        self.stop = StopRequest()
        self.on_step: Callable[[], object] = lambda: None

    def run(self) -> Metrics:
        """Train to the end, evaluating and saving on the way; returns the best evaluation.

        Raises StoppedError after SIGINT or SIGTERM, with everything saved; ShituError where the loss is no number.
        """
        with self.stop.heard():
            if self.unfinished:
                self._finish_epoch(self.step // self.plan.steps_per_epoch)
            while self.step < self.plan.total_steps and not self.over:
                epoch, start = divmod(self.step, self.plan.steps_per_epoch)
                self._epoch(epoch, start)
                self._finish_epoch(epoch + 1)
        return self.best

    def _time_is_up(self) -> bool:
        most = self.settings.most_seconds
        return most is not None and self._trained() >= most

    def _gains_no_more(self) -> bool:
        scores = self.plan.schedule.scores
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= (self.settings.early_stop or math.inf)

    def _trained(self) -> float:
        return self.seconds + time.monotonic() - self._since

    def _epoch(self, epoch: int, start: int) -> None:
        self.task.train_mode()
        self.pace.begin(self.step)
        with closing(self.task.batches(epoch, start)) as batches:
            for _ in range(min(self.plan.steps_per_epoch - start, self.plan.total_steps - self.step)):
                self.make_step(batches)
                last = self.step % self.plan.steps_per_epoch == 0 or self.step == self.plan.total_steps
                due = last or self.step % self.settings.log_steps == 0
                self.on_step()
                if due:
                    self._report(epoch)
                if not last:
                    self._between_steps(epoch, due)

    def make_step(self, batches: Iterator[Batch]) -> None:
        for stream in self.plan.streams(self.rank):
            with self.pace.waiting():
                batch = next(batches)
            # a batch's dropout is the same whatever came before it, and on whichever process
            paddle.seed(int(np.random.SeedSequence([self.settings.seed, self.step, stream]).generate_state(1)[0]))
            values, images = self.task.loss_of(batch, self.precision.cast())
            if self.task.checks_each_step:
                self._check({name: float(value) for name, value in values.items()}, self.step + 1)
            self.precision.scaled(values["loss"] / self.plan.update_freq).backward()
            self.meter.add({name: value.detach() for name, value in values.items()}, images)
        processes.average_gradients(self.task.optimizer._parameter_list, self.world)
        self.task.optimizer.set_lr(self.plan.schedule(self.step))
        self.precision.step(self.task.optimizer)
        self.task.optimizer.clear_grad()
        if self.ema:
            self.ema.update()
        self.step += 1

    def _report(self, epoch: int) -> None:
        means = self.meter.take(self.world)
        self._check(means, self.step)
        if self.log:
            self.log.write_step(self.plan, epoch + 1, self.step, means, self.pace)

    def _check(self, values: Mapping[str, float], step: int) -> None:
        if not all(map(math.isfinite, values.values())):
            raise ShituError(
                f"the loss is no number any more at step {step} (epoch {(step - 1) // self.plan.steps_per_epoch + 1}): "
                f"{shown(values)}. The last checkpoint in {self.folder} is from before. {self.settings.against_nan}"
            )

    def _between_steps(self, epoch: int, due: bool) -> None:
        """Inside an epoch: save every save_steps, and stop when asked to."""
        stop = self.stop.granted(self.world, due=due)
        every = self.settings.save_steps
        if stop or (every and self.step % every == 0):
            self._check(self.meter.means(self.world), self.step)  # what no report has looked at yet
            self._check_weights()
            self._save_states()
        if stop:
            raise StoppedError(f"stopped at step {self.step} (epoch {epoch + 1}) and saved; go on with --resume")

    # --- evaluation and checkpoints ------------------------------------------------------------------------------

    def _finish_epoch(self, epoch: int) -> None:
        """After the last step of each epoch, whose losses have been looked at."""
        late = processes.any_of(self._time_is_up(), self.world)
        names, evaluated = self.task.kept(epoch, last=late or self.step == self.plan.total_steps)
        self._check_weights()
        if evaluated:  # which may fail, or be killed: a resume then begins with it
            self._save_states(unfinished=True)
        if names or evaluated:
            with self.ema.in_place() if self.ema else nullcontext():
                self._save_weights(names)
                if evaluated and self._is_best(epoch, self._evaluate()):
                    self._save_weights(["best_model"])
        self.over = late or self._gains_no_more()
        if self.over and self.step < self.plan.total_steps:
            _log.info("ends after epoch %d: %s", epoch, "the time is up" if late else "no gain any more")
        self._save_states()
        if self.log:
            draw_curves(self.log.path, self.folder / "curves.png")
        processes.barrier(self.world)

    def _evaluate(self) -> Metrics:
        with self.precision.cast_like_weights():
            return self.task.evaluate()

    def _save_weights(self, names: list[str]) -> None:
        if self.rank == 0 and names:
            weights = checkpoints.arrays(self.task.network)
            for name in names:
                checkpoints.save_weights(self.folder / name, weights)
            checkpoints.forget_epochs(self.folder, self.settings.keep_checkpoints)

    def _check_weights(self) -> None:
        """A finite loss may leave weights that are not, such as 1e38 times a learning rate."""
        if not all(np.isfinite(array).all() for array in checkpoints.arrays(self.task.network).values()):
            self._check({"loss of the next step": math.nan}, self.step)

    def _is_best(self, epoch: int, results: Metrics) -> bool:
        self.plan.schedule.scores.append(self.task.score(results))
        if self.log:
            told = self.task.told(results)
            self.log.write({"epoch": epoch, "step": self.step, **told})
            _log.info("epoch %d: %s", epoch, shown(told))
        if self.best and self.task.score(results) <= self.task.score(self.best):
            return False
        self.best = {"epoch": epoch, **results}
        return True

    def _save_states(self, *, unfinished: bool = False) -> None:
        """Write `latest.pdstates`, in the first process; `unfinished` where its epoch is yet to be evaluated."""
        if self.rank > 0:
            return
        task, ema = self.task, self.ema
        state: checkpoints.State = {
            "network": checkpoints.arrays(task.network),
            "losses": checkpoints.arrays(task.losses),
            "optimizer": checkpoints.optimizer_state(task.optimizer, task.network),
            "precision": self.precision.state(),
            "ema": ema.state() if ema else {},
        }
        position = {
            "what": self.settings.what,
            "images": self.step * self.plan.total_batch,
            "ema": ema.position() if ema else {},
            "best": self.best,
            "scores": self.plan.schedule.scores,
            "unfinished": unfinished,
            "seconds": self._trained(),
            "meter": self.meter.state(),
            "config": checkpoints.plain(self.settings.config),
        }
        checkpoints.save_states(self.folder / "latest", state, position)

    def resume(self, path: str) -> None:
        """Go on from a checkpoint, before the first step. Raises ModelError where it is another network's."""
        checkpoints.sweep(self.folder)
        state, position = checkpoints.load_states(path)
        # a checkpoint without it is from a version in which only a detector's had a place for the average's position
        what = position.get("what", "a detector" if "ema" in position else "an extractor")
        if what != self.settings.what or "images" not in position:
            raise ModelError(f"{path} is a checkpoint of {what}; that of {self.settings.what} is wanted: name one")
        task = self.task
        checkpoints.check_fits(
            path, state.get("network", {}), checkpoints.arrays(task.network), self.settings.start_again
        )
        task.network.set_state_dict(checkpoints.tensors(state["network"]))
        task.losses.set_state_dict(checkpoints.tensors(state.get("losses", {})))
        if self.world > 1 and state.get("losses"):
            _log.warning("the checkpoint holds the first process's memory of embeddings; all processes go on with that")
        checkpoints.set_optimizer_state(task.optimizer, task.network, state.get("optimizer", {}))
        self.precision.set_state(state.get("precision", {}))
        if self.ema and "ema" in state:
            self.ema.set_state(state["ema"], position.get("ema", {}))
        elif self.ema:
            self.ema.begin()
        self.step = position["images"] // self.plan.total_batch  # other cards than before: other steps, same images
        self.best, self.unfinished = position["best"], position.get("unfinished", False)
        self.plan.schedule.scores = position.get("scores", [])
        self.seconds = position.get("seconds", 0.0)
        self.over = not (self.unfinished or self.step % self.plan.steps_per_epoch) and (
            self._gains_no_more() or self._time_is_up()
        )
        self.meter.set_state(position["meter"])
        for change in checkpoints.changes(
            position["config"], checkpoints.plain(self.settings.config), self.settings.may_change
        ):
            _log.warning("changed since the checkpoint: %s", change)
        _log.info("going on from %s at step %d of %d", path, self.step, self.plan.total_steps)
