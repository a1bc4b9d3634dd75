"""Losses between the images of a batch, with PaddleClas's names, keys and values.

PaddleClas takes the images of a class to stand together and to be equally many; here the labels say which belong
together, in any order and number. A row without a positive, or without a negative, adds nothing.
"""

from __future__ import annotations

import math
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import nn

from shitu.training.base.precision import unit_vectors
from shitu.training.rec.loss_parts import AgainstMemory, FeatureLoss, Outputs

FAR = 1e8  # beyond any logit or distance: what a masked place holds, as in PaddleClas; infinity minus itself is none


def pairs(labels: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """(n,) -> (n, n) bool: of one class without the row itself; of another."""
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    itself = paddle.eye(len(labels), dtype="int32").astype("bool")
    return paddle.logical_and(same, paddle.logical_not(itself)), paddle.logical_not(same)


def squared_distances(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """(n, d), (m, d) -> (n, m)."""
    return (a * a).sum(axis=1, keepdim=True) + (b * b).sum(axis=1) - 2.0 * (a @ b.t())


class SupConLoss(FeatureLoss):
    """Khosla et al. 2020, Supervised Contrastive Learning, L_out over all pairs: minus the mean over a row's positives
    of their log share among all other rows; temperature / base_temperature times the mean over the rows.
    """

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        own = self.section
        positive, _ = pairs(labels)
        itself = paddle.eye(len(labels))
        logits = anchors @ anchors.t() / own.temperature
        log_share = logits - paddle.logsumexp(logits - FAR * itself, axis=[1], keepdim=True)
        chosen = positive.astype(logits.dtype)
        rows = (log_share * chosen).sum(axis=1) / chosen.sum(axis=1).clip(min=1.0)
        loss: paddle.Tensor = -own.temperature / own.base_temperature * rows.mean()
        return loss


class TripletLossV2(FeatureLoss):
    """mean(relu(margin + d_ap - d_an)): Euclidean distances to the furthest of the own class and the nearest other."""

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        distances = squared_distances(anchors, others).clip(min=1e-12).sqrt()
        other = (labels.unsqueeze(1) != other_labels.unsqueeze(0)).astype(distances.dtype)
        d_ap, d_an = (distances * (1 - other)).amax(axis=1), (distances + FAR * (1 - other)).amin(axis=1)
        return F.relu(self.section.margin + d_ap - d_an).mean()


class PairwiseCosface(FeatureLoss):
    """Sun et al. 2020, Circle loss, with pairs: mean over the rows of
    log(1 + sum over positives of exp(-gamma s) * sum over negatives of exp(gamma (s + margin))).
    """

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        own, units = self.section, unit_vectors(anchors)
        similarity = units @ units.t()
        positive, negative = (each.astype(similarity.dtype) for each in pairs(labels))
        near = paddle.logsumexp(-own.gamma * similarity * positive - FAR * (1 - positive), axis=[1])
        far = paddle.logsumexp(own.gamma * (similarity * negative + own.margin) - FAR * (1 - negative), axis=[1])
        return F.softplus(near + far).mean()


class CenterLoss(FeatureLoss):
    """Wen et al. 2016: mean squared distance of the rows from the centre of their class, which is learned, too."""

    def __init__(self, section: Any) -> None:
        super().__init__(section)
        normal = nn.initializer.Normal(0.0, 1.0)
        self.centers = self.create_parameter([section.num_classes, section.feat_dim], default_initializer=normal)

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        apart = anchors - paddle.gather(self.centers, labels)
        loss: paddle.Tensor = (apart * apart).sum(axis=1).mean()
        return loss


class ContrastiveLoss(FeatureLoss):
    """Per row the sum of 1 - s over positives with a similarity s below 1 - epsilon, which leaves out the row itself,
    and of s over negatives above the margin; mean over the rows.
    """

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        similarity = anchors @ others.t()
        same = labels.unsqueeze(1) == other_labels.unsqueeze(0)
        nothing = paddle.zeros_like(similarity)
        near = paddle.where(same & (similarity < 1 - self.section.epsilon), 1 - similarity, nothing)
        far = paddle.where(paddle.logical_not(same) & (similarity > self.section.margin), similarity, nothing)
        return (near + far).sum(axis=1).mean()


class ContrastiveLoss_XBM(AgainstMemory, ContrastiveLoss):  # noqa: N801 - PaddleClas's name
    """The same, plus `xbm_weight` times the loss of the batch against a memory of the last `xbm_size` embeddings."""


# --- of squared distances, without a key for the features ----------------------------------------------------------


class EmlLoss(FeatureLoss):
    """Kan et al. 2012, Ensemble Metric Learning: mean over the rows of
    log(1 + beta * mean over positives of exp(d) * mean over negatives of exp(-d)) / log(1 + beta), d squared distances.
    """

    BETA = 100_000.0

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        distances = squared_distances(anchors, anchors)
        positive, negative = (each.astype(distances.dtype) for each in pairs(labels))
        exponent = math.log(self.BETA) + _log_mean_exp(distances, positive) + _log_mean_exp(-distances, negative)
        return F.softplus(exponent).mean() / math.log(1 + self.BETA)


class TriHardLoss(FeatureLoss):
    """Hermans et al. 2017: TripletLossV2 with squared distances of unit vectors, the margin 0.1."""

    def features(self, outputs: Outputs) -> paddle.Tensor:
        return unit_vectors(super().features(outputs))

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        furthest, nearest = self.hardest(anchors, labels)
        return F.relu(furthest + self.section.margin - nearest).mean()

    def hardest(self, features: paddle.Tensor, labels: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """(n,) squared distances to the furthest positive and to the nearest negative."""
        distances = squared_distances(features, features)
        positive, negative = (each.astype(distances.dtype) for each in pairs(labels))
        return (distances * positive).amax(axis=1), (distances + FAR * (1 - negative)).amin(axis=1)


class MSMLoss(TriHardLoss):
    """Xiao et al. 2017, Margin Sample Mining: the furthest positive and the nearest negative of the whole batch."""

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        furthest, nearest = self.hardest(anchors, labels)
        return F.relu(furthest.amax() + self.section.margin - nearest.amin())


def _log_mean_exp(x: paddle.Tensor, chosen: paddle.Tensor) -> paddle.Tensor:
    """(n, n), (n, n) of 0 and 1 -> (n,): log of the mean of exp(x) over the chosen; -1e8 where none is."""
    return paddle.logsumexp(x - FAR * (1 - chosen), axis=[1]) - chosen.sum(axis=1).clip(min=1.0).log()
