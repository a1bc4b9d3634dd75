"""Recall@1 on articles and brands that a recogniser learnt, and on such as it never saw: what does it owe to them?

    python -m research.recogniser.disjoint [MODEL_FOLDER ...] [--data ../shared/data]

Photos of ../shared/data/products, leave one out. One class in five was never learnt from (research/gpu_job). A gallery
of more classes is harder, so the learnt ones are asked in as many classes, 40 choices of them (seed 0), at most PHOTOS
of each, groceries and logos apart. Mean and standard deviation over the choices, for the others over choices of photos.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from research.common import photo_features as photos
from research.gpu_job.pack_photos import fifth, listed
from research.gpu_job.refined_sets import as_photos

ROOT = Path(__file__).resolve().parents[2]
PHOTOS, CHOICES = 4, 40


def chosen(labels: NDArray[np.str_], classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The places of up to PHOTOS of each of so many classes."""
    names = rng.choice(np.unique(labels), classes, replace=False)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == name))[:PHOTOS] for name in names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=[ROOT / "models" / "efficientnet_lite0_512"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    entries = listed(arguments.data / "products", "products")
    apart = fifth({str(entry.label) for entry in entries})
    counts = Counter(entry.label for entry in entries)
    entries = [entry for entry in entries if counts[entry.label] > 1]
    learnt = np.array([entry.label not in apart for entry in entries])
    kinds = np.array([entry.path.parent.parent.name for entry in entries])
    labels = np.array([str(entry.label) for entry in entries])
    for folder in arguments.models:
        rows = photos.unit(photos.ExportedNetwork(folder, 1).photos(as_photos(entries)))
        for kind in np.unique(kinds):
            classes = len(np.unique(labels[(kinds == kind) & ~learnt]))
            for what, part in (("learnt", learnt), ("never seen", ~learnt)):
                rng, recalls = np.random.default_rng(0), []
                mine = np.flatnonzero((kinds == kind) & part)
                for _ in range(CHOICES):
                    some = mine[chosen(labels[mine], classes, rng)]
                    recalls.append(photos.leave_one_out_recall(rows[some], labels[some]))
                print(
                    f"{folder.name}: {kind}, {what}, {classes} classes: {np.mean(recalls):.3f}, "
                    f"standard deviation {np.std(recalls):.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
