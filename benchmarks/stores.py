"""One gallery in a folder, in Postgres with pgvector and in milvus-lite: what the same calls cost in one run.

    python -m benchmarks.stores [--count 20000] [--kinds folder,postgres,milvus]

Vectors are clusters of unit vectors with 512 dimensions, HNSW32 everywhere. Postgres is the wheel's, on this machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from shitu.gallery import Item, open_reader, open_writer
from shitu.gallery.change import new_facts
from shitu.gallery.read.faiss_index import exact_search
from tests.databases import postgres_server

DIMENSION = 512


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure(url: str, vectors: np.ndarray, queries: np.ndarray, rounds: int) -> dict[str, float]:
    items = [Item(f"thing {n % 500}", f"pictures/{n}.jpg", f"{n:064x}") for n in range(len(vectors))]

    def build() -> None:
        with open_writer(url) as writer:
            change = writer.begin(new_facts(DIMENSION, "IP", "HNSW32", ""))
            change.add(vectors, items)
            change.commit()

    def append_one() -> None:
        with open_writer(url) as writer:
            change = writer.begin()
            row = np.random.default_rng().normal(size=(1, DIMENSION)).astype(np.float32)
            change.add(row / np.linalg.norm(row), [Item("new", "new.jpg")])
            change.commit()

    def remove_one() -> None:
        ids = open_reader(url, load_index=False).find(labels=["new"])
        with open_writer(url) as writer:
            change = writer.begin()
            change.remove(ids[:1])
            change.commit()

    told = {"build s": seconds(build, 1)}
    reader = open_reader(url)
    reader.search(queries[:1], 5)
    told["open ms"] = 1e3 * seconds(lambda: open_reader(url).search(queries[:1], 5), 3)
    places = iter(range(10**9))

    def ask(count: int) -> None:
        start = next(places) * count % (len(queries) - count)
        reader.search(queries[start : start + count], 5)

    told["1 query ms"] = 1e3 * seconds(lambda: ask(1), rounds)
    told["6 queries ms"] = 1e3 * seconds(lambda: ask(6), rounds)
    told["refreshed ms"] = 1e3 * seconds(reader.refreshed, rounds)
    _, exact = exact_search(queries[:100], vectors, 5, reader.facts.measure)
    found = [[int(match.image[9:-4]) for match in matches] for matches in reader.search(queries[:100], 5)]
    hits = [len(set(one) & set(two)) for one, two in zip(found, exact.tolist(), strict=True)]
    told["recall@5"] = sum(hits) / 500
    told["append 1 ms"] = 1e3 * seconds(append_one, 5)
    told["remove 1 ms"] = 1e3 * seconds(remove_one, 5)
    told["page of 100 ms"] = 1e3 * seconds(lambda: reader.page(after=-1, limit=100), 5)
    told["labels ms"] = 1e3 * seconds(reader.labels, 3)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--kinds", default="folder,postgres,milvus")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    centres = random.normal(size=(options.count // 20, DIMENSION))
    rows = centres[random.integers(len(centres), size=options.count + 500)]
    rows = rows + 0.7 * random.normal(size=rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    vectors, queries = rows[: options.count], rows[options.count :]
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        told = {}
        for kind in options.kinds.split(","):
            url = str(folder / "gallery") if kind == "folder" else f"milvus://{folder}/lite.db"
            if kind == "postgres":
                url = held.enter_context(postgres_server()).url("bench")
            told[kind] = measure(url, vectors, queries, options.rounds)
            print(kind, {name: round(value, 3) for name, value in told[kind].items()}, flush=True)
        first = next(iter(told))
        for name in told[first]:
            if "recall" not in name:
                ratios = (f"{kind} {told[kind][name] / told[first][name]:.1f}" for kind in list(told)[1:])
                print(f"{name}: times {first}'s: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
