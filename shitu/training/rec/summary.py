"""What is told of a run before it begins: data, network, batches, learning rate, memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.training.base.export import re_parameterise
from shitu.training.base.memory import Memory, counted, evaluation_mode, numbers
from shitu.training.base.task import Plan
from shitu.training.rec.networks import DistillationModel, RecModel

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class NetworkSize:
    """Of several models (distillation) the sum.

    macs: multiply-adds of convolutions and linear layers for one image up to the features, without the head, as
    trained; macs_exported: the same once the re-parameterisable branches are one.
    """

    parameters: int
    trainable: int
    head: int
    macs: int
    macs_exported: int


def summarise(
    plan: Plan,
    *,
    counts: NDArray[np.int64],
    size: NetworkSize,
    memory: Memory,
    images_per_class: int | None,
    learning_rate: str,
) -> Iterator[str]:
    """Lines that begin with a name. counts: (classes,) images of each; images_per_class: K of P x K, or None;
    learning_rate: where the plan's comes from.
    """
    k = images_per_class
    images, classes = int(counts.sum()), len(counts)
    spread = f"{counts.min():,} to {counts.max():,} images each, median {np.median(counts):,.0f}"
    yield f"data           {images:,} images, {classes:,} classes; {spread}"
    yield f"images a class {histogram(counts)} classes"
    if few := int((counts < (k or 0)).sum()):
        yield f"               {few:,} classes have fewer than K = {k} images; theirs repeat within a batch"
    head = f", {_number(size.head)} of them the head's" if size.head else ""
    macs = f"{_number(size.macs)} multiply-adds per image without the head (FLOPs: twice that)"
    yield f"network        {_number(size.parameters)} parameters{head}; {_number(size.trainable)} learn; {macs}"
    cards = f"{plan.batch_size:,} images a card x {plan.world} cards x update_freq {plan.update_freq}"
    yield f"batch          {cards} = {plan.total_batch:,} images a step"
    if k:
        yield f"               {plan.batch_size // k:,} classes x {k} images in each batch, of {classes:,} classes"
    steps, total, seen = plan.steps_per_epoch, plan.total_steps, plan.steps_per_epoch * plan.total_batch
    passes = f"{steps:,} steps ({seen:,} images, {seen / images:.2f} x the list)"
    yield f"epochs         {total / steps:g} epochs of {passes}, {total:,} steps in all"
    rate, warmup = plan.schedule, plan.schedule.warmup_steps
    start = f"{rate(0):.4g} -> {rate(warmup):.4g} in {warmup:,} steps of warm-up" if warmup else f"{rate(0):.4g}"
    yield f"learning rate  {start} -> {rate(total - 1):.4g}; {learning_rate}"
    kept = f"weights {_bytes(memory.weights)}, gradients {_bytes(memory.gradients)}"
    outputs = f"layer outputs of {plan.batch_size:,} images {_bytes(memory.activations)}"
    parts = f"{kept}, optimizer {_bytes(memory.optimizer)}, {outputs} (float32, without the libraries' own)"
    yield f"memory         about {_bytes(memory.total)} a card: {parts}"


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


def describe(network: RecModel | DistillationModel, image_shape: Sequence[int] = (3, 224, 224)) -> NetworkSize:
    """Count. Zeros go through in evaluation mode, and the network is left as it was.

    With hooks of our own, since paddle.flops counts norms and activations, too, and prints.
    """
    models: list[Any] = [network] if isinstance(network, RecModel) else list(network.children())
    fused = copy.deepcopy([model.backbone for model in models])
    for backbone in fused:
        re_parameterise(backbone)
    return NetworkSize(
        parameters=numbers(network.parameters()),
        trainable=numbers(each for each in network.parameters() if not each.stop_gradient),
        head=sum(numbers(model.head.parameters()) for model in models if model.head is not None),
        macs=sum(_macs(model.backbone, model.neck, image_shape) for model in models),
        macs_exported=sum(
            _macs(*each, image_shape) for each in zip(fused, (model.neck for model in models), strict=True)
        ),
    )


def _macs(backbone: nn.Layer, neck: nn.Layer | None, image_shape: Sequence[int]) -> int:
    way = nn.Sequential(backbone, *([neck] if neck else []))
    layers = [layer for layer in way.sublayers() if isinstance(layer, nn.Conv2D | nn.Linear)]

    def products(layer: Any, output: Any) -> int:
        # each value of the output is a sum of as many products as one row of the weight has numbers
        each = math.prod(layer.weight.shape[1:]) if isinstance(layer, nn.Conv2D) else layer.weight.shape[0]
        return int(math.prod(output.shape) * each)

    with evaluation_mode(way):
        return counted(layers, products, lambda: way(paddle.zeros([1, *image_shape])))
