"""`--engine ray`: a command's work by processes of a Ray cluster in place of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from shitu.cli.options import Command, choice, reading, together
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.fleet.on_ray import OnRay


class Far(NamedTuple):
    """Which Ray, and where parts lie; None for the places that go without saying."""

    address: str | None
    parts: str | None


def fleet_options(default_parts: str) -> Callable[[Command], Command]:
    """The command takes `far`: None where it is to do the work itself."""
    return reading(
        together(
            choice(
                "--engine",
                ["local", "ray"],
                "Who does the work: this process, or a Ray cluster. (What runs the models is Global.engine.)",
            ),
            click.option(
                "--address",
                metavar="HOST:PORT",
                help="With --engine ray: the cluster, `auto` for that of this machine.  [default: a Ray of its own]",
            ),
            click.option(
                "--parts",
                metavar="FOLDER|URL",
                help="With --engine ray: where all machines write what is done, until the end.  "
                f"[default: {default_parts}]",
            ),
        ),
        "far",
        _read,
    )


def _read(engine: str, address: str | None, parts: str | None) -> Far | None:
    if engine == "ray":
        return Far(address, parts)
    for flag, value in (("--address", address), ("--parts", parts)):
        if value is not None:
            raise UsageError(f"{flag} is for a Ray cluster; add --engine ray")
    return None


@contextmanager
def opened(far: Far, config: Config) -> Iterator[OnRay]:
    """The fleet, with actors as large as the config wants. Raises UsageError."""
    from shitu.fleet.on_ray import OnRay

    section = config.Global
    with OnRay(far.address, cores=section.cpu_num_threads, gpus=int(section.use_gpu)) as fleet:
        yield fleet


def place_of(far: Far, beside: str | None) -> str:
    """Where parts lie; `beside`: the name of what is made, where that is a path. Raises UsageError."""
    if far.parts:
        return far.parts
    if not beside or "://" in beside:
        raise UsageError("--engine ray: where shall parts lie until the end? --parts FOLDER, or s3://BUCKET/NAME")
    return beside.rstrip("/") + ".parts"
