"""The PCA layer of the bundled recogniser: fitting, choosing how far to whiten, and measuring."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.common.photo_features import Floats, leave_one_out_recall, recall_at_1

DIMENSION = 512
JUICE_PARTS = ("train", "val", "test", "iconic")
FITTED_ON = ("caltech", "clothing", "ecssd", "juice train")
ALPHAS = tuple(i / 20 for i in range(11))


class Labelled(NamedTuple):
    """Features (n, 1280) float32 and their labels (n,)."""

    rows: Floats
    labels: NDArray[np.str_]


Features = dict[str, Labelled]


class Choice(NamedTuple):
    """Eigenvalues count as `eigenvalue ** -alpha` (0: plain PCA, 0.5: full whitening); centred or about zero."""

    alpha: float
    centred: bool


class Projection(NamedTuple):
    """`rows @ weight + bias`: weight (1280, 512), bias (512,), float32."""

    weight: Floats
    bias: Floats
    fitted_rows: int

    def __call__(self, rows: Floats) -> Floats:
        """(n, 1280) -> (n, 512) float32."""
        return rows @ self.weight + self.bias


class Components(NamedTuple):
    """Principal directions (1280, 512) as columns, largest eigenvalue first, in float64."""

    mean: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    directions: NDArray[np.float64]
    fitted_rows: int


def components(rows: Floats, centred: bool) -> Components:
    """Eigenvectors of the covariance or, not centred, of the second moment about zero.

    An eigenvector's sign is free: each is turned so that its coordinate of largest magnitude is positive, which
    makes the written file the same on every run.
    """
    wide = rows.astype(np.float64)
    mean = wide.mean(axis=0) if centred else np.zeros(wide.shape[1])
    values, vectors = np.linalg.eigh((wide - mean).T @ (wide - mean) / len(wide))
    values, vectors = values[::-1][:DIMENSION], vectors[:, ::-1][:, :DIMENSION]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(DIMENSION)]
    return Components(mean, values, vectors * np.sign(largest), len(rows))


def projection_of(parts: Components, alpha: float) -> Projection:
    """The linear layer; eigenvalues are counted against the largest so that numbers stay near those of alpha 0."""
    weight = parts.directions * (parts.eigenvalues / parts.eigenvalues[0]) ** -alpha
    return Projection(weight.astype(np.float32), (-parts.mean @ weight).astype(np.float32), parts.fitted_rows)


def fit(rows: Floats, choice: Choice) -> Projection:
    """Fit on features (n, 1280)."""
    return projection_of(components(rows, choice.centred), choice.alpha)


def stacked(features: Features, names: tuple[str, ...]) -> Floats:
    """The features of several sets, one under the other."""
    return np.concatenate([features[name].rows for name in names])


class Trial(NamedTuple):
    """One validation set: features to fit on, none of them its own; who asks; the gallery, or None: leave one out."""

    fitted_on: Floats
    queries: Labelled
    gallery: Labelled | None


def trials(features: Features) -> dict[str, Trial]:
    """The validation sets by name.

    A user's photos are new to the PCA, and whitening looks better on rows it was fitted on; hence a fit of its own
    for each. Caltech is judged in two halves by class, each with the other in the fit. No test list is read.
    """
    caltech = features["caltech"]
    classes = np.unique(caltech.labels)
    others = stacked(features, ("clothing", "ecssd", "juice train"))
    result = {}
    for half in (0, 1):
        inside = np.isin(caltech.labels, classes[half::2])
        fitted_on = np.concatenate([caltech.rows[~inside], others])
        result[f"caltech {half}"] = Trial(fitted_on, Labelled(caltech.rows[inside], caltech.labels[inside]), None)
    without_clothing = stacked(features, ("caltech", "ecssd", "juice train"))
    result["clothing"] = Trial(without_clothing, features["clothing"], None)
    without_juice = stacked(features, ("caltech", "clothing", "ecssd"))
    result["juice val in train"] = Trial(without_juice, features["juice val"], features["juice train"])
    return result


def recall(queries: Labelled, gallery: Labelled | None, layer: Projection | None = None) -> float:
    """Recall@1 of queries in a gallery, or leave-one-out among themselves, after `layer` if one is given."""
    asked = layer(queries.rows) if layer else queries.rows
    if gallery is None:
        return leave_one_out_recall(asked, queries.labels)
    return recall_at_1(asked, queries.labels, layer(gallery.rows) if layer else gallery.rows, gallery.labels)


def choose(features: Features) -> Choice:
    """The choice with the best mean Recall@1 over the validation sets; of equals, the least whitening.

    The two halves of Caltech count as one set, so Caltech, clothing and juice weigh the same.
    """
    tried = trials(features)
    scores: dict[Choice, list[float]] = {}
    for trial in tried.values():
        for centred in (True, False):
            parts = components(trial.fitted_on, centred)
            for alpha in ALPHAS:
                layer = projection_of(parts, alpha)
                scores.setdefault(Choice(alpha, centred), []).append(recall(trial.queries, trial.gallery, layer))
    print("alpha centred    mean  ", "  ".join(tried))
    for choice, row in scores.items():
        print(f"{choice.alpha:5.2f} {choice.centred!s:8}", score_line(row))
    print("1280-d, plain ", score_line([recall(trial.queries, trial.gallery) for trial in tried.values()]))
    best = max(scores, key=lambda choice: (round(mean_score(scores[choice]), 6), -choice.alpha))
    print("chosen:", best)
    return best


def mean_score(row: list[float]) -> float:
    """Mean over the sets of `trials`, whose first two are halves of one."""
    return float(np.mean([np.mean(row[:2]), *row[2:]]))


def score_line(row: list[float]) -> str:
    """A line of the table that `choose` prints."""
    return f"{mean_score(row):.4f}  " + "  ".join(f"{value:.4f}" for value in row)


def measure(features: Features, layer: Projection) -> list[tuple[str, float]]:
    """What the finished layer reaches, beside the plain 1280-d features; each a sentence and its Recall@1."""
    gallery = Labelled(
        stacked(features, ("juice train", "juice iconic")),
        np.concatenate([features["juice train"].labels, features["juice iconic"].labels]),
    )
    tests: list[tuple[str, Labelled, Labelled | None]] = [
        ("juice test.txt against train.txt + iconic.txt, whole image", features["juice test"], gallery),
        (
            "juice test.txt against train.txt alone, whole image",
            features["juice test"],
            features["juice train"],
        ),
        (
            "juice test.txt against iconic.txt alone, whole image",
            features["juice test"],
            features["juice iconic"],
        ),
        ("the 35 held-out Caltech-101 classes, leave one out", features["caltech held out"], None),
        ("clothing, leave one out (its photos are in the PCA fit)", features["clothing"], None),
    ]
    result = []
    for what, queries, others in tests:
        result += [
            (f"Recall@1 {what}", recall(queries, others, layer)),
            (f"Recall@1 {what}, by the plain 1280-d features", recall(queries, others)),
        ]
    return result
