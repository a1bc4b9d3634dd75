"""A moving average of the weights, evaluated and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn


class MovingAverage:
    """`average = decay * average + (1 - decay) * value` over all of a network's float state, as PaddleClas's EMA."""

    def __init__(self, network: nn.Layer, decay: float) -> None:
        self.network, self.decay = network, decay
        self.average = {name: value.detach().clone() for name, value in _floats(network)}

    @paddle.no_grad()
    def update(self) -> None:
        """After each step."""
        for name, value in _floats(self.network):
            average = self.average[name]
            average.set_value(average * self.decay + value.astype(average.dtype) * (1 - self.decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average's values inside the block, and its own again after it."""
        own = {name: value.detach().clone() for name, value in _floats(self.network)}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(own)

    def state(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.average.items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        for name, value in state.items():
            self.average[name].set_value(value)

    @paddle.no_grad()
    def _set(self, values: dict[str, paddle.Tensor]) -> None:
        for name, value in _floats(self.network):
            value.set_value(values[name].astype(value.dtype))


def _floats(network: nn.Layer) -> Iterator[tuple[str, paddle.Tensor]]:
    return ((name, value) for name, value in network.state_dict().items() if value.is_floating_point())
