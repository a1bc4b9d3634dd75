"""Means of the losses since the last line of the log, over all processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from shitu.training.base.processes import summed


class Meter:
    """Sums stay on the device until they are taken, so that a GPU need not wait for each step's loss."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.images = 0

    def add(self, values: dict[str, paddle.Tensor], images: int) -> None:
        """`values`: means over a batch of `images`."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.astype("float64") * images
        self.images += images

    def means(self, world: int) -> dict[str, float]:
        """Over all processes, each of which must ask."""
        total = summed(np.array([*(float(value) for value in self.sums.values()), float(self.images)]), world)
        return {name: float(value / max(total[-1], 1)) for name, value in zip(self.sums, total, strict=False)}

    def take(self, world: int) -> dict[str, float]:
        """`means`, and then starts anew."""
        means = self.means(world)
        self.sums, self.images = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        return {"sums": {name: float(value) for name, value in self.sums.items()}, "images": self.images}

    def set_state(self, state: dict[str, Any]) -> None:
        self.sums, self.images = dict(state["sums"]), state["images"]
