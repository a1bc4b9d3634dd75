"""A config, images and variants -> a Benchmark, by rounds in which every variant has its turn."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from shitu.benchmark.compare import compare_answers
from shitu.benchmark.limits import Limits, Machine
from shitu.benchmark.load import check_load, others_share
from shitu.benchmark.process import PAUSE, WorkerProcess, cold_start
from shitu.benchmark.record import Benchmark, Measured, NetworkShare, Spread, stages_of
from shitu.benchmark.roofline import Work, least_seconds, work_of
from shitu.benchmark.stages import PROCESSOR
from shitu.benchmark.variants import PRECISIONS, batches_of, models_of, variants_of
from shitu.benchmark.worker import CROPS
from shitu.config import Config
from shitu.engines.cpu import processor_name
from shitu.errors import EngineError, ImageError, ShituError
from shitu.images.read import read_image
from shitu.made_with import load_config_for_gallery
from shitu.recognise.from_config import preprocessor_for
from shitu.self_test import describe_machine

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """What to compare; what is empty has the defaults of `variants_of` and `batches_of`.

    `starts`: processes started cold for each variant; `anyway`: on a busy machine, too.
    """

    engines: Sequence[str] = ()
    precisions: Sequence[str] = ()
    threads: Sequence[int] = ()
    batches: Sequence[int] = ()
    rounds: int = 5
    starts: int = 3
    anyway: bool = False


@dataclass
class _Seen:
    """Of one variant, over the rounds; by batch where that matters."""

    worker: WorkerProcess
    groups: dict[int, list[list[dict[str, float]]]] = field(default_factory=dict)
    folder: dict[int, list[float]] = field(default_factory=dict)
    networks: dict[str, list[float]] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    answers: Any = None
    engines: dict[str, str] = field(default_factory=dict)
    memory: int = 0


def machine() -> dict[str, str]:
    """Processor, versions and CPU features, without the places where things lie: records are passed on."""
    return {"processor": processor_name(), **dict(describe_machine()), "Python": platform.python_version()}


def benchmark(
    config_path: str | None,
    overrides: Sequence[str],
    images: Sequence[str],
    plan: Plan,
    *,
    command: str = "",
    tell: Tell = lambda _: None,
) -> Benchmark:
    """Measure `images` (paths) with the models and the gallery of a config.

    A round gives every variant its turn with every image; the first, which warms up, does not count. Raises BusyError
    on a busy machine, ImageError where no image can be read, and what opening a config, models and a gallery raises.
    """
    config = load_config_for_gallery(config_path, list(overrides))
    variants, left = variants_of(config, plan.engines, plan.precisions, plan.threads)
    good, failed = _readable(images)
    before = others_share()
    if not plan.anyway:
        check_load(before)
    batches = batches_of(config, plan.batches)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        seen: list[_Seen] = []
        problems: list[ShituError] = []
        for variant in variants:
            try:
                worker = WorkerProcess(variant, config_path, overrides, good, f"{scratch}/{variant}")
            except ShituError as error:
                left.append((str(variant), str(error)))
                problems.append(error)
                continue
            seen.append(_Seen(stack.enter_context(closing(worker))))
        if not seen:
            raise problems[0]
        used = dict.fromkeys(each.worker.variant.precision for each in seen)
        wanted = [each for each in PRECISIONS if each in used or "auto" in used]
        counts = dict.fromkeys(each.worker.variant.threads for each in seen)
        machines = [Machine(count, wanted, Path(scratch)) for count in counts]
        for number in range(plan.rounds + 1):
            tell(f"round {number} of {plan.rounds}" if number else f"warming up {len(seen)} variants")
            _round(seen, batches, machines, number, left)
        for number in range(plan.starts + 1 if plan.starts else 0):
            for each in seen:
                seconds = cold_start(each.worker.variant, config_path, overrides, good[0], Path(scratch))
                each.starts += [seconds] if number else []
        time.sleep(PAUSE)
        after = others_share()
    limits = [machine.limits for machine in machines]
    return Benchmark(
        command, date.today().isoformat(), machine(),
        {"before": before, "after": after}, {kind: model.name for kind, model in models_of(config).items()},
        len(good), plan.rounds, limits, _measured(config, seen, batches, limits, good[0]),
        f"{seen[0].worker.variant}, batch {batches[0]}", left, failed,
    )  # fmt: skip


def _readable(images: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    good, failed = [], []
    for name in images:
        try:
            read_image(name)
            good.append(name)
        except ImageError as error:
            failed.append((name, str(error)))
    if not good:
        raise ImageError(f"none of {len(failed)} images can be read: {failed[0][1] if failed else 'there is none'}")
    return good, failed


def _round(
    seen: list[_Seen], batches: Sequence[int], machines: Sequence[Machine], number: int, left: list[tuple[str, str]]
) -> None:
    """Who begins changes from round to round; round 0 warms up. A variant that fails goes from `seen` to `left`."""
    start = number % len(seen)
    for each in [*seen[start:], *seen[:start]]:
        try:
            _turn(each, batches, number)
        except EngineError as error:
            if len(seen) == 1:
                raise
            seen.remove(each)
            left.append((str(each.worker.variant), str(error)))
    for machine in machines:
        machine.measure()


def _turn(each: _Seen, batches: Sequence[int], number: int) -> None:
    """All that a variant is asked in a round; in round 0 the answers, and nothing is kept of the times."""
    ask = each.worker.ask
    if number == 0:
        each.answers, each.engines = ask("answers")["answers"], ask("engines")["engines"]
    for batch in batches:
        groups = ask("stages", batch=batch)["groups"]
        if number:
            each.groups.setdefault(batch, []).append(groups)
    for kind, seconds in ask("networks")["seconds"].items():
        if number:
            each.networks.setdefault(kind, []).append(seconds)
    each.memory = each.memory or ask("memory")["bytes"]  # before the folder, which has a predictor of its own
    for batch in batches:
        seconds = ask("folder", batch=batch)["seconds"]
        if number:
            each.folder.setdefault(batch, []).append(seconds)


def _measured(
    config: Config, seen: Sequence[_Seen], batches: Sequence[int], limits: Sequence[Limits], image: str
) -> list[Measured]:
    works = _works(config, image)
    reference = _rounds(seen[0], batches[0])
    found = []
    for each in seen:
        variant = each.worker.variant
        limit = next(one for one in limits if one.threads == variant.threads)
        networks = {}
        for kind, seconds in each.networks.items():
            networks[kind] = _network(seconds, works[kind], limit, each.engines[kind], kind)
        for batch in batches:
            wholes = _rounds(each, batch)
            groups = [group for groups in each.groups[batch] for group in groups]
            rates = [len(each.answers) / seconds for seconds in each.folder[batch]]
            found.append(
                Measured(
                    variant.engine, variant.precision, variant.threads, batch,
                    Spread.of([1000 * value for value in wholes]),
                    1000 * fmean(group["whole"] for group in groups),
                    stages_of(groups),
                    Spread.of(rates),
                    median(one / other for one, other in zip(reference, wholes, strict=True)),
                    Spread.of([1000 * value for value in _rounds(each, batch, PROCESSOR)]),
                    each.memory / 1e6,
                    Spread.of(each.starts) if each.starts else None,
                    networks,
                    compare_answers(seen[0].answers, each.answers, variant.precision),
                )
            )  # fmt: skip
    return found


def _rounds(each: _Seen, batch: int, stage: str = "whole") -> list[float]:
    """The median of every round, seconds per image."""
    return [median(group[stage] for group in groups) for groups in each.groups[batch]]


def _network(seconds: Sequence[float], work: Work, limit: Limits, engine: str, kind: str) -> NetworkShare:
    taken = Spread.of([1000 * value for value in seconds])
    batch = CROPS if kind == "recogniser" else 1
    least = least_seconds(work, limit, engine.rpartition(", ")[2], batch)
    return NetworkShare(
        engine, taken, work.macs, work.source, None if least is None else 1000 * least,
        None if least is None else 1000 * least / taken.median,
    )  # fmt: skip


def _works(config: Config, image: str) -> dict[str, Work]:
    """How much each network has to do for an image."""
    picture = read_image(image)
    found = {}
    for kind, model in models_of(config).items():
        prepare = preprocessor_for(model, config.DetPreProcess if kind == "detector" else config.RecPreProcess)
        size = picture.shape[:2]
        named = {
            "scale_factor": np.array([prepare.scale_factor(*size)], np.float32),
            "im_shape": np.array([prepare.resized(*size)], np.float32),
        }
        found[kind] = work_of(model, model.programs[0], prepare(picture)[None], named)
    return found
