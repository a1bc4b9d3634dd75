"""`shitu benchmark`: what recognition costs on this machine, and the fastest way that keeps the answers."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shitu.cli.options import config_options, format_option, read_config, together
from shitu.cli.out import line, plural, record

if TYPE_CHECKING:
    from shitu.benchmark.record import Benchmark, Spread
    from shitu.config import Config

log = logging.getLogger("shitu")
EPILOG = """\b
Example:
  shitu benchmark --engine onnxruntime --rounds 1 --anyway --format table demo/photos/beach.jpg
"""
COUNT = click.IntRange(min=1)
plan_options = together(
    click.option("--engine", "engines", multiple=True, type=click.Choice(["auto", "onnxruntime", "openvino", "paddle"]),
                 help="May be repeated.  [default: all that are installed]"),
    click.option("--precision", "precisions", multiple=True, type=click.Choice(["fp32", "bf16", "int8", "auto"]),
                 help="May be repeated.  [default: all that processor and models have]"),
    click.option("--threads", multiple=True, type=COUNT,
                 help="May be repeated.  [default: as many as may be used, and 1]"),
    click.option("--batch", "batches", multiple=True, type=COUNT,
                 help="Images per call; may be repeated.  [default: the config's, and 8]"),
    click.option("--rounds", type=COUNT, default=5, show_default=True,
                 help="In each every variant has its turn; one more warms up."),
    click.option("--starts", type=click.IntRange(min=0), default=3, show_default=True,
                 help="Processes started for the time until a first result; 0: that is left out."),
    click.option("--most", type=COUNT, default=20, show_default=True, help="Images at most."),
    click.option("--anyway", is_flag=True, help="Also where other processes keep the machine busy."),
)  # fmt: skip
output_options = together(
    click.option("--plot", metavar="FILE.svg", help="Draw the stages of every variant."),
    click.option(
        "--write",
        "target",
        metavar="NEW.yaml",
        help="Write the config with the fastest engine, precision and cpu_num_threads that keep the answers: the same "
        "labels, and but for int8 boxes within 2 px. All given by options is written, too.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace NEW.yaml if it is there."),
)


@click.command("benchmark", epilog=EPILOG)
@config_options("gallery", "score", "threshold", "device")
@plan_options
@output_options
@format_option("table")
@click.argument("inputs", nargs=-1, metavar="[IMAGE | FOLDER | GLOB]...")
def benchmark(
    *, config_path: str | None, overrides: tuple[str, ...], inputs: tuple[str, ...], plot: str | None,
    target: str | None, overwrite: bool, style: str, most: int, **plan: Any,
) -> None:  # fmt: skip
    """Measure how fast images are recognised, and why.

    Compares engines, precisions, threads and batches in alternating rounds: milliseconds by stage, images per second,
    memory, the time from the start of a process to its first result, and how near each network comes to what this
    machine can do. Ratios mean more than milliseconds; beside each median stands how far the rounds lie apart. Without
    arguments, the images are those of Global.infer_imgs.
    """
    config = read_config(config_path, overrides)
    _check_files(plot, target, overwrite)
    from shitu.benchmark.run import Plan
    from shitu.benchmark.run import benchmark as run

    words = shlex.join(["shitu", *sys.argv[1:]])
    images = _images(inputs, config.Global.infer_imgs, most)
    found = run(config_path, overrides, images, Plan(**plan), command=words, tell=log.info)
    for _, reason in found.failed:
        log.error("Failed: %s", reason)
    for name, reason in found.left_out:
        log.info("left out: %s: %s", name, reason)
    if style == "json":
        record(found.to_dict())
    else:
        line(summary(found))
    if plot:
        from shitu.benchmark.plot import write_plot

        write_plot(found, Path(plot))
    if target:
        _write(found, config, config_path, target, overwrite=overwrite, command=words)
    if found.failed:
        raise SystemExit(1)


def _check_files(plot: str | None, target: str | None, overwrite: bool) -> None:
    """Before the work, not after it."""
    from shitu.errors import UsageError

    if plot and (os.path.isdir(plot) or not os.path.isdir(os.path.dirname(plot) or ".")):
        raise UsageError(f"--plot {plot}: wanted a file in a folder that is there; make the folder, or name another")
    if target:
        from shitu.evaluation.write_config import check_target

        check_target(target, overwrite=overwrite)


def _images(inputs: tuple[str, ...], default: str | None, most: int) -> list[str]:
    from itertools import islice

    from shitu.errors import UsageError
    from shitu.images.drawn import find_photos

    if not inputs and default:
        inputs = (default,)
    if "-" in inputs:
        raise UsageError("standard input can be read only once, and every variant reads the images; name files")
    return list(islice(find_photos(inputs), most))


def _write(
    found: Benchmark, config: Config, config_path: str | None, target: str, *, overwrite: bool, command: str
) -> None:
    from shitu.benchmark.load import MOST
    from shitu.config import load_config
    from shitu.config.layers import config_file
    from shitu.evaluation.edit_yaml import Change
    from shitu.evaluation.write_config import given_changes, write_config

    whole = load_config(config_path)
    on_file = whole.Global
    best = found.fastest(on_file.batch_size)
    if best is None:
        log.warning("%s: not written, since no variant keeps the answers of %s", target, found.reference)
        return
    if found.load["after"] > MOST:
        log.warning("other processes were busy, too: what is written may be fastest only because of them")
    values: dict[str, str | int] = {"engine": best.engine, "precision": best.precision, "cpu_num_threads": best.threads}
    rate = f"{best.images_per_second.median:.1f} images/s"
    note = f"{rate}; {best.speed:.2f} times as fast as {found.reference}, on {found.machine['processor']}"
    changes = [
        Change(f"Global.{key}", value, found.date, (f"was {getattr(on_file, key)}", note, f"by: {command}"))
        for key, value in values.items()
        if getattr(on_file, key) != value
    ]
    chosen = [f"Global.{key}" for key in values]
    changes += given_changes(config, whole, chosen, found.date, command)
    path, count = write_config(config_file(config_path), target, changes, overwrite=overwrite)
    log.info(f"{path}: {plural(count, 'key')} changed" if count else f"{path}: nothing to change, a copy")


# --- the table -----------------------------------------------------------------------------------------------------


def summary(found: Benchmark) -> str:
    """For people: the variants, their stages, the networks beside the machine's limit, and the machine."""
    return "\n\n".join([_variants(found), _stages(found), _networks(found), _machine(found)])


