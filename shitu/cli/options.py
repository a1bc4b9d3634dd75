"""What several commands share: options, and what the values of some of them mean."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from functools import reduce, wraps
from inspect import signature
from math import isnan
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from shitu.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


class Within(click.FloatRange):
    """A number within limits; click's own type takes nan, which is beyond none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


class InOrder(click.Group):
    """Lists its commands in the order of use, not of the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


def example(*lines: str) -> str:
    """The end of a help text."""
    return "\b\nExample" + "s" * (len(lines) > 1) + ":\n" + "".join(f"  shitu {line}\n" for line in lines)


def together(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator; --help shows them in this order."""
    return lambda command: reduce(lambda done, option: option(done), reversed(options), command)


def reading(options: Callable[[Any], Any], name: str, read: Callable[..., Any]) -> Callable[[Command], Command]:
    """The command takes, under `name`, what `read` makes of the values of these options, and not these themselves."""
    words = list(signature(read).parameters)

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> Any:
            made = read(**{word: given.pop(word) for word in words})
            return command(**{name: made}, **given)

        decorated: Command = options(run)
        return decorated

    return decorate


def choice(flag: str, values: Iterable[str], note: str, *names: str) -> Callable[[Command], Command]:
    """One of some values, the first by default."""
    among = click.Choice(list(values))
    return click.option(flag, *names, type=among, default=among.choices[0], show_default=True, help=note)


def override_option(example: str = "") -> Callable[[Command], Command]:
    """`-o`; `example` goes on with the sentence."""
    note = f"Change one key of the config{example}; may be repeated, later wins."
    return click.option("-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help=note)


# As in PaddleClas.
config_options = together(
    click.option(
        "-c",
        "--config",
        "config_path",
        metavar="FILE",
        help="YAML config.  [default: shitu's own inference_general.yaml]",
    ),
    override_option(", e.g. -o Global.threshold=0.3"),
)


def format_option(default: str, note: str = "How to print it.", *more: str) -> Callable[[Command], Command]:
    """`--format`: JSON Lines for programs, a table for people, and `more`."""
    among = click.Choice(["json", "table", *more])
    return click.option("--format", "style", type=among, default=default, show_default=True, help=note)


def read_config(config_path: str | None, overrides: tuple[str, ...]) -> Config:
    """The config of a command. Raises ConfigError."""
    # What comes next loads Paddle and its like: a million objects, none of them garbage, which Python's collector would
    # look through again and again; that is what pydantic costs, and more (benchmarks/cold_start.py).
    gc.set_threshold(50_000)
    from shitu.config import load_config

    return load_config(config_path, overrides)


with_config = reading(config_options, "config", read_config)
