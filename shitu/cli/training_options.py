"""What the training commands share: their options, and how a run is started, here or in several processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from shitu.cli.options import print_result, progress_bar

Command = TypeVar("Command", bound=Callable[..., Any])


def launch_options(command: Command) -> Command:
    """`--gpus`, `--nproc`, `--ips`, as paddle.distributed.launch has them."""
    command = click.option(
        "--ips", metavar="LIST", help="Several machines, e.g. 10.0.0.1,10.0.0.2; run the same command on each."
    )(command)
    command = click.option("--nproc", type=click.IntRange(1), help="So many processes on the CPU.")(command)
    return click.option("--gpus", metavar="LIST", help="One process per GPU, e.g. 0,1,2,3,4,5,6,7.")(command)


def cards(gpus: str | None, nproc: int | None, ips: str | None) -> int:
    """How many processes these options mean, over all machines."""
    here = len(gpus.split(",")) if gpus else nproc or 1
    return here * (len(ips.split(",")) if ips else 1)


def config_option(command: Command) -> Command:
    """`-c`, which training cannot do without, and `-o`."""
    command = click.option(
        "-o",
        "--override",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one key of the config; may be repeated, later wins.",
    )(command)
    return click.option("-c", "--config", "config_path", metavar="FILE", required=True, help="YAML config.")(command)


def run_options(folder: str) -> Callable[[Command], Command]:
    """Whether to go on, to start over, or only to look; `folder` is the key of the config that says where."""
    options = (
        click.option("--ranks", type=click.IntRange(1), help="With --dry-run: for so many cards."),
        click.option(
            "--dry-run", is_flag=True, help="Only show what would be done: data, batches, learning rate, memory."
        ),
        click.option("--overwrite", is_flag=True, help=f"Start anew over an earlier run in {folder}."),
        click.option("--resume", is_flag=True, help=f"Go on with the run in {folder}; start it where there is none."),
    )

    def add(command: Command) -> Command:
        for option in options:  # the last one is shown first
            command = option(command)
        return command

    return add


def start(
    run: ModuleType,
    config: Any,
    log_dir: Path,
    *,
    gpus: str | None,
    nproc: int | None,
    ips: str | None,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    ranks: int | None,
) -> dict[str, Any]:
    """Train with `run`'s run_training or show its dry_run. Returns the best evaluation of a run in this process."""
    from shitu.training.base.launch import is_launched, launch

    count = cards(gpus, nproc, ips)
    if dry_run:
        for line in run.dry_run(config, ranks or count):
            print_result(line)
        return {}
    if (gpus or count > 1) and not is_launched():
        launch(sys.argv[1:], gpus=gpus, nproc=nproc, ips=ips, log_dir=log_dir)
        return {}
    bar = lambda steps: progress_bar(steps, "training", "steps")  # noqa: E731
    best: dict[str, Any] = run.run_training(config, resume=resume, overwrite=overwrite, progress=bar)
    return best
