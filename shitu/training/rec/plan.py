"""What a run will do, worked out from the config and the list before anything is built: batches, steps, schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shitu.errors import ConfigError
from shitu.training.base.scaling import Scaling
from shitu.training.rec.samplers import BatchSampler, build_sampler
from shitu.training.rec.schedule import Schedule
from shitu.training.rec.schema import TrainConfig
from shitu.training.rec.schema_data import Data, PKSampler


@dataclass(frozen=True)
class Plan:
    """Numbers of a run over `world` processes; a step takes `update_freq` batches on each of them."""

    world: int
    update_freq: int
    batch_size: int
    classes_per_batch: int | None  # P of P×K; None where the sampler does not say
    steps_per_epoch: int
    epochs: int
    total_steps: int
    scaling: Scaling
    schedule: Schedule
    sampler: BatchSampler

    @property
    def total_batch(self) -> int:
        """Images per step over all processes."""
        return self.world * self.update_freq * self.batch_size

    def streams(self, rank: int) -> range:
        """The streams of batches that a process trains on."""
        return range(rank * self.update_freq, (rank + 1) * self.update_freq)


def train_data(config: TrainConfig) -> Data:
    """DataLoader.Train. Raises ConfigError where it is missing."""
    if config.DataLoader.Train is None:
        raise ConfigError(f"{config.source} has no DataLoader.Train; it says which images to train on")
    return config.DataLoader.Train


def make_plan(config: TrainConfig, labels: np.ndarray, world: int) -> Plan:
    """`labels` (n,) int64, dense. Raises ConfigError where no batch can be made of them."""
    section, update_freq, lr = train_data(config).sampler, config.Global.update_freq, config.Optimizer.lr
    sampler = build_sampler(section, labels, streams=world * update_freq, seed=config.Global.seed)
    steps_per_epoch = len(sampler)
    if not steps_per_epoch:
        raise ConfigError(
            f"{len(labels)} images make no batch of {section.batch_size} for each of {world * update_freq} "
            "(cards x update_freq); lower DataLoader.Train.sampler.batch_size or set drop_last: False"
        )
    scaling = Scaling.of(lr, world * update_freq * section.batch_size)
    limit = scaling.iterations(lr, config.Global.max_iters)
    total_steps = min(config.Global.epochs * steps_per_epoch, limit or math.inf)
    return Plan(
        world=world,
        update_freq=update_freq,
        batch_size=section.batch_size,
        classes_per_batch=section.batch_size // section.sample_per_id if isinstance(section, PKSampler) else None,
        steps_per_epoch=steps_per_epoch,
        epochs=math.ceil(total_steps / steps_per_epoch),
        total_steps=int(total_steps),
        scaling=scaling,
        schedule=Schedule(lr, scaling, steps_per_epoch, int(total_steps)),
        sampler=sampler,
    )
