"""Losses of deep hashing: features whose signs are the code. With PaddleClas's names, keys and values.

K is the length of the code; images of one class are alike.
"""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812

from shitu.training.rec.loss_parts import FeatureLoss, OneLoss, Outputs, output_of
from shitu.training.rec.losses_pairs import squared_distances


def _alike(labels: paddle.Tensor, like: paddle.Tensor) -> paddle.Tensor:
    """(n,) -> (n, n) of 0 and 1, an image itself counted with its class."""
    return (labels.unsqueeze(1) == labels.unsqueeze(0)).astype(like.dtype)


class DSHSDLoss(OneLoss):
    """Wu et al. 2019, Deep Supervised Hashing Based on Stable Distribution: cross-entropy, plus alpha times the mean
    over all pairs of d / 2 for those alike and relu(2 K - d) / 2 for others, d squared distances.
    """

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, K) features and (n, C) logits, (n,) int64 -> scalar."""
        features, logits = (output_of(outputs, key, self.name) for key in ("features", "logits"))
        distances, alike = squared_distances(features, features), _alike(labels, features)
        apart = F.relu(2 * features.shape[1] - distances)
        loss: paddle.Tensor = ((alike * distances + (1 - alike) * apart) / 2).mean() * self.section.alpha
        return loss + F.cross_entropy(logits, labels)


class LCDSHLoss(FeatureLoss):
    """Zhu and Gao 2017, Locality-Constrained Deep Supervised Hashing: with p = u v / 2, the mean of
    log(1 + exp(-+p)), plus `_lambda` times that of (sigmoid(p) - sigmoid(p of the signs)) squared.
    """

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        product = (0.5 * anchors @ anchors.t()).clip(min=-50.0, max=50.0)
        signs = anchors.detach().sign()
        alike = 2 * _alike(labels, anchors) - 1
        quantised = F.sigmoid(product) - F.sigmoid(0.5 * signs @ signs.t())
        loss: paddle.Tensor = F.softplus(-alike * product).mean() + self.section._lambda * quantised.square().mean()
        return loss


class DCHLoss(FeatureLoss):
    """Cao et al. 2018, Deep Cauchy Hashing: with d = (1 - cosine) K / 2, the mean of
    w (log(d / gamma) for those alike + log(1 + gamma / d)), plus `_lambda` times that of log(1 + d / gamma) between
    |u| and ones. w makes pairs alike weigh as much as the others together.
    """

    def compare(self, anchors: Any, labels: Any, others: Any, other_labels: Any) -> paddle.Tensor:
        gamma, alike = self.section.gamma, _alike(labels, anchors)
        share = alike.mean()
        weight = alike / share + (1 - alike) / (1 - share).clip(min=1e-12) if float(share) < 1 else alike
        distances = _cosine_distances(anchors, anchors)
        cauchy = weight * (alike * paddle.log(distances / gamma) + paddle.log(1 + gamma / distances))
        ones = paddle.ones([1, anchors.shape[1]], anchors.dtype)
        quantised = paddle.log(1 + _cosine_distances(anchors.abs(), ones) / gamma)
        loss: paddle.Tensor = cauchy.mean() + self.section._lambda * quantised.mean()
        return loss


def _cosine_distances(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """(n, K), (m, K) -> (n, m): (1 - cosine) K / 2, the cosine being 0.99 at the most."""
    lengths = [(x * x).sum(axis=1, keepdim=True).clip(min=1e-24).sqrt() for x in (a, b)]
    cosine = a @ b.t() / (lengths[0] @ lengths[1].t()).clip(min=1e-4)
    return (1 - cosine.clip(max=0.99)) * (a.shape[1] / 2)
