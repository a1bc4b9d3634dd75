"""PaddleDetection's moving average: slow to trust early weights, corrected for its start at zero, begun anew in cycles.

As ppdet's ModelEMA does, the cycle counts snapshots (epochs in which the average is evaluated and saved), not epochs:
`cycle_epoch: 20` with `snapshot_epoch: 2` begins anew every 40 epochs.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import paddle
from paddle import Tensor, nn


class CycleEMA:
    """`average = decay * average + (1 - decay) * value` over a network's state, batch norms' statistics included."""

    def __init__(
        self, network: nn.Layer, decay: float, kind: Literal["threshold", "normal", "exponential"], cycle: int
    ) -> None:
        self.network, self.decay, self.kind, self.cycle = network, decay, kind, cycle
        self.snapshots = self.step = 0
        self.average: dict[str, Tensor] = {}
        self._reset()

    def _reset(self) -> None:
        self.step = self.snapshots = 0
        self.average = {name: paddle.zeros_like(value) for name, value in self.network.state_dict().items()}

    def _decay_at(self, step: int) -> float:
        if self.kind == "threshold":
            return min(self.decay, (1 + step) / (10 + step))
        return self.decay * (1 - math.exp(-(step + 1) / 2000)) if self.kind == "exponential" else self.decay

    @paddle.no_grad()
    def update(self) -> None:
        """After each step."""
        decay = self._decay_at(self.step)
        for name, value in self.network.state_dict().items():
            self.average[name] = decay * self.average[name] + (1 - decay) * value
        self.step += 1

    @paddle.no_grad()
    def snapshot(self) -> dict[str, Tensor]:
        """The weights to evaluate and to save; every `cycle`-th time the average begins anew after it."""
        if self.step == 0:
            return dict(self.network.state_dict())
        correction = 1.0 if self.kind == "exponential" else 1 - self._decay_at(self.step - 1) ** self.step
        weights = {name: value / correction for name, value in self.average.items()}
        self.snapshots += 1
        if 0 < self.cycle == self.snapshots:
            self._reset()
        return weights

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: value.numpy() for name, value in self.average.items()}

    def position(self) -> dict[str, int]:
        return {"step": self.step, "snapshots": self.snapshots}

    def set_state(self, state: dict[str, np.ndarray[Any, Any]], position: dict[str, int]) -> None:
        self.average = {name: paddle.to_tensor(state[name]) for name in self.average}
        self.step, self.snapshots = int(position["step"]), int(position["snapshots"])
