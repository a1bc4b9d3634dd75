"""One n-thread session against n one-thread sessions side by side, for several numbers of crops.

python benchmarks/streams.py [--model FOLDER] [--rounds 8]
Default model: the bundled recogniser. Prints the median milliseconds for all crops; the ways alternate in one run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from shitu.cores import available_cores
from shitu.engines.base import EngineOptions, Session, Streams
from shitu.engines.paddle import open_session
from shitu.models import open_model

CROPS = (1, 2, 6, 7, 16, 32)
LARGEST = (1, 2, 4, 8, 16)
Way = Callable[[Any], object]


def ways(model: str, cores: int) -> dict[str, Way]:
    """What can be done with a batch of (n, 3, 224, 224) crops."""
    folder = open_model(model, task="recognition")
    single = open_session(folder.program, folder.params, EngineOptions(threads=1))
    together = open_session(folder.program, folder.params, EngineOptions(threads=cores))
    streams = Streams(single, cores)
    name = single.input_names[0]

    def run(session: Session, crops: Any) -> Any:
        return session.run({name: crops})

    def in_one(crops: Any, size: int) -> None:
        for start in range(0, len(crops), size):
            run(together, crops[start : start + size])

    def side_by_side(crops: Any, largest: int) -> None:
        size = min(largest, -(-len(crops) // cores))
        streams.map(run, [crops[start : start + size] for start in range(0, len(crops), size)])

    made: dict[str, Way] = {
        f"1 session, {cores} threads, one by one": lambda crops: in_one(crops, 1),
        f"1 session, {cores} threads, {LARGEST[2]} at once": lambda crops: in_one(crops, LARGEST[2]),
        f"1 session, {cores} threads, all at once": lambda crops: in_one(crops, len(crops)),
    }
    for largest in LARGEST:
        made[f"{cores} streams, {largest} at once"] = lambda crops, largest=largest: side_by_side(crops, largest)  # type: ignore[misc]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=str(Path(__file__).resolve().parent.parent / "models/efficientnet_lite0_512")
    )
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    chosen = ways(args.model, available_cores())
    rng = np.random.default_rng(0)
    table: dict[str, list[float]] = {name: [] for name in chosen}
    for count in CROPS:
        crops = rng.normal(size=(count, 3, 224, 224)).astype(np.float32)
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        for number in range(args.rounds + 1):
            for name, way in chosen.items():
                start = time.perf_counter()
                way(crops)
                if number:
                    seconds[name].append(time.perf_counter() - start)
        for name, values in seconds.items():
            table[name].append(round(1000 * median(values), 1))
    print(f"{'ms for so many crops':40}" + "".join(f"{count:8}" for count in CROPS))
    for name, row in table.items():
        print(f"{name:40}" + "".join(f"{value:8.1f}" for value in row))
    print(json.dumps({"model": args.model, "crops": CROPS, "milliseconds": table}))


if __name__ == "__main__":
    main()
