"""What is exported and compared of a network: images -> features, without the head."""

from __future__ import annotations

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.training.rec.networks import RecModel

Floats = NDArray[np.float32]


class Features(nn.Layer):
    """A RecModel from images to one of its outputs, without the head."""

    def __init__(self, model: RecModel, output: str) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = None if output == "backbone" else model.neck

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(n, 3, h, w) float32 -> (n, d) float32."""
        y: paddle.Tensor = self.backbone(x)
        if self.neck is not None:
            y = self.neck(y)
        return y.flatten(1) if y.ndim > 2 else y


def relative_difference(found: Floats, wanted: Floats) -> float:
    """Of the largest value; infinite where shapes differ or something is no number."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))
