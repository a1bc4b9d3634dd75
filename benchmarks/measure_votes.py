"""Which votes of the nearest entries name best: Recall@1 by k and weight, whole photos, one model.

    python -m benchmarks.measure_votes [MODEL_FOLDER] [--data ../shared/data]

juice test against train + packshots; Caltech-101's held-out classes and clothing, each photo against all others; the
same Caltech classes with 5 photos enrolled. `vote`: every entry counts 1; `score`: its cosine; `exp`:
exp(cosine / 0.1), which shitu/recognise/vote.py does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from research.common import photo_features as photos

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS: dict[str, Callable[[float], float]] = {
    "vote": lambda cosine: 1.0 + 1e-3 * cosine,  # ties go to the nearer
    "score": lambda cosine: max(cosine, 0.0),
    "exp": lambda cosine: float(np.exp(cosine / 0.1)),
}


class Setting(NamedTuple):
    """Cosines (q, g) and the labels of both sides."""

    cosines: photos.Floats
    gallery: NDArray[np.str_]
    queries: NDArray[np.str_]


def settings(network: photos.ExportedNetwork, data: Path) -> Iterator[tuple[str, Setting]]:
    lists = {name: photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "test")}
    rows = {name: photos.unit(network.photos(members)) for name, members in lists.items()}
    gallery = lists["train"] + lists["iconic"]
    cosines = rows["test"] @ np.vstack([rows["train"], rows["iconic"]]).T
    yield "juice", Setting(cosines, photos.labels_of(gallery), photos.labels_of(lists["test"]))
    caltech = photos.listed(data / "caltech101")
    unseen = photos.held_out_classes([photo.label for photo in caltech])
    for name, members in (
        ("clothing", photos.listed(data / "clothing")),
        ("caltech", [photo for photo in caltech if photo.label in unseen]),
    ):
        vectors, labels = photos.unit(network.photos(members)), photos.labels_of(members)
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -1)
        yield f"{name}, leave one out", Setting(cosines, labels, labels)
    enrolled = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        enrolled[np.flatnonzero(labels == label)[:5]] = True
    yield "caltech, 5 a class", Setting(cosines[~enrolled][:, enrolled], labels[enrolled], labels[~enrolled])


def recall(asked: Setting, k: int, weight: Callable[[float], float]) -> float:
    right = 0
    for cosines, label in zip(asked.cosines, asked.queries, strict=True):
        votes: dict[str, float] = {}
        for place in np.argsort(-cosines)[:k]:
            votes[asked.gallery[place]] = votes.get(asked.gallery[place], 0.0) + weight(float(cosines[place]))
        right += max(votes, key=lambda name: votes[name]) == label
    return right / len(asked.queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "models" / "efficientnet_lite0_512")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for name, asked in settings(photos.ExportedNetwork(arguments.model, 1), arguments.data):
        figures = [
            f"{kind} of {k} {recall(asked, k, weight):.3f}" for k in (5, 10, 20) for kind, weight in WEIGHTS.items()
        ]
        print(f"{name:24} nearest {recall(asked, 1, WEIGHTS['vote']):.3f}  " + "  ".join(figures), flush=True)


if __name__ == "__main__":
    main()
