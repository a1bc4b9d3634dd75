"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from shitu.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(command: Command) -> Command:
    """`-c` and `-o`, as in PaddleClas."""
    command = click.option(
        "-o",
        "--override",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one key of the config, e.g. -o Global.threshold=0.3; may be repeated, later wins.",
    )(command)
    return click.option(
        "-c", "--config", "config_path", metavar="FILE", help="YAML config. [default: inference_general.yaml of shitu]"
    )(command)


def read_config(config_path: str | None, overrides: tuple[str, ...]) -> Config:
    """The config of a command. Raises ConfigError."""
    from shitu.config import load_config

    return load_config(config_path, overrides)


def progress_bar(total: int | None, description: str, unit: str = "images") -> AbstractContextManager[Any]:
    """A bar on stderr with rate and time left, on a terminal only."""
    from tqdm import tqdm

    bar: AbstractContextManager[Any] = tqdm(
        total=total, desc=description, unit=f" {unit}", disable=not sys.stderr.isatty(), dynamic_ncols=True
    )
    return bar
