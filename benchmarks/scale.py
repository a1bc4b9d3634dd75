"""Galleries of 10^4 to 10^7 vectors that look like the recogniser's (scale_vectors.py): time, memory and recall.

    shitu predict-rec --npy real.npy PHOTOS ... > real.txt
    python -m benchmarks.scale real.npy real.txt --count 1e5 --folder F [--peers] [--json benchmarks/results/scale.json]

Makes the gallery in F (kept, so that a second run measures it again), with the true neighbours of the queries, which
are further members of its classes. It is measured in a process of its own, with the labels looked up, as `predict`
does. On a busy machine only ratios within one run mean something, and `cpu`, the processor time of all threads.
--peers: PaddleClas's HNSW32 and IVF by faiss alone, and hnswlib and usearch where installed, as they come and then as
thorough as it takes for the recall of ours. They find ids; no labels are looked up for them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale_vectors import MEMBERS, Likeness, compared, read_real
from shitu.cores import available_cores
from shitu.gallery import Item
from shitu.gallery.change import new_facts
from shitu.gallery.read.faiss_index import exact_search
from shitu.gallery.write.changes import write_generation
from shitu.gallery.write.lock import write_lock
from shitu.gallery.write.writer import _fresh
from shitu.measure import IP

QUERIES = 300
EXTRA = 1  # further members of each class, to be asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npy", type=Path)
    parser.add_argument("names", type=Path)
    parser.add_argument("--count", type=float, default=1e5)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--index-method", default="auto")
    parser.add_argument("--memory-limit", type=float, default=0, help="GB")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    count, folder = int(arguments.count), arguments.folder
    real = read_real(arguments.npy, arguments.names)
    found = {"count": count, "cores": available_cores(), "load": os.getloadavg()[0]}
    if not (folder / "gallery" / "gallery.json").exists():
        facts = {"index_method": arguments.index_method, "memory_limit": int(arguments.memory_limit * 1e9)}
        made = build(folder, Likeness.of(*real), count, facts)
        (folder / "built.json").write_text(json.dumps(made), encoding="utf-8")
    found |= json.loads((folder / "built.json").read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "benchmarks.scale_worker", str(folder), str(arguments.rounds)]
    found |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if arguments.peers:
        from benchmarks.scale_peers import peers

        found["peers"] = peers(folder, arguments.rounds, found["recall@1"])
    print(json.dumps(found, indent=1))
    if arguments.json:
        write(arguments.json, found, real)


def build(folder: Path, likeness: Likeness, count: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Make the gallery block by block, comparing each block with the queries on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    queries = held_out(likeness, count)
    truth = Truth(queries)
    items = (Item(f"thing {n // MEMBERS}", f"photos/{n // MEMBERS}/{n}.jpg", f"{n:064x}") for n in range(count))
    wanted = new_facts(queries.shape[1], "IP", fingerprint="benchmark", **facts)
    start, cpu = time.perf_counter(), time.process_time()
    with write_lock(folder / "gallery"):
        blocks = (truth.seen(block) for block, _ in likeness.blocks(count, extra=EXTRA))
        write_generation(folder / "gallery", _fresh(wanted), blocks, items, must_index=True)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    np.savez(folder / "truth.npz", queries=queries, ids=truth.ids, scores=truth.scores)
    files = {path.name: path.stat().st_size for path in (folder / "gallery").rglob("*") if path.is_file()}
    return {
        "build s": round(wall - truth.seconds, 1),
        "build cpu s": round(cpu - truth.cpu, 1),
        "disk MB": {name.split("-")[0]: round(size / 1e6, 1) for name, size in files.items() if size > 10_000},
    }


def held_out(likeness: Likeness, count: int) -> np.ndarray:
    """Some of the further members, (QUERIES, d), from blocks all over."""
    blocks = -(-count // (MEMBERS * 512))
    chosen = set(np.linspace(0, blocks - 1, min(blocks, 20)).astype(int).tolist())
    rows = np.concatenate(list(likeness.extras(count, chosen, EXTRA)))
    return rows[np.random.default_rng(1).permutation(len(rows))[:QUERIES]]


class Truth:
    """The ten nearest of everything seen so far, by comparing with all of it."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries, self.count = queries, 0
        self.seconds = self.cpu = 0.0
        self.scores = np.full((len(queries), 10), -np.inf, np.float32)
        self.ids = np.full((len(queries), 10), -1, np.int64)
        self._last = time.perf_counter(), time.process_time()

    def seen(self, block: np.ndarray) -> np.ndarray:
        start, cpu = time.perf_counter(), time.process_time()
        scores, rows = exact_search(self.queries, block, min(10, len(block)), IP)
        scores, ids = np.hstack([self.scores, scores]), np.hstack([self.ids, rows + self.count])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        self.scores, self.ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
        self.count += len(block)
        self.seconds += time.perf_counter() - start
        self.cpu += time.process_time() - cpu
        return block


def write(path: Path, found: dict[str, Any], real: tuple[np.ndarray, np.ndarray]) -> None:
    """Put it among what is there, by count."""
    every = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"likeness": compared(*real), "runs": {}}
    every["runs"][str(found["count"])] = found
    path.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


def timed(calls: Iterator[Callable[[], Any]]) -> dict[str, float]:
    """Milliseconds of each call: median, 99 % and least; and processor time of all threads, the median."""
    walls, cpus = [], []
    for call in calls:
        cpu, start = time.process_time(), time.perf_counter()
        call()
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    p50, p99 = np.percentile(walls, (50, 99)) * 1e3
    return {
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "least": round(min(walls) * 1e3, 2),
        "cpu": round(float(np.median(cpus)) * 1e3, 2),
    }


def recall(truth: np.ndarray, found: list[list[int]], k: int) -> float:
    """The share of the k true neighbours among the first k found."""
    hits = [len(set(wanted[:k].tolist()) & set(ids[:k])) / k for wanted, ids in zip(truth, found, strict=True)]
    return round(float(np.mean(hits)), 4)


def resident() -> dict[str, float]:
    """MB of this process: its own, and pages of mapped files, which the system takes back when it needs them."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1e3 for line in lines if line.startswith("Rss")}
    return {"own": round(sizes["RssAnon"], 1), "mapped": round(sizes["RssFile"], 1)}


if __name__ == "__main__":
    main()