def _variants(found: Benchmark) -> str:
    headers = ["", "threads", "batch", "ms/image", "spread", "p90", "speed", "cpu ms", "images/s", "spread", "MB"]
    rows = []
    for each in found.variants:
        labels = "boxes differ" if each.answers.same_labels else f"labels differ in {each.answers.others}"
        answers = "kept" if each.answers.kept else labels
        if each.answers.pixels:
            answers += f", {each.answers.pixels:.1f} px"
        rows.append([
            each.name, str(each.threads), str(each.batch), *_spread(each.whole, 1), f"{each.stages['whole'].p90:.1f}",
            f"{each.speed:.2f} x", f"{each.processor_ms.median:.1f}", *_spread(each.images_per_second, 1),
            f"{each.memory_mb:.0f}",
            "" if each.cold_start is None else f"{each.cold_start.median:.2f}", answers,
        ])  # fmt: skip
    note = "cpu: all threads together, which other processes change less"
    return _table([*headers, "cold start s", "answers"], rows) + f"\nspeed: beside {found.reference}; {note}"


def _stages(found: Benchmark) -> str:
    names = [name for name in found.variants[0].stages if name != "whole"]
    rows = []
    for each in found.variants:
        shown = [each.stages[name] for name in names]
        rows.append([
            f"{each.name}, {each.threads}, {each.batch}",
            *(f"{one.median:.1f} {one.p90:.1f} {one.share:.0%}" for one in shown),
        ])  # fmt: skip
    return _table(["ms: median, p90, share", *names], rows)


def _networks(found: Benchmark) -> str:
    rows, seen = [], set()
    for each in found.variants:
        for kind, one in each.networks.items():
            if (each.name, each.threads, kind) in seen:
                continue
            seen.add((each.name, each.threads, kind))
            rows.append([
                kind, one.engine, str(each.threads), *_spread(one.milliseconds, 2),
                one.source if one.macs is None else f"{one.macs / 1e6:.0f} M, {one.source}",
                "" if one.least_milliseconds is None else f"{one.least_milliseconds:.2f}",
                "unknown" if one.roofline is None else f"{one.roofline:.0%}",
            ])  # fmt: skip
    headers = ["network alone", "engine", "threads", "ms/image", "spread", "multiply-adds", "limit ms", "of limit"]
    return _table(headers, rows)


def _machine(found: Benchmark) -> str:
    from tabulate import tabulate

    rows = list(found.machine.items())
    for limit in found.limits:
        peaks = ", ".join(f"{name} {value / 1e9:.0f} G multiply-adds/s" for name, value in limit.peaks.items())
        lacks = "".join(f"; {name}: {why}" for name, why in limit.missing.items())
        rows.append((f"limit, {plural(limit.threads, 'thread')}", f"{peaks}, {limit.bandwidth / 1e9:.1f} GB/s{lacks}"))
    rows.append(("other processes", f"{found.load['before']:.0%} of the cores before, {found.load['after']:.0%} after"))
    rows.append(("images", f"{found.images:,}, {plural(found.rounds, 'round')}"))
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _spread(value: Spread, digits: int) -> list[str]:
    return [f"{value.median:.{digits}f}", f"{value.share:.0%}"]


def _table(headers: list[str], rows: list[list[str]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=headers, disable_numparse=True)
