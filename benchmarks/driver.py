"""What the one process costs that reads the parts of a fleet and commits the gallery: time and memory a line.

    python -m benchmarks.driver [--lines 200000]

The fleet here writes parts with random vectors at once, so that nothing else takes time; the line with less lines is
what the program, the models and faiss take anyway.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from shitu.build.builder import GalleryBuilder
from shitu.build.embed import Embedded, Models
from shitu.build.in_shards import InShards, to_part
from shitu.build.list_file import Entry
from shitu.build.source import Files
from shitu.config import load_config
from shitu.fleet.parts import Parts
from shitu.fleet.shards import Shard, Work


class Instant:
    """A fleet that invents the vectors of each shard."""

    seconds = 0.0

    def map(self, work: Work, shards: Sequence[Shard], parts: Parts) -> Iterator[str]:
        rng = np.random.default_rng(0)
        for shard in shards:
            start = time.thread_time()
            vectors = rng.standard_normal((len(shard.lines), 512), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            done = [
                Embedded(entry, entry.path, f"{entry.line:064x}", (None,), vectors[number : number + 1])
                for number, entry in enumerate(shard.lines)
            ]
            parts.write(shard.name, to_part(done))
            self.seconds += time.thread_time() - start
            yield shard.name


class Nowhere(Files):
    """Images of which only the names are asked for."""

    def identity(self, path: str) -> str:
        return path


def build(folder: Path, lines: int) -> str:
    overrides = [f"IndexProcess.index_dir={folder / 'gallery'}", "IndexProcess.index_method=Flat"]
    fleet = Instant()
    executor = partial(InShards, fleet=fleet, place=str(folder / "parts"))
    config = load_config(None, [*overrides, "IndexProcess.crop=none"])
    builder = GalleryBuilder(config, source=Nowhere(), executor=executor, models=Models.open(config))
    entries = [Entry(f"things/{n}.jpg", f"things/{n}.jpg", f"thing {n // 20}", n) for n in range(lines)]
    start = time.process_time()
    builder.run(entries)
    seconds = time.process_time() - start - fleet.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{lines:9,} lines: {seconds:6.1f} s of processor, {lines / seconds:8,.0f} lines/s, peak {peak:6,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(build(Path(folder), arguments.lines), flush=True)
        return
    for lines in (arguments.lines // 10, arguments.lines):  # a process each: what one has had in memory stays
        command = [sys.executable, "-m", "benchmarks.driver", "--one", "--lines", str(lines)]
        subprocess.run(command, check=True, env=dict(os.environ))


if __name__ == "__main__":
    main()
