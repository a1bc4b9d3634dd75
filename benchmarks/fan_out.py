"""One query to every shard of a gallery of 10^9: how long the slowest shard takes, and with how many cores.

    python -m benchmarks.fan_out [--write benchmarks/results/fan_out.json]
    python -m benchmarks.fan_out --measured benchmarks/results/fan_out.json

measures what a search costs a core (or takes that from a file), on vectors made like those of the bundled recogniser,
in lists as long as those of a shard of 10^8, so that as many lists cost as much there; then simulates queries that
arrive at random and wait for all shards. docs/scale.md draws on it. The assumptions are the constants below.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from tabulate import tabulate

from shitu.config import load_config
from shitu.images.read import read_image
from shitu.recognise.from_config import RecPredictor
from shitu.resources import bundled

DIMENSION = 512
MEMBERS = 20  # pictures of one thing
LOCAL = 32  # directions in which pictures of one thing differ
RERANKED = 100  # so many does a shard name by their codes, and score anew

SHARD, LISTS = 10**8, 2**18  # 381 codes to a list
PROBES = 256  # lists that a search looks through, for recall 0.95: nobody has measured that on such vectors at 10^8
COARSE = 1.0e-3  # seconds to find them by HNSW among their centres: 0.94 ms among 10^5 vectors (issue 16)
READING = 0.4e-3  # seconds for 100 vectors from NVMe: 4 times 32 reads at once, 0.1 ms each; of each index
NETWORK = 1e-3  # seconds there and back, and merging
SLOW, FACTOR = 0.01, 10.0  # so many answers take so many times as long: pauses, cold pages, neighbours
LOAD = 0.35  # of the cores, with two replicas: when one is lost, the other has twice that
QUERIES = 20_000


# --- what a search costs ----------------------------------------------------------------------------------------------


def pictures_of_things() -> np.ndarray:
    """(things, pictures, d): the demo's gallery, by the bundled models."""
    root = Path(bundled("demo"))
    lines = (root / "gallery.txt").read_text(encoding="utf-8").splitlines()
    by_label: dict[str, list[str]] = {}
    for line in lines:
        image, label = line.split("\t")
        by_label.setdefault(label, []).append(image)
    predictor = RecPredictor(load_config(None, []))
    images = [image for images in by_label.values() for image in images]
    vectors = predictor.predict([read_image(root / image) for image in images])
    return np.asarray(vectors).reshape(len(by_label), -1, DIMENSION)


