"""What a run will do, worked out from the config and the data before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shitu.training.det.batches import Order
from shitu.training.det.coco_data import DetData
from shitu.training.det.schedule import Schedule
from shitu.training.det.schema import DetConfig


@dataclass(frozen=True)
class Plan:
    """Numbers of a run over `world` processes."""

    world: int
    order: Order
    epochs: int
    total_steps: int
    schedule: Schedule

    @property
    def steps_per_epoch(self) -> int:
        return len(self.order)

    @property
    def total_batch(self) -> int:
        """Images per step over all processes."""
        return self.world * self.order.batch_size


def make_plan(config: DetConfig, data: DetData, world: int) -> Plan:
    """Raises ConfigError where the images do not fill one batch."""
    reader = config.TrainReader
    order = Order(len(data), reader.batch_size, world, config.seed, reader.shuffle)
    total = min(config.epoch * len(order), config.max_iters or config.epoch * len(order))
    schedule = Schedule(config.LearningRate, len(order), world * reader.batch_size, total)
    return Plan(world, order, math.ceil(total / len(order)), total, schedule)
