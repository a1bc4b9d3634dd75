"""The losses between images, image by image in numpy: written down from the papers and PaddleClas's definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Twin = Callable[..., float]
BETA = 100_000


def units(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def others(labels: np.ndarray, i: int) -> tuple[list[int], list[int]]:
    """Positives of row i without itself, and negatives."""
    rest = [j for j in range(len(labels)) if j != i]
    return [j for j in rest if labels[j] == labels[i]], [j for j in rest if labels[j] != labels[i]]


def relu(x: float) -> float:
    return max(0.0, x)


def supcon(x: np.ndarray, labels: np.ndarray, temperature: float = 0.07, base_temperature: float = 0.07) -> float:
    s, rows = units(x) @ units(x).T / temperature, []
    for i in range(len(x)):
        positive, negative = others(labels, i)
        log_sum = np.log(sum(np.exp(s[i, j]) for j in positive + negative))
        rows.append(-np.mean([s[i, j] - log_sum for j in positive]) * temperature / base_temperature)
    return float(np.mean(rows))


def triplet(x: np.ndarray, labels: np.ndarray, margin: float = 0.5, normalize_feature: bool = True) -> float:
    x = units(x) if normalize_feature else x
    rows = []
    for i in range(len(x)):
        positive, negative = others(labels, i)
        far = max(np.linalg.norm(x[i] - x[j]) for j in positive)
        rows.append(relu(margin + far - min(np.linalg.norm(x[i] - x[j]) for j in negative)))
    return float(np.mean(rows))


def cosface(x: np.ndarray, labels: np.ndarray, margin: float = 0.35, gamma: float = 64.0) -> float:
    s, rows = units(x) @ units(x).T, []
    for i in range(len(x)):
        positive, negative = others(labels, i)
        near = sum(np.exp(-gamma * s[i, j]) for j in positive)
        rows.append(np.log(1 + near * sum(np.exp(gamma * (s[i, j] + margin)) for j in negative)))
    return float(np.mean(rows))


def contrastive(x: np.ndarray, labels: np.ndarray, margin: float = 0.5, epsilon: float = 1e-5) -> float:
    s, total = units(x) @ units(x).T, 0.0
    for i in range(len(x)):
        positive, negative = others(labels, i)
        total += sum(1 - s[i, j] for j in positive if s[i, j] < 1 - epsilon)
        total += sum(s[i, j] for j in negative if s[i, j] > margin)
    return total / len(x)


def eml(x: np.ndarray, labels: np.ndarray) -> float:
    rows = []
    for i in range(len(x)):
        positive, negative = others(labels, i)
        near = np.mean([np.exp(np.sum((x[i] - x[j]) ** 2)) for j in positive])
        far = np.mean([np.exp(-np.sum((x[i] - x[j]) ** 2)) for j in negative])
        rows.append(np.log(1 + BETA * near * far) / np.log(1 + BETA))
    return float(np.mean(rows))


def hardest(x: np.ndarray, labels: np.ndarray) -> list[tuple[float, float]]:
    x, rows = units(x), []
    for i in range(len(x)):
        positive, negative = others(labels, i)
        near = max(np.sum((x[i] - x[j]) ** 2) for j in positive)
        rows.append((float(near), float(min(np.sum((x[i] - x[j]) ** 2) for j in negative))))
    return rows


def trihard(x: np.ndarray, labels: np.ndarray, margin: float = 0.1) -> float:
    return float(np.mean([relu(near + margin - far) for near, far in hardest(x, labels)]))


def msm(x: np.ndarray, labels: np.ndarray, margin: float = 0.1) -> float:
    rows = hardest(x, labels)
    return relu(max(near for near, _ in rows) + margin - min(far for _, far in rows))


def every_pair(x: np.ndarray, labels: np.ndarray, of: Callable[[np.ndarray, np.ndarray, bool], float]) -> float:
    rows = range(len(x))
    return float(np.mean([of(x[i], x[j], labels[i] == labels[j]) for i in rows for j in rows]))


def dshsd(x: np.ndarray, labels: np.ndarray, alpha: float = 0.05, logits: Any = None) -> float:
    def of(u: np.ndarray, v: np.ndarray, alike: bool) -> float:
        d = float(np.sum((u - v) ** 2))
        return d / 2 if alike else relu(2 * len(u) - d) / 2

    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.log(p[np.arange(len(x)), labels]).mean()) + alpha * every_pair(x, labels, of)


def lcdsh(x: np.ndarray, labels: np.ndarray, _lambda: float = 3.0) -> float:
    def sigmoid(value: float) -> float:
        return float(1 / (1 + np.exp(-value)))

    def of(u: np.ndarray, v: np.ndarray, alike: bool) -> float:
        p, signs = float(u @ v) / 2, float(np.sign(u) @ np.sign(v)) / 2
        return float(np.log(1 + np.exp(-p if alike else p))) + _lambda * (sigmoid(p) - sigmoid(signs)) ** 2

    return every_pair(x, labels, of)


def dch(x: np.ndarray, labels: np.ndarray, gamma: float = 20.0, _lambda: float = 0.1) -> float:
    def d(u: np.ndarray, v: np.ndarray) -> float:
        return (1 - min(0.99, float(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))) * len(u) / 2

    alike_pairs = np.mean(labels[:, None] == labels[None])

    def of(u: np.ndarray, v: np.ndarray, alike: bool) -> float:
        weight = 1 / alike_pairs if alike else 1 / (1 - alike_pairs)
        return float(weight * (alike * np.log(d(u, v) / gamma) + np.log(1 + gamma / d(u, v))))

    quantised = np.mean([np.log(1 + d(np.abs(u), np.ones(len(u))) / gamma) for u in x])
    return every_pair(x, labels, of) + _lambda * float(quantised)
