"""What is told of a run before it begins: data, network, batches, learning rate, memory. Plain numbers in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shitu.training.base.learning_rate_table import learning_rate_table

if TYPE_CHECKING:
    from shitu.training.base.memory import Memory

BARS = "▁▂▃▄▅▆▇█"
Line = tuple[str, str]


@dataclass(frozen=True)
class Setting:
    """A run in numbers. counts: (classes,) images of each; macs: multiply-adds for one image; lr: step -> rate."""

    counts: NDArray[np.int64]
    parameters: int
    trainable: int
    head_parameters: int
    macs: int
    batch_size: int  # per card
    cards: int
    update_freq: int
    images_per_class: int | None  # K of P×K; None where the sampler has none
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    lr: Callable[[int], float]
    config_lr: float
    scaling: str  # why `lr` peaks at config_lr or elsewhere
    memory: Memory

    @property
    def total_batch(self) -> int:
        return self.batch_size * self.cards * self.update_freq


def summarise(setting: Setting) -> list[Line]:
    """(name, text) line by line; names are of at most 14 letters."""
    return [
        *_data(setting),
        ("network", _network(setting)),
        *_batches(setting),
        ("epochs", _epochs(setting)),
        ("learning rate", _learning_rate(setting)),
        ("memory", _memory(setting)),
    ]


def dry_run_lines(setting: Setting) -> list[str]:
    """The summary, and the learning rate at steps over the run, as lines to print."""
    table = learning_rate_table(
        setting.lr,
        total_steps=setting.total_steps,
        warmup_steps=setting.warmup_steps,
        steps_per_epoch=setting.steps_per_epoch,
    )
    return [*(f"{name:<14} {text}" for name, text in summarise(setting)), "", *table]


def histogram(counts: NDArray[np.int64]) -> str:
    """How many classes have how many images, in bins that double.

    >>> histogram(np.array([1, 2, 3, 3, 9]))
    '1 ▃ 1 · 2-3 █ 3 · 4-7   0 · 8-15 ▃ 1'
    """
    bins = np.bincount(np.log2(np.maximum(counts, 1)).astype(np.int64))
    most = max(bins.max(initial=0), 1)
    first = int(np.flatnonzero(bins)[0]) if bins.any() else 0
    parts = []
    for power, classes in enumerate(bins.tolist()):
        if power >= first:
            low, high = 2**power, 2 ** (power + 1) - 1
            bar = BARS[-(-classes * len(BARS) // most) - 1] if classes else " "
            parts.append(f"{low if low == high else f'{low}-{high}'} {bar} {classes:,}")
    return " · ".join(parts)


def _data(setting: Setting) -> Iterator[Line]:
    counts = setting.counts
    spread = f"{counts.min():,} to {counts.max():,} images each, median {np.median(counts):,.0f}"
    yield "data", f"{counts.sum():,} images, {len(counts):,} classes; {spread}"
    yield "images a class", f"{histogram(counts)} classes"
    few = int((counts < (setting.images_per_class or 0)).sum())
    if few:
        yield "", f"{few:,} classes have fewer than K = {setting.images_per_class} images; theirs repeat within a batch"


def _network(setting: Setting) -> str:
    head = f", {_number(setting.head_parameters)} of them the head's" if setting.head_parameters else ""
    return (
        f"{_number(setting.parameters)} parameters{head}; {_number(setting.trainable)} learn; "
        f"{_number(setting.macs)} multiply-adds per image without the head (FLOPs: twice that)"
    )


def _batches(setting: Setting) -> Iterator[Line]:
    each, cards, update_freq = setting.batch_size, setting.cards, setting.update_freq
    yield (
        "batch",
        (f"{each:,} images a card x {cards} cards x update_freq {update_freq} = {setting.total_batch:,} images a step"),
    )
    k = setting.images_per_class
    if k:
        yield "", f"{each // k:,} classes x {k} images in each batch, of {len(setting.counts):,} classes"


def _epochs(setting: Setting) -> str:
    steps, total = setting.steps_per_epoch, setting.total_steps
    images = steps * setting.total_batch
    return (
        f"{total / steps:g} epochs of {steps:,} steps ({images:,} images, {images / setting.counts.sum():.2f} x the "
        f"list), {total:,} steps in all"
    )


def _learning_rate(setting: Setting) -> str:
    peak, warmup = setting.lr(setting.warmup_steps), setting.warmup_steps
    start = f"{setting.lr(0):.4g} -> {peak:.4g} in {warmup:,} steps of warm-up" if warmup else f"{peak:.4g}"
    return (
        f"{start} -> {setting.lr(setting.total_steps - 1):.4g}; {setting.config_lr:g} in the config, {setting.scaling}"
    )


def _memory(setting: Setting) -> str:
    memory = setting.memory
    return (
        f"about {_bytes(memory.total)} a card: weights {_bytes(memory.weights)}, gradients "
        f"{_bytes(memory.gradients)}, optimizer {_bytes(memory.optimizer)}, layer outputs of {setting.batch_size:,} "
        f"images {_bytes(memory.activations)} (float32, without the libraries' own)"
    )


def _number(value: int) -> str:
    """
    >>> _number(999), _number(4_850_000), _number(829_000_000), _number(1_500_000_000)
    ('999', '4.85 M', '829 M', '1.5 G')
    """
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return str(value)


def _bytes(value: int) -> str:
    """
    >>> _bytes(512), _bytes(20_000_000), _bytes(12_345_678_901)
    ('512 B', '20 MB', '12.3 GB')
    """
    number, _, unit = _number(value).partition(" ")
    return f"{number} {unit}B"
