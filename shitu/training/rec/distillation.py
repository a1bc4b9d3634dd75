"""Losses between the networks of a DistillationModel, as PaddleClas's _dml and _udml recipes use them.

Each is the sum over its models or pairs. Whether a teacher learns too is for Arch.freeze_params_list to say.
"""

from __future__ import annotations

from collections.abc import Callable

import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.rec import schema_loss
from shitu.training.rec.cross_entropy import Outputs, cross_entropy, output_of_model


class DistillationGTCELoss(nn.Layer):
    """Cross-entropy of every named model's `key` output with the labels."""

    def __init__(self, section: schema_loss.DistillationGTCELoss) -> None:
        super().__init__()
        if not section.model_names:
            raise ConfigError("DistillationGTCELoss.model_names is empty; name models, such as [Student, Teacher]")
        self.section = section

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """model -> key -> (n, C) logits, (n,) int64 -> scalar."""
        own = self.section
        taken = [output_of_model(outputs, model, own.key, "DistillationGTCELoss") for model in own.model_names]
        return _total([cross_entropy(logits, labels, own.epsilon or 0.0) for logits in taken])


class PairLoss(nn.Layer):
    """A loss between the `key` outputs of the two models of every pair."""

    def __init__(self, section: schema_loss.DistillationDMLLoss | schema_loss.DistillationDistanceLoss) -> None:
        super().__init__()
        self.name = type(section).__name__
        if not section.model_name_pairs:
            raise ConfigError(f"{self.name}.model_name_pairs is empty; name pairs, such as [[Student, Teacher]]")
        self.key = section.key
        self.pairs = section.model_name_pairs

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """model -> key -> (n, C) -> scalar; the labels have no part in it."""
        taken = [[output_of_model(outputs, model, self.key, self.name) for model in pair] for pair in self.pairs]
        for pair, (a, b) in zip(self.pairs, taken, strict=True):
            if a.shape != b.shape:
                shapes = f"{pair[0]} has {list(a.shape)}, {pair[1]} {list(b.shape)}"
                raise ConfigError(f"{self.name} compares {self.key} of equal shapes, but {shapes}; make them equal")
        return _total([self.between(a, b) for a, b in taken])

    def between(self, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
        """(n, C), (n, C) -> scalar."""
        raise NotImplementedError


class DistillationDMLLoss(PairLoss):
    """Deep mutual learning: (KL(p||q) + KL(q||p)) / 2, summed over the classes, mean over the rows.

    The 1e-12 within the logarithms is PaddleClas's and matters: with ArcMargin's scale of 30, probabilities reach
    1e-26, and the loss would grow with logarithms of these.
    """

    def __init__(self, section: schema_loss.DistillationDMLLoss) -> None:
        super().__init__(section)
        self.act = section.act

    def between(self, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
        p, q = (F.softmax(x) if self.act == "softmax" else F.sigmoid(x) for x in (a, b))
        return ((p - q) * (paddle.log(p + 1e-12) - paddle.log(q + 1e-12))).sum(axis=-1).mean() / 2


class DistillationDistanceLoss(PairLoss):
    """Mean over all elements of d * d (l2), |d| (l1), or d * d / 2 up to |d| = 1 and |d| - 1/2 beyond (smooth_l1)."""

    def __init__(self, section: schema_loss.DistillationDistanceLoss) -> None:
        super().__init__(section)
        kinds: dict[str, Callable[..., paddle.Tensor]] = {
            "l2": F.mse_loss,
            "l1": F.l1_loss,
            "smooth_l1": F.smooth_l1_loss,
        }
        self.distance = kinds[section.mode]

    def between(self, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
        return self.distance(a, b)


def _total(losses: list[paddle.Tensor]) -> paddle.Tensor:
    return paddle.stack(losses).sum()
