"""A gallery of many random unit vectors: how long each operation takes, and what it leaves in memory and on disk.

    python benchmarks/large_gallery.py --count 1000000 --index-method Flat

Random vectors are the hardest case for approximate search; their recall says nothing about photos, so it is not shown.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from shitu.gallery import Item
from shitu.gallery.gallery import Gallery

Result = TypeVar("Result")
BLOCK = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--index-method", default="Flat")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), arguments.count, arguments.dimension, arguments.index_method)


def run(folder: Path, count: int, dimension: int, index_method: str) -> None:
    vectors = random_vectors(folder / "vectors.npy", count, dimension)
    items = (Item(f"label {n % 1000}", f"folder/{n}.jpg", f"{n:064x}") for n in range(count))
    facts = {"index_method": index_method, "dist_type": "IP", "fingerprint": "benchmark"}
    timed("create", lambda: Gallery.create(folder / "gallery", vectors, items, **facts)).close()
    gallery = timed("open", lambda: Gallery.open(folder / "gallery"))
    queries = np.array(vectors[:: count // 10][:10])
    timed("search, 10 queries, the first", lambda: gallery.search(queries, 5))
    timed("search, 10 queries", lambda: gallery.search(queries, 5))
    timed("append 1", lambda: gallery.append(-queries[:1], [Item("new", "new.jpg")]))
    timed("remove 1", lambda: gallery.remove([count // 2]))
    timed("search, 10 queries", lambda: gallery.search(queries, 5))
    timed("verify", gallery.verify)
    size = sum(path.stat().st_size for path in (folder / "gallery").rglob("*") if path.is_file())
    print(f"{size / 1e9:.2f} GB on disk")


def random_vectors(path: Path, count: int, dimension: int) -> np.ndarray:
    """(count, dimension) float32 unit vectors, mapped from a file."""
    vectors = np.lib.format.open_memmap(path, "w+", "float32", (count, dimension))
    rng = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        block = rng.standard_normal((min(BLOCK, count - start), dimension), dtype=np.float32)
        vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def timed(what: str, work: Callable[[], Result]) -> Result:
    """Run it; print its seconds and the peak of resident memory, pages mapped from files included."""
    start = time.perf_counter()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{what:32}{time.perf_counter() - start:9.2f} s   peak {peak:5.2f} GB", flush=True)
    return result


if __name__ == "__main__":
    main()
