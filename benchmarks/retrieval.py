"""Recall@k, mAP and mINP of many queries: blocks (shitu/training/rec/retrieval.py) against one full similarity matrix.

python benchmarks/retrieval.py [--queries 10000] [--gallery 200000] [--dimension 512] [--small 20000]
Synthetic unit vectors, 10 gallery images a class. The full matrix is compared with blocks on a gallery of --small
images, then blocks alone take the whole one. Each way runs in a process of its own; memory is its peak beyond the
vectors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from shitu.training.rec.retrieval import Embedded, metrics_of, score

Metrics = dict[str, float]


def made(count: int, dimension: int, classes: int, seed: int) -> Embedded:
    """Vectors around a centre for each class, noisy enough that about half of the queries miss."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    vectors = np.empty((count, dimension), np.float32)
    centres = np.random.default_rng(0).normal(size=(classes, dimension)).astype(np.float32)
    for start in range(0, count, 10000):
        part = slice(start, start + 10000)
        noisy = centres[labels[part]] + 2.2 * rng.normal(size=(len(labels[part]), dimension)).astype(np.float32)
        vectors[part] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return Embedded(vectors, labels)


def full_matrix(queries: Embedded, gallery: Embedded) -> Metrics:
    """What one writes first: all similarities, all sorted."""
    ranking = np.argsort(-(queries.vectors @ gallery.vectors.T), axis=1, kind="stable")
    right = gallery.labels[ranking] == queries.labels[:, None]
    right = right[right.any(axis=1)]
    counts, ranks = right.cumsum(axis=1), np.arange(1, right.shape[1] + 1)
    precision = np.where(right, counts / ranks, 0).sum(axis=1) / counts[:, -1]
    last = right.shape[1] - right[:, ::-1].argmax(axis=1)
    return {
        "recall1": float(right[:, 0].mean()),
        "recall5": float(right[:, :5].any(axis=1).mean()),
        "mAP": float(precision.mean()),
        "mINP": float((counts[:, -1] / last).mean()),
    }


def blocks(queries: Embedded, gallery: Embedded) -> Metrics:
    return metrics_of(score(queries, gallery))


def recall_alone(queries: Embedded, gallery: Embedded) -> Metrics:
    found = metrics_of(score(queries, gallery, precision=False))
    return {name: value for name, value in found.items() if name.startswith("recall")}


def measure(way: Callable[[Embedded, Embedded], Metrics], queries: int, gallery: int, dimension: int) -> list[object]:
    """Seconds, peak MB beyond the vectors, and metrics."""
    sides = made(queries, dimension, gallery // 10, 1), made(gallery, dimension, gallery // 10, 2)
    sides[0].vectors[:64] @ sides[1].vectors[:64].T  # the libraries' own buffers
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: the peak counts from here
    before, start = peak_megabytes(), time.perf_counter()
    metrics = way(*sides)
    seconds = time.perf_counter() - start
    return [round(seconds, 2), round(peak_megabytes() - before), metrics]


def peak_megabytes() -> float:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("queries", 10_000), ("gallery", 200_000), ("dimension", 512), ("small", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    results: dict[str, list[object]] = {}
    small = (("full matrix", full_matrix), ("blocks", blocks), ("recall alone, faiss", recall_alone))
    for gallery, ways in ((args.small, small), (args.gallery, small[1:])):
        for name, way in ways:
            with spawn.Pool(1) as pool:  # a fresh process: the peak of its memory never falls
                row = pool.apply(partial(measure, way, args.queries, gallery, args.dimension))
            results[f"{name}, {gallery:,}"] = row
            print(f"{name:20} {args.queries:,} x {gallery:,}: {row[0]:8} s {row[1]:6} MB  {row[2]}", flush=True)
    ratios = {}
    for name, _ in small[1:]:
        matrix, other = results[f"full matrix, {args.small:,}"], results[f"{name}, {args.small:,}"]
        ratios[name] = round(float(str(matrix[0])) / float(str(other[0])), 2)
    print(json.dumps({"times as quick as the full matrix": ratios, "results": results}))


if __name__ == "__main__":
    main()
