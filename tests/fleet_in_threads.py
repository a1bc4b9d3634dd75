"""A fleet of threads: the shards that Ray would run, by the same code, each process's models opened in a thread."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from shitu.fleet.parts import Parts
from shitu.fleet.shards import Shard, Work, do_shard


@dataclass
class InThreadPool:
    """The last shards first: parts come in another order than their lines. `done`: what it was asked for."""

    threads: int = 2
    done: list[Shard] = field(default_factory=list)

    def map(self, work: Work, shards: Sequence[Shard], parts: Parts) -> Iterator[str]:
        if not shards:
            return
        run = pickle.loads(pickle.dumps(work)).open()
        self.done += shards
        with ThreadPoolExecutor(self.threads) as pool:
            for each in as_completed([pool.submit(do_shard, run, shard, parts) for shard in reversed(shards)]):
                yield each.result()
