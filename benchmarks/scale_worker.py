"""One gallery of scale.py, measured in a process of its own: opening, memory, searching, appending, removing."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale import recall, resident, timed
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.read.faiss_index import exact_search
from shitu.measure import IP


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    known = np.load(folder / "truth.npz")
    queries, truth = known["queries"], known["ids"]
    before = resident()
    gallery, opening = seconds(lambda: Gallery.open(folder / "gallery"))
    opened = resident()
    _, first = seconds(lambda: gallery.search(queries[:6], 5))
    ids = [[match.id for match in gallery.search(query[None], 10)[0]] for query in queries]
    found: dict[str, Any] = {"index": gallery.info()["index"], "open s": opening, "first search s": first}
    found |= {"recall@1": recall(truth, ids, 1), "recall@10": recall(truth, ids, 10)}
    for name, size in (("1 query ms", 1), ("6 queries ms", 6)):
        found[name] = timed(lambda n=n, size=size: gallery.search(at(queries, n, size), 5) for n in range(rounds))
    after = resident()
    found["resident MB"] = {name: round(after[name] - before[name], 1) for name in after}
    found["resident after opening MB"] = {name: round(opened[name] - before[name], 1) for name in opened}
    if len(gallery) <= 2_000_000:
        found["exact, ms"] = exact(gallery, queries, max(5, rounds // 10))
    label = [Item("new", "new.jpg")]
    (number,), found["append 1 s"] = seconds(lambda: gallery.append(-queries[:1], label))
    _, found["append 100 s"] = seconds(lambda: gallery.append(-queries[:100], label * 100))
    assert gallery.search(-queries[:1], 1)[0][0].id == number
    _, found["remove 101 s"] = seconds(lambda: gallery.remove(gallery.find(labels=["new"])))
    print(json.dumps(found))


def at(queries: np.ndarray, number: int, size: int) -> np.ndarray:
    start = number * size % (len(queries) - size)
    return queries[start : start + size]


def exact(gallery: Gallery, queries: np.ndarray, rounds: int) -> dict[str, Any]:
    """Comparing with every vector: as here, and as faiss does it alone, query by query in one thread."""
    import faiss

    vectors = gallery._now.store.vectors

    def alone(part: np.ndarray) -> None:
        faiss.omp_set_num_threads(1)
        faiss.knn(part, vectors, 26, metric=faiss.METRIC_INNER_PRODUCT)

    result = {}
    for size in (1, 6):
        calls = [lambda n=n, size=size: exact_search(at(queries, n, size), vectors, 26, IP) for n in range(rounds)]
        theirs = [lambda n=n, size=size: alone(at(queries, n, size)) for n in range(rounds)]
        ours_ms, theirs_ms = timed(iter(calls)), timed(iter(theirs))
        result[f"{size}"] = {"here": ours_ms, "faiss alone": theirs_ms}
    return result


def seconds(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - start, 3)


if __name__ == "__main__":
    main()
