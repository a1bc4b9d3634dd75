"""What the training commands share: how many processes, and the progress bar over steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
