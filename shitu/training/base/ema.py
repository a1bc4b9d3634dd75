"""Moving averages of the weights, evaluated and saved in their place: PaddleClas's, and PaddleDetection's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import paddle
from paddle import Tensor, nn

from shitu.training.base.precision import full_precision


class MovingAverage:
    """`average = decay * average + (1 - decay) * value` over a network's float state, norms' statistics included.

    In float32 also where the network is in half precision (AMP O2), in which 0.9999 of a value is the value itself.
    """

    def __init__(self, network: nn.Layer, decay: float) -> None:
        self.network, self.decay, self.step = network, decay, 0
        self.average: dict[str, Tensor] = {}
        self.begin()

    def begin(self) -> None:
        """Anew, with what the network is now."""
        # a cast to the same dtype would be no copy
        self.average = {name: full_precision(value.detach().clone()) for name, value in _floats(self.network)}

    @paddle.no_grad()
    def update(self) -> None:
        """After each step."""
        decay = self.decay_at(self.step)
        for name, value in _floats(self.network):
            average = self.average[name]
            average.set_value(average * decay + full_precision(value) * (1 - decay))
        self.step += 1

    def decay_at(self, step: int) -> float:
        return self.decay

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average's values inside the block, and its own again after it."""
        own = {name: value.detach().clone() for name, value in _floats(self.network)}
        self._set(self.snapshot())
        try:
            yield
        finally:
            self._set(own)

    def snapshot(self) -> dict[str, Tensor]:
        """The weights to evaluate and to save."""
        return self.average

    def state(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.average.items()}

    def position(self) -> dict[str, int]:
        """What else of it is saved."""
        return {}

    def set_state(self, state: dict[str, np.ndarray], position: dict[str, int]) -> None:
        for name, average in self.average.items():
            average.set_value(state[name])

    @paddle.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in _floats(self.network):
            value.set_value(values[name].astype(value.dtype))


class CycleEMA(MovingAverage):
    """PaddleDetection's: slow to trust early weights, corrected for its start at zero, begun anew in cycles.

    As ppdet's ModelEMA does, the cycle counts snapshots (epochs in which the average is evaluated and saved), not
    epochs: `cycle_epoch: 20` with `snapshot_epoch: 2` begins anew every 40 epochs.
    """

    def __init__(
        self, network: nn.Layer, decay: float, kind: Literal["threshold", "normal", "exponential"], cycle: int
    ) -> None:
        self.kind, self.cycle = kind, cycle
        super().__init__(network, decay)

    def begin(self) -> None:
        """Anew, with zeros."""
        self.step = self.snapshots = 0
        self.average = {name: paddle.zeros_like(full_precision(value)) for name, value in _floats(self.network)}

    def decay_at(self, step: int) -> float:
        if self.kind == "threshold":
            return min(self.decay, (1 + step) / (10 + step))
        return self.decay * (1 - math.exp(-(step + 1) / 2000)) if self.kind == "exponential" else self.decay

    @paddle.no_grad()
    def snapshot(self) -> dict[str, Tensor]:
        """Every `cycle`-th time the average begins anew after it."""
        if self.step == 0:
            return dict(_floats(self.network))
        correction = 1.0 if self.kind == "exponential" else 1 - self.decay_at(self.step - 1) ** self.step
        weights = {name: value / correction for name, value in self.average.items()}
        self.snapshots += 1
        if 0 < self.cycle == self.snapshots:
            self.begin()
        return weights

    def position(self) -> dict[str, int]:
        return {"step": self.step, "snapshots": self.snapshots}

    def set_state(self, state: dict[str, np.ndarray], position: dict[str, int]) -> None:
        super().set_state(state, position)
        self.step, self.snapshots = int(position["step"]), int(position["snapshots"])


def _floats(network: nn.Layer) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in network.state_dict().items() if value.is_floating_point())
