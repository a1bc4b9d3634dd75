"""What the machine could do at most: products of large matrices, and copying."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shitu.benchmark.matmul import write_matmul
from shitu.engines.base import Engine, EngineOptions
from shitu.engines.onnxruntime import ONNX, OnnxRuntime
from shitu.engines.openvino import OpenVino
from shitu.errors import EngineError
from shitu.models import Program

SIDE = 1024  # of the matrices: 1.07 G multiply-adds, 4 MB each in fp32
COPIED = 128 << 20  # bytes; more than caches hold


@dataclass
class Limits:
    """The best of all rounds, for one number of threads.

    `peaks`: multiply-adds per second by precision; `bandwidth`: bytes read and written per second; `missing`: why a
    precision has no peak.
    """

    threads: int
    peaks: dict[str, float] = field(default_factory=dict)
    bandwidth: float = 0.0
    missing: dict[str, str] = field(default_factory=dict)


class Machine:
    """Measures its limits round by round, beside what is measured against them."""

    def __init__(self, threads: int, precisions: Iterable[str], folder: Path) -> None:
        self.limits = Limits(threads)
        self._products: dict[str, Callable[[], object]] = {}
        for precision in precisions:
            try:
                self._products[precision] = _product(precision, threads, folder)
            except EngineError as error:
                self.limits.missing[precision] = str(error)
        self._source, self._target = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)

    def measure(self, tries: int = 3) -> None:
        """Another round: what is better than before is kept."""
        for precision, product in self._products.items():
            peak = SIDE**3 / _best(product, tries)
            self.limits.peaks[precision] = max(peak, self.limits.peaks.get(precision, 0.0))
        with ThreadPoolExecutor(self.limits.threads) as pool:
            edges = np.linspace(0, COPIED, self.limits.threads + 1).astype(int).tolist()

            def copy_all() -> None:
                list(pool.map(self._copy, edges, edges[1:]))

            self.limits.bandwidth = max(self.limits.bandwidth, 2 * COPIED / _best(copy_all, tries))

    def _copy(self, start: int, end: int) -> None:
        np.copyto(self._target[start:end], self._source[start:end])


def _best(work: Callable[[], object], tries: int) -> float:
    work()  # the first time memory and caches are cold
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _product(precision: str, threads: int, folder: Path) -> Callable[[], object]:
    """One product of two matrices: by ONNX Runtime, bf16's by OpenVINO."""
    engine: Engine = OpenVino() if precision == "bf16" else OnnxRuntime()
    path = write_matmul(folder, SIDE, "int8" if precision == "int8" else "fp32")
    program = Program(ONNX, precision, path)
    session = engine.open(program, EngineOptions(threads=threads, precision=precision))
    rng = np.random.default_rng(0)
    feed: Any = rng.integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
    if precision != "int8":
        feed = feed.astype(np.float32) / 255
    feeds = {session.input_names[0]: feed}
    return lambda: session.run(feeds)
