"""What a benchmark found out: the record that the table, the JSON and the plot show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from shitu.benchmark.limits import Limits
from shitu.benchmark.stages import STAGES


@dataclass(frozen=True)
class Spread:
    """Median of all values; `low` and `high` the least and the greatest of the rounds' medians."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        return cls(median(rounds), min(rounds), max(rounds))

    @property
    def share(self) -> float:
        """From the least to the greatest, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True)
class Stage:
    """Milliseconds per image: median and p90 over all; its share (0 to 1) of the whole."""

    median: float
    p90: float
    share: float


@dataclass(frozen=True)
class NetworkShare:
    """One network alone: milliseconds per image; the least that the machine's limit allows; that as a share (0 to 1).

    `source` says where `macs`, the multiply-adds, come from.
    """

    engine: str
    milliseconds: Spread
    macs: int | None
    source: str
    least_milliseconds: float | None
    roofline: float | None


@dataclass(frozen=True)
class Answers:
    """Beside the reference: whether the labels are the same, in how many images they are not, the largest difference of
    a box (pixels; None: labels differ), and whether that counts as keeping the answers."""

    same_labels: bool
    others: int
    pixels: float | None
    kept: bool


@dataclass(frozen=True)
class Measured:
    """One variant at one batch. `whole` and `mean`: milliseconds per image; `speed`: the reference's time over this
    one's, median of the rounds; `processor_ms`: of all threads per image, which other processes change less."""

    engine: str
    precision: str
    threads: int
    batch: int
    whole: Spread
    mean: float
    stages: dict[str, Stage]
    images_per_second: Spread
    speed: float
    processor_ms: Spread
    memory_mb: float
    cold_start: Spread | None
    networks: dict[str, NetworkShare]
    answers: Answers

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Benchmark:
    """`load`: the share of the cores that others took before and after."""

    command: str
    date: str
    machine: dict[str, str]
    load: dict[str, float]
    models: dict[str, str]
    images: int
    rounds: int
    limits: list[Limits]
    variants: list[Measured]
    reference: str
    left_out: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        fastest = self.fastest()
        found["fastest"] = fastest and {
            key: getattr(fastest, key) for key in ("engine", "precision", "threads", "batch", "speed")
        }
        return found

    def fastest(self, batch: int | None = None) -> Measured | None:
        """The most images per second among those that keep the answers; of one batch where it was measured."""
        keep = [each for each in self.variants if each.answers.kept]
        keep = [each for each in keep if each.batch == batch] or keep
        return max(keep, key=lambda each: each.images_per_second.median, default=None)


def stages_of(groups: Sequence[dict[str, float]]) -> dict[str, Stage]:
    """Seconds per image of many groups -> milliseconds by stage."""
    whole = sum(group["whole"] for group in groups)
    found = {}
    for name in ("whole", *STAGES):
        values = np.array([group[name] for group in groups])
        share = float(values.sum() / whole) if whole else 0.0
        found[name] = Stage(1000 * float(np.median(values)), 1000 * float(np.percentile(values, 90)), share)
    return found
