"""TripletAngularMarginLoss: the hardest positive and negative of each image, by cosine; alone or with a memory."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import nn

from shitu.training.base.precision import unit_vectors
from shitu.training.rec import schema_loss
from shitu.training.rec.cross_entropy import Outputs, output_of


class TripletAngularMarginLoss(nn.Layer):
    """mean(relu(margin - (s_ap - s_an))), where s_ap is a row's least similarity to its own class and s_an the
    greatest to another, both in the batch, and the image itself counted with its class, as in PaddleClas.

    With `add_absolute`: + absolute_loss_weight * (mean(relu(ap_value - s_ap)) + mean(relu(s_an - an_value))).
    PaddleClas logs 1 instead of 0 for each satisfied row of the last term (`ones_like`); gradients are the same.
    Classes may have unequal numbers of images. A row without a negative adds nothing to the terms that want one.
    """

    name = "TripletAngularMarginLoss"

    def __init__(self, section: schema_loss.AngularMargin) -> None:
        super().__init__()
        self.section = section

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, d) features, (n,) int64 -> scalar."""
        features = self.features(outputs)
        return self.compare(features, labels, features, labels)

    def features(self, outputs: Outputs) -> paddle.Tensor:
        """(n, d), of unit length unless the section says otherwise."""
        features = output_of(outputs, self.section.feature_from, self.name)
        return unit_vectors(features) if self.section.normalize_feature else features

    def compare(
        self, anchors: paddle.Tensor, labels: paddle.Tensor, others: paddle.Tensor, other_labels: paddle.Tensor
    ) -> paddle.Tensor:
        """(n, d), (n,), (m, d), (m,) -> scalar: the loss of the anchors against the others."""
        own = self.section
        similarity = anchors @ others.t()
        same = labels.unsqueeze(1) == other_labels.unsqueeze(0)
        # A row that has none is infinitely well off: every relu below makes 0 of it, in value and gradient.
        infinity = paddle.full_like(similarity, float("inf"))
        s_ap = paddle.where(same, similarity, infinity).amin(axis=1)
        s_an = paddle.where(same, -infinity, similarity).amax(axis=1)
        ranking = F.relu(own.margin - (s_ap - s_an))
        loss = ranking.sum() if own.reduction == "sum" else ranking.mean()
        if own.add_absolute:
            absolute = F.relu(own.ap_value - s_ap).mean() + F.relu(s_an - own.an_value).mean()
            loss = loss + own.absolute_loss_weight * absolute
        return loss


class TripletAngularMarginLossXBM(TripletAngularMarginLoss):
    """The same, plus `xbm_weight` times the loss of the batch against a memory of the last `xbm_size` embeddings.

    Wang et al. 2020, Cross-Batch Memory for Embedding Learning. As there and in PaddleClas, for the first
    `start_iter` batches (forwards in training mode; with gradient accumulation more than steps) the network is taken
    to change too fast to remember, and a batch enters the memory before it is compared with it. Each process
    remembers its own batches. In eval mode only the batch counts, and nothing is remembered.

    Unlike PaddleClas's memory this one drops exactly the oldest, and class 0 in its last row does not empty it.
    """

    name = "TripletAngularMarginLoss_XBM"

    def __init__(self, section: schema_loss.TripletAngularMarginLoss_XBM) -> None:
        super().__init__(section)
        self.start_iter = section.start_iter
        self.xbm_weight = section.xbm_weight
        self.memory = EmbeddingMemory(section.xbm_size)
        self.register_buffer("batches", paddle.zeros([1], "int64"))

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, d) features, (n,) int64 -> scalar."""
        features = self.features(outputs)
        loss = self.compare(features, labels, features, labels)
        if not self.training:
            return loss
        self.batches.set_value(self.batches + 1)
        if self.batches.item() <= self.start_iter:
            return loss
        self.memory.push(features.detach(), labels)
        return loss + self.xbm_weight * self.compare(features, labels, *self.memory.content())


class EmbeddingMemory(nn.Layer):
    """The last `size` embeddings and their labels, oldest overwritten first; all of it in the state_dict."""

    embeddings: paddle.Tensor
    labels: paddle.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("seen", paddle.zeros([1], "int64"))

    def reserve(self, dimension: int) -> None:
        """Make room for embeddings (size, dimension) float32, known only when the first come, or are loaded."""
        self.register_buffer("embeddings", paddle.zeros([self.size, dimension], "float32"))
        self.register_buffer("labels", paddle.zeros([self.size], "int64"))

    def push(self, embeddings: paddle.Tensor, labels: paddle.Tensor) -> None:
        """(n, d), (n,) int64; of more than `size`, the last stay."""
        if "embeddings" not in self._buffers:
            self.reserve(embeddings.shape[1])
        seen = self.seen.item() + len(labels)
        kept = min(len(labels), self.size)
        rows = paddle.arange(seen - kept, seen) % self.size
        # New arrays, not written in place: an earlier forward may still wait for its backward.
        self.embeddings = paddle.scatter(self.embeddings, rows, embeddings[-kept:].astype("float32"))
        self.labels = paddle.scatter(self.labels, rows, labels[-kept:])
        self.seen.set_value(self.seen + len(labels))

    def content(self) -> tuple[paddle.Tensor, paddle.Tensor]:
        """(m, d) float32 and (m,) int64, m <= size, in no particular order."""
        filled = min(self.seen.item(), self.size)
        return self.embeddings[:filled], self.labels[:filled]
