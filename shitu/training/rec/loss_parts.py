"""What losses are made of: the outputs that they ask for, features compared with each other, a memory of embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.precision import full_precision, unit_vectors
from shitu.training.rec import schema_loss

Outputs = Mapping[str, Any]  # name -> tensor, or model -> name -> tensor for DistillationModel


def output_of(outputs: Outputs, key: str, loss: str) -> paddle.Tensor:
    """`outputs[key]`, at least float32. Raises ConfigError where a plain network has no such output."""
    value = outputs.get(key)
    if isinstance(value, paddle.Tensor):
        return full_precision(value)
    if any(isinstance(each, Mapping) for each in outputs.values()):
        raise ConfigError(
            f"{loss} is for one network, and DistillationModel has several ({', '.join(outputs)}); "
            "use DistillationGTCELoss, DistillationDMLLoss or DistillationDistanceLoss"
        )
    given = [name for name, each in outputs.items() if each is not None]
    advice = "; add Arch.Head" if key == "logits" else ""
    raise ConfigError(f"{loss} needs the output {key}, but the network gives {', '.join(given)}{advice}")


def output_of_model(outputs: Outputs, model: str, key: str, loss: str) -> paddle.Tensor:
    """`outputs[model][key]`, at least float32. Raises ConfigError that lists the models."""
    models = [name for name, each in outputs.items() if isinstance(each, Mapping)]
    if not models:
        raise ConfigError(f"{loss} compares several networks: it needs Arch.name: DistillationModel")
    if model not in models:
        raise ConfigError(f"{loss} names the model {model}, but the models are {', '.join(models)}")
    return output_of(outputs[model], key, f"{loss} for {model}")


class OneLoss(nn.Layer):
    """What all have: the section that asks for it, and its name there."""

    def __init__(self, section: schema_loss.Loss) -> None:
        super().__init__()
        self.section: Any = section
        self.name = type(section).__name__


class FeatureLoss(OneLoss):
    """Compares the features of a batch with each other; the section's `feature_from` says which, where it has that."""

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, d) features, (n,) int64 -> scalar."""
        features = self.features(outputs)
        return self.compare(features, labels, features, labels)

    def features(self, outputs: Outputs) -> paddle.Tensor:
        """(n, d), of unit length where the section has a `normalize_feature` that says so."""
        features = output_of(outputs, getattr(self.section, "feature_from", "features"), self.name).flatten(1)
        return unit_vectors(features) if getattr(self.section, "normalize_feature", False) else features

    def compare(
        self, anchors: paddle.Tensor, labels: paddle.Tensor, others: paddle.Tensor, other_labels: paddle.Tensor
    ) -> paddle.Tensor:
        """(n, d), (n,), (m, d), (m,) -> scalar: the loss of the anchors against the others."""
        raise NotImplementedError


class AgainstMemory(FeatureLoss):
    """A loss, plus `xbm_weight` times that of the batch against a memory of the last `xbm_size` embeddings.

    Wang et al. 2020, Cross-Batch Memory for Embedding Learning. As there and in PaddleClas, for the first
    `start_iter` batches (forwards in training mode; with gradient accumulation more than steps) the network is taken
    to change too fast to remember, and a batch enters the memory before it is compared with it. Each process
    remembers its own batches. In eval mode only the batch counts, and nothing is remembered.

    Unlike PaddleClas's memory this one drops exactly the oldest, and class 0 in its last row does not empty it.
    """

    def __init__(self, section: Any) -> None:
        super().__init__(section)
        self.memory = EmbeddingMemory(section.xbm_size)
        self.register_buffer("batches", paddle.zeros([1], "int64"))

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, d) features, (n,) int64 -> scalar."""
        features = self.features(outputs)
        loss = self.compare(features, labels, features, labels)
        if not self.training:
            return loss
        self.batches.set_value(self.batches + 1)
        if self.batches.item() <= self.section.start_iter:
            return loss
        self.memory.push(features.detach(), labels)
        weight: float = self.section.xbm_weight
        return loss + weight * self.compare(features, labels, *self.memory.content())


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