@dataclass
class Made:
    """Makes any number of vectors: things as far from each other, and pictures from their thing, as real ones."""

    real: np.ndarray

    def __post_init__(self) -> None:
        self.centres = unit(self.real.mean(axis=1))
        values, axes = np.linalg.eigh(np.cov(self.centres.T))
        # 80 things span 79 dimensions; the others get the least spread that was seen, or things would lie too close
        values = np.maximum(values, np.sort(values)[-60])
        self.spread = axes * np.sqrt(values)
        away = (self.real - self.centres[:, None]).reshape(-1, DIMENSION)
        self.radii = np.clip(np.linalg.norm(away, axis=1), 0.1, 0.98)
        self.directions = unit(away)

    def vectors(self, things: int, members: int, seed: int) -> np.ndarray:
        """(things, members, d) float32 unit vectors."""
        rng = np.random.default_rng(seed)
        made = np.empty((things, members, DIMENSION), np.float32)
        for number in range(things):
            centre = unit(self.centres.mean(axis=0) + self.spread @ rng.standard_normal(DIMENSION))
            span = self.directions[rng.integers(0, len(self.directions), LOCAL)]
            away = unit(rng.standard_normal((members, LOCAL)) @ span)
            radius = rng.choice(self.radii)
            made[number] = unit(centre * math.sqrt(1 - radius**2) + radius * away)
        return made


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def measure(count: int, made: Made) -> list[dict[str, Any]]:
    """IVF with RaBitQ, one thread, by lists looked through; processor time, which others here change little."""
    queries = 500
    things = made.vectors(count // MEMBERS, MEMBERS + 1, seed=0)
    base = np.ascontiguousarray(things[:, 1:].reshape(-1, DIMENSION))
    asked = np.ascontiguousarray(things[:: max(1, len(things) // queries), 0][:queries])
    exact = faiss.IndexFlatIP(DIMENSION)
    exact.add(base)
    truth = exact.search(asked, 10)[1]
    lists = count * LISTS // SHARD
    index = faiss.index_factory(DIMENSION, f"IVF{lists},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    start = time.process_time()
    index.train(base[:: max(1, count // (60 * lists))])
    training = time.process_time() - start
    start = time.process_time()
    index.add(base)
    adding = time.process_time() - start
    start = time.thread_time()
    for query in asked:
        index.quantizer.search(query[None], 16)
    centre = (time.thread_time() - start) / len(asked) / lists
    rows = []
    for probes in (16, 64, 256):
        index.nprobe = probes
        found, times = [], []
        for query in asked:
            start = time.thread_time()
            found.append(index.search(query[None], RERANKED)[1][0])
            times.append(time.thread_time() - start)
        recall = np.mean([np.isin(wanted, got).mean() for wanted, got in zip(truth, found, strict=True)])
        p50, p99 = 1e3 * np.percentile(times, (50, 99))
        rows.append(
            {
                **{"vectors": count, "lists": lists, "probes": probes, "codes": probes * count // lists},
                **{"recall": round(float(recall), 3), "p50 ms": float(p50), "p99 ms": float(p99)},
                **{"bytes": int(index.code_size) + 8, "training s": training, "adding us": 1e6 * adding / count},
                "centre us": 1e6 * centre,
                "times": [round(1e3 * each / p50, 3) for each in sorted(times)],  # over their median
            }
        )
    return rows


# --- simulation -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fleet:
    """`shards`, each on `replicas` machines of `cores`; a query takes a core of one machine of each shard.

    hedge: seconds after which a shard that has not answered is asked again, on another of its machines.
    """

    shards: int
    replicas: int
    cores: int
    hedge: float | None = None


def answers_of_a_shard(
    arrivals: np.ndarray, fleet: Fleet, services: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Seconds until one shard has answered each query, and how many searches it ran; services: (2, queries) seconds.

    Each machine serves in order of arrival. The first answer counts; what waits for a query that has one is dropped.
    """
    idle = [fleet.cores] * fleet.replicas
    waiting: list[list[tuple[int, int]]] = [[] for _ in idle]  # (query, which try), by machine
    heads = [0] * fleet.replicas
    done = np.full(len(arrivals), np.inf)
    homes = rng.integers(0, fleet.replicas, len(arrivals))
    events: list[tuple[float, int, int, int, int]] = []  # time, kind (0 arrives, 1 ends), query, try, machine
    events += [(float(at), 0, query, 0, int(homes[query])) for query, at in enumerate(arrivals)]
    if fleet.hedge is not None and fleet.replicas > 1:
        others = (homes + rng.integers(1, fleet.replicas, len(arrivals))) % fleet.replicas
        events += [(float(at) + fleet.hedge, 0, query, 1, int(others[query])) for query, at in enumerate(arrivals)]
    heapq.heapify(events)
    runs = 0
    while events:
        now, kind, query, attempt, machine = heapq.heappop(events)
        if kind == 1:
            idle[machine] += 1
            done[query] = min(done[query], now)
        elif done[query] > now:
            waiting[machine].append((query, attempt))
        while idle[machine] and heads[machine] < len(waiting[machine]):
            following, which = waiting[machine][heads[machine]]
            heads[machine] += 1
            if done[following] <= now:
                continue
            idle[machine] -= 1
            runs += 1
            heapq.heappush(events, (now + float(services[which, following]), 1, following, which, machine))
    return done - arrivals, runs


def simulate(fleet: Fleet, rate: float, services: np.ndarray, slow: float = SLOW) -> dict[str, Any]:
    """Queries at `rate` a second, at random; a search takes one of `services` seconds, a `slow` one FACTOR times that.

    Percentiles leave out the first tenth, when queues are still empty.
    """
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1 / rate, QUERIES))
    slowest, runs = np.zeros(QUERIES), 0
    for _ in range(fleet.shards):
        takes = rng.choice(services, (2, QUERIES))
        takes[rng.random((2, QUERIES)) < slow] *= FACTOR
        seconds, count = answers_of_a_shard(arrivals, fleet, takes, rng)
        slowest, runs = np.maximum(slowest, seconds), runs + count
    p50, p99, p999 = 1e3 * np.percentile(slowest[QUERIES // 10 :] + NETWORK, (50, 99, 99.9))
    load = rate * services.mean() * (1 + slow * (FACTOR - 1)) / fleet.replicas / fleet.cores
    shown = {"shards": fleet.shards, "replicas": fleet.replicas, "cores": fleet.cores}
    shown |= {"hedge ms": None if fleet.hedge is None else 1e3 * fleet.hedge, "slow": slow, "load": round(load, 2)}
    return shown | {"p50 ms": p50, "p99 ms": p99, "p99.9 ms": p999, "searches": runs / fleet.shards / QUERIES}


def tail_at_scale() -> dict[str, float]:
    """Dean and Barroso, The Tail at Scale, CACM 56(2), 2013: of servers that take 10 ms, and 1 s once in a hundred
    times, 63 % of the queries to a hundred of them take over 1 s. Here by the simulation, with no queue."""
    rng = np.random.default_rng(0)
    arrivals = np.arange(2_000) * 10.0
    slowest = np.zeros(len(arrivals))
    for _ in range(100):
        services = np.where(rng.random((2, len(arrivals))) < 0.01, 1.0, 0.01)
        slowest = np.maximum(slowest, answers_of_a_shard(arrivals, Fleet(100, 1, 1), services, rng)[0])
    return {"published": 0.63, "simulated": float((slowest >= 1 - 1e-9).mean())}


def queues() -> dict[str, float]:
    """The mean time at one machine of four cores, 70 % busy, of searches that take 1 s in the mean, exponentially: by
    Erlang's formula (M/M/4), and by the simulation."""
    rng = np.random.default_rng(0)
    servers, rate, count = 4, 2.8, 100_000
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    seconds = answers_of_a_shard(arrivals, Fleet(1, 1, servers), rng.exponential(1.0, (2, count)), rng)[0]
    full = rate**servers / math.factorial(servers) * servers / (servers - rate)
    waits = full / (sum(rate**k / math.factorial(k) for k in range(servers)) + full)
    return {"theory": 1 + waits / (servers - rate), "simulated": float(seconds[count // 10 :].mean())}


def services(row: dict[str, Any], vectors: float, segments: int) -> np.ndarray:
    """Seconds of a search among so many vectors that lie in so many indexes, one after the other.

    An index of a part of SHARD has as much less lists as vectors; looked through are fewer by the root of that.
    """
    part = vectors / segments / SHARD
    coarse = min(COARSE, LISTS * part * row["centre us"] / 1e6)
    searching = row["p50 ms"] / 1e3 * PROBES / row["probes"] * math.sqrt(part)
    return np.asarray(segments * (coarse + READING + searching * np.array(row["times"])))


def scenarios(row: dict[str, Any], rate: float) -> list[dict[str, Any]]:
    """All machines there and nothing slow; slow answers; these hedged; and one machine of each pair lost."""
    found = []
    for shards, segments in ((10, 1), (40, 1), (10, 12), (10, 200)):
        takes = services(row, 10 * SHARD / shards, segments)
        cores = math.ceil(rate * takes.mean() * (1 + SLOW * (FACTOR - 1)) / 2 / LOAD)
        whole = Fleet(shards, 2, cores)
        calm = simulate(whole, rate, takes, slow=0.0)
        hedged = replace(whole, hedge=(calm["p99 ms"] / 1e3 - NETWORK))
        told = [calm, *(simulate(each, rate, takes) for each in (whole, hedged, replace(whole, replicas=1)))]
        found += [{"indexes": segments, "search ms": 1e3 * float(takes.mean())} | each for each in told]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=1000, help="queries a second")
    parser.add_argument("--measured", type=Path, help="a file of --write: nothing is measured")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    if arguments.measured:
        rows = json.loads(arguments.measured.read_text(encoding="utf-8"))["measured"]
    else:
        rows = measure(arguments.count, Made(pictures_of_things()))
    show([{key: value for key, value in row.items() if key != "times"} for row in rows])
    tail = tail_at_scale()
    print("\nThe Tail at Scale, over 1 s:", ", ".join(f"{name} {value:.2f}" for name, value in tail.items()))
    print("A queue, mean seconds:", ", ".join(f"{name} {value:.2f}" for name, value in queues().items()), "\n")
    found = scenarios(rows[-1], arguments.rate)
    show(found)
    if arguments.write:
        told = {"command": "python -m benchmarks.fan_out", "machine": machine(), "measured": rows}
        told |= {"tail at scale": tail, "rate": arguments.rate, "simulated": found}
        arguments.write.write_text(json.dumps(told) + "\n", encoding="utf-8")


def show(rows: list[dict[str, Any]]) -> None:
    print(tabulate(rows, headers="keys", floatfmt=".3g"))


def machine() -> dict[str, str]:
    return {"machine": platform.machine(), "python": platform.python_version(), "faiss": faiss.__version__}


if __name__ == "__main__":
    main()
