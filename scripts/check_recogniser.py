"""Latency of an exported recogniser, and the cosines of right, wrong and unknown matches (for `score_thres`).

Run from the repository root: python scripts/check_recogniser.py [MODEL_FOLDER] [--data ../shared/data]
Threshold of choice: the one that best splits right matches from matches of what the gallery does not hold, with
the largest (share of right kept + share of unknown refused) / 2, averaged over the settings below.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from photo_features import (
    ExportedNetwork,
    Floats,
    Photo,
    coco_photos,
    held_out_classes,
    labels_of,
    listed,
    unit,
)

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = np.arange(0.0, 1.0, 0.05)


def latency(folder: Path, threads: int, batch: int, runs: int = 80) -> tuple[float, float]:
    """Median and fastest milliseconds of one call, in this process."""
    run = ExportedNetwork(folder, threads)
    x = np.random.default_rng(0).random((batch, 3, 224, 224), dtype=np.float32)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run(x)
        times.append(1000 * (time.perf_counter() - start))
    times = times[runs // 8 :]  # the first calls compile
    return float(np.median(times)), min(times)


def print_latency(folder: Path) -> None:
    """Every setting in a process of its own: OpenMP keeps the thread count of its first use."""
    pool = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    for threads, batch in product((1, 2), (1, 7)):
        median, fastest = pool.apply(latency, (folder, threads, batch))
        print(
            f"{threads} thread(s), batch {batch}: median {median:.1f} ms, fastest {fastest:.1f} ms",
            flush=True,
        )
    pool.close()
    pool.join()  # leaving a `with` would kill the worker, which paddle reports as a fatal error


class Matches:
    """Top-1 cosines of one setting: right and wrong ones of known queries, and those of unknown queries."""

    def __init__(self) -> None:
        self.right: list[float] = []
        self.wrong: list[float] = []
        self.unknown: list[float] = []

    def add(self, cosines: Floats, found: NDArray[np.str_], wanted: NDArray[np.str_] | None) -> None:
        """Cosines (q, g) of queries to gallery rows labelled `found` (g,); `wanted` None: unknown queries."""
        top, nearest = cosines.max(axis=1), found[cosines.argmax(axis=1)]
        if wanted is None:
            self.unknown += top.tolist()
        else:
            self.right += top[nearest == wanted].tolist()
            self.wrong += top[nearest != wanted].tolist()

    def balance(self) -> NDArray[np.float64]:
        """(share of right kept + share of unknown refused) / 2 at every threshold."""
        right, unknown = np.array(self.right), np.array(self.unknown)
        return np.array([(np.mean(right >= t) + np.mean(unknown < t)) / 2 for t in THRESHOLDS])

    def show(self, name: str) -> None:
        """Percentiles, and what each threshold keeps."""
        print(f"\n{name}\n{'':10}{'n':>6}   5 %   25 %   50 %   75 %   95 %")
        kinds = {"right": self.right, "wrong": self.wrong, "unknown": self.unknown}
        for kind, values in kinds.items():
            percentiles = np.percentile(values, [5, 25, 50, 75, 95])
            print(f"{kind:10}{len(values):6} " + " ".join(f"{v:6.3f}" for v in percentiles))
        for t in THRESHOLDS[2:15]:
            shares = (f"{kind} {np.mean(np.array(values) >= t):.3f}" for kind, values in kinds.items())
            print(f"  kept at {t:.2f}: {', '.join(shares)}")


def caltech_matches(rows: Floats, labels: NDArray[np.str_], per_class: int | None) -> Matches:
    """Half of the classes are the gallery, the other half unknown, then the other way round.

    `per_class` photos of each class are enrolled and the rest asked; with None all are, each leaving itself out.
    """
    matches, classes = Matches(), np.unique(labels)
    for half in (0, 1):
        inside = np.isin(labels, classes[half::2])
        known, names = rows[inside], labels[inside]
        enrolled = np.ones(len(known), bool)
        if per_class is not None:
            enrolled[:] = False
            for name in np.unique(names):
                enrolled[np.flatnonzero(names == name)[:per_class]] = True
        gallery, found = known[enrolled], names[enrolled]
        cosines = known @ gallery.T
        if per_class is None:
            np.fill_diagonal(cosines, -1.0)
            matches.add(cosines, found, names)
        else:
            matches.add(cosines[~enrolled], found, names[~enrolled])
        matches.add(rows[~inside] @ gallery.T, found, None)
    return matches


def juice_matches(network: ExportedNetwork, data: Path, lists: tuple[str, ...]) -> Matches:
    """Juice cartons in the gallery, val.txt asked; unknown are coco128's boxes, as a detector would cut them."""
    enrolled = [photo for name in lists for photo in listed(data / "juice", name)]
    asked = listed(data / "juice", "val.txt")
    boxes = coco_photos(data / "coco128", "foreground.json", boxes=True)
    gallery, known, unknown = (unit(network.photos(members)) for members in (enrolled, asked, boxes))
    matches = Matches()
    matches.add(known @ gallery.T, labels_of(enrolled), labels_of(asked))
    matches.add(unknown @ gallery.T, labels_of(enrolled), None)
    return matches


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of a recogniser, and its cosines for score_thres.")
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "models" / "efficientnet_lite0_512")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the photos")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print_latency(args.model)

    network = ExportedNetwork(args.model)
    caltech = listed(args.data / "caltech101")
    classes = held_out_classes(photo.label for photo in caltech)
    chosen: list[Photo] = [photo for photo in caltech if photo.label in classes]
    rows, labels = unit(network.photos(chosen)), labels_of(chosen)
    shelf, packshots = ("train.txt", "iconic.txt"), ("iconic.txt",)
    settings = {
        "held-out Caltech, all photos enrolled, leave one out": caltech_matches(rows, labels, None),
        "held-out Caltech, 5 photos of a class enrolled": caltech_matches(rows, labels, 5),
        "held-out Caltech, 1 photo of a class enrolled": caltech_matches(rows, labels, 1),
        "juice val.txt against train.txt + iconic.txt": juice_matches(network, args.data, shelf),
        "juice val.txt against iconic.txt": juice_matches(network, args.data, packshots),
    }
    for name, matches in settings.items():
        matches.show(name)
    print()
    for name, matches in settings.items():
        best = int(matches.balance().argmax())
        print(f"{name}: best threshold {THRESHOLDS[best]:.2f}, balanced {matches.balance()[best]:.3f}")
    mean = np.mean([matches.balance() for matches in settings.values()], axis=0)
    print(f"score_thres, best on average: {THRESHOLDS[int(mean.argmax())]:.2f} (balanced {mean.max():.3f})")


if __name__ == "__main__":
    main()
