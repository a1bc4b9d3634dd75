"""`shitu predict --server URL`: the same records from a service elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from shitu.cli import out
from shitu.cli.records import Shown, finish
from shitu.errors import ImageError, UsageError

if TYPE_CHECKING:
    from shitu.api.answers import Answer
    from shitu.api.client import Client
    from shitu.images.read import Picture
    from shitu.results import Recognition

# What --server goes with, by the names under which the command gets it; all else says how to recognise here.
_ASKED = {"score_thres": "short_score", "return_k": "short_top_k", "threshold": "short_threshold"}
_WITH = {"server", "inputs", "style", "pictures", "unnamed", "short_gallery", "short_out", *_ASKED.values()}
_OUT = "./output"  # as Global.output_dir


def or_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """`predict` gets --server, with which no model is loaded here."""

    @wraps(command)
    def run(server: str | None, **given: Any) -> Any:
        return command(**given) if server is None else _predict(server, given)

    help_text = "Ask the `shitu serve` there and load no model here; -g: its gallery's name, $SHITU_TOKEN: its token."
    decorated: Callable[..., Any] = click.option("--server", metavar="URL", help=help_text)(run)
    return decorated


def _predict(server: str, given: dict[str, Any]) -> None:
    context = click.get_current_context()
    for option in context.command.params:
        said = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if said and option.name not in _WITH:
            raise UsageError(f"{option.opts[-1]} is of recognition here, --server has it done there; leave one out")
    from shitu.api.client import Client

    shown, folder = Shown(given["style"], given["pictures"], given["unnamed"]), given["short_out"] or _OUT
    options = {name: given[option] for name, option in _ASKED.items()}
    client = Client(server, given["short_gallery"])
    answers, count = _answers(client, given["inputs"], folder, options)
    finish((_with_picture(answer, shown.pictures) for answer in answers), count, folder, shown)


def _answers(
    client: Client, inputs: Sequence[str], folder: str, options: dict[str, Any]
) -> tuple[Iterator[Answer], int | None]:
    """And how many there will be, where pages are few."""
    from shitu.api.uploads import upload_of, uploads
    from shitu.images.drawn import find_photos
    from shitu.images.read_ahead import read_stdin
    from shitu.sources.read import find_sources

    if not inputs:
        raise UsageError("no images given; name images, folders or globs")
    if "-" in inputs:
        if len(inputs) > 1:
            raise UsageError("`-` (standard input) cannot be mixed with other images; give it alone")
        read = ([upload_of(name, picture, lambda picture: picture)] for name, picture in read_stdin(sys.stdin.buffer))
        return client.recognised(read, at_once=1, **options), None
    names = list(find_sources(inputs, partial(find_photos, output_dir=folder)))
    return client.recognised(uploads(names, bgr=False), **options), len(names)


def _with_picture(answer: Answer, wanted: bool) -> tuple[Picture | None, Recognition]:
    if answer.error or not wanted:
        return None, answer.found
    try:
        return answer.picture(), answer.found
    except ImageError as error:  # which the service could read
        out.log.warning("not drawn: %s", error)
        return None, answer.found
