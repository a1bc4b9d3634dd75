"""Losses in ten lines of numpy each, and batches to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from shitu.training.rec.losses import TotalLoss

V2: dict[str, Any] = {"add_absolute": True, "absolute_loss_weight": 0.1, "ap_value": 0.8, "an_value": 0.4}

Arrays = tuple[np.ndarray, np.ndarray]


def batch(seed: int, classes: tuple[int, ...] = (1, 2, 4, 3), d: int = 6, spread: float = 0.7) -> Arrays:
    """Features (n, d) float32 around a centre for each class, and labels; `classes` gives the images of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), classes)
    features = rng.normal(size=(len(classes), d))[labels] + spread * rng.normal(size=(len(labels), d))
    order = rng.permutation(len(labels))
    return features[order].astype(np.float32), labels[order]


def value(total: TotalLoss, features: Any, labels: np.ndarray) -> float:
    return float(total({"features": paddle.to_tensor(features)}, paddle.to_tensor(labels))["loss"])


def cross_entropy_twin(logits: np.ndarray, labels: np.ndarray, epsilon: float) -> float:
    soft = (1 - epsilon) * np.eye(logits.shape[1])[labels] + epsilon / logits.shape[1]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(-(soft * log_p).sum(1).mean())


def triplet_twin(section: Any, anchors: Arrays, others: Arrays) -> float:
    """Loop over every anchor and every other; rows without a positive or negative add nothing."""
    rank, positive, negative = [], [], []
    for x, label in zip(*anchors, strict=True):
        same, different = [], []
        for y, other_label in zip(*others, strict=True):
            length = np.linalg.norm(x) * np.linalg.norm(y) if section.normalize_feature else 1
            (same if label == other_label else different).append(float(x @ y / length))
        s_ap, s_an = min(same, default=np.inf), max(different, default=-np.inf)
        rank.append(max(0.0, section.margin - (s_ap - s_an)))
        positive.append(max(0.0, section.ap_value - s_ap))
        negative.append(max(0.0, s_an - section.an_value))
    loss = sum(rank) if section.reduction == "sum" else np.mean(rank)
    if section.add_absolute:
        loss += section.absolute_loss_weight * (np.mean(positive) + np.mean(negative))
    return float(loss)
