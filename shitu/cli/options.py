"""What several commands share: options, and what the values of some of them mean."""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Callable, Iterable
from functools import reduce, wraps
from inspect import signature
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from shitu.cli import out

if TYPE_CHECKING:
    from shitu.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])
HERE = "shitu.yaml"  # what `shitu init` writes, and commands without -c read


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


class Own(str):
    """An override that a command's own option made."""


def as_text(key: str, path: str) -> Own:
    """`key=path` in quotes, so that -o reads a path as it is: [1], yes, a: b."""
    quoted = json.dumps(path, ensure_ascii=False)
    return Own(f"{key}=" + re.sub("[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", quoted))


def _plain(key: str, value: Any) -> Own:
    return Own(f"{key}={value}")


class Short(NamedTuple):
    """An option for a key that everybody sets; `override` makes what -o would be given."""

    key: str
    flags: tuple[str, ...]
    note: str
    type: Any = str
    metavar: str | None = None
    override: Callable[[str, Any], Own] = _plain


SHORT = {
    "gallery": Short(
        "IndexProcess.index_dir", ("-g", "--gallery"),
        "The gallery: a folder, or a URL.  [default: $SHITU_GALLERY, else the config's]",
        metavar="FOLDER", override=as_text,
    ),
    "score": Short("IndexProcess.score_thres", ("--score",), "How near the best match must be for a name.", float),
    "top_k": Short("IndexProcess.return_k", ("--top-k",), "Matches told per object.", click.IntRange(min=1)),
    "threshold": Short("Global.threshold", ("--threshold",), "How sure the detector must be of an object.", float),
    "out": Short("Global.output_dir", ("--out",), "Where annotated pictures go.", metavar="FOLDER", override=as_text),
    "device": Short(
        "Global.use_gpu", ("--device",), "What runs the models.", click.Choice(["cpu", "gpu"]),
        override=lambda key, device: _plain(key, device == "gpu"),
    ),
}  # fmt: skip


def config_options(*short: str) -> Callable[[Command], Command]:
    """`-c`, `-o` as in PaddleClas, and these of SHORT, which come after all -o; the command takes the first two.

    Without -c, the file is shitu.yaml where one lies here.
    """
    shown = [SHORT[name] for name in short]
    options = together(
        *(
            click.option(*each.flags, f"short_{name}", type=each.type, metavar=each.metavar, help=each.note)
            for name, each in zip(short, shown, strict=True)
        ),
        click.option(
            "-c",
            "--config",
            "config_path",
            metavar="FILE|NAME",
            help="YAML config, or the name of a bundled one.  [default: ./shitu.yaml, else general]",
        ),
        override_option(", e.g. -o Global.threshold=0.3"),
    )

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*, config_path: str | None, overrides: tuple[str, ...], **given: Any) -> Any:
            values = {each.key: (each, given.pop(f"short_{name}")) for name, each in zip(short, shown, strict=True)}
            own = (each.override(key, value) for key, (each, value) in values.items() if value is not None)
            if config_path is None and os.path.isfile(HERE):
                out.log.info(f"Config: {HERE}")
                config_path = HERE
            return command(config_path=config_path, overrides=(*overrides, *own), **given)

        decorated: Any = options(run)
        return decorated  # type: ignore[no-any-return]

    return decorate


# for who chooses a threshold; check_rate says what may be asked for
false_accept_option = click.option(
    "--false-accept",
    type=float,
    default=0.05,
    show_default=True,
    help="The share of unknown things that may be given a name.",
)


def format_option(default: str, note: str = "How to print it.", *more: str) -> Callable[[Command], Command]:
    """`--format`: JSON Lines for programs, a table for people, and `more`."""
    among = click.Choice(["json", "table", *more])
    return click.option("--format", "style", type=among, default=default, show_default=True, help=note)


def read_config(config_path: str | None, overrides: tuple[str, ...]) -> Config:
    """The config of a command. Raises ConfigError, GalleryError."""
    # What comes next loads Paddle and its like: a million objects, none of them garbage, which Python's collector would
    # look through again and again; that is what pydantic costs, and more (benchmarks/cold_start.py).
    gc.set_threshold(50_000)
    from shitu.made_with import load_config_for_gallery

    return load_config_for_gallery(config_path, overrides)


def with_config(*short: str) -> Callable[[Command], Command]:
    """The command takes a `config`, made of `config_options` of these short ones."""
    return reading(config_options(*short), "config", read_config)
