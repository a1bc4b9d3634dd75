"""The ways to stdout, for results, and to stderr, for messages and the progress bar."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click

log = logging.getLogger("shitu")
SHOWN_FAILURES = 20
# What a file name or a label could steer the terminal with; written as JSON writes it.
CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")


def set_up(context: click.Context, quiet: bool) -> None:
    """UTF-8 out whatever the locale; for the time of the command, shitu's messages to stderr: if `quiet` only errors.

    Not through the root logger: Paddle gives that one a handler of its own, and faiss tells it what it tried to load.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A path that is no UTF-8 keeps its odd bytes as \udcff, which JSON reads back.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    before = log.handlers, log.level, log.propagate
    # the level is the handler's, so that a run's train.log is whole
    log.handlers, log.propagate = [_Stderr(logging.ERROR if quiet else logging.INFO)], False
    log.setLevel(logging.INFO)

    @context.call_on_close
    def restore() -> None:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])


def open_streams() -> None:
    """Where 0, 1 or 2 are closed, /dev/null takes their place: else the next file opened would, and be written into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # takes the lowest number that is free
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115


class Interrupts:
    """Whether Ctrl-C came while a command ran: an import that it breaks off tells that as an error of its own."""

    def __init__(self, context: click.Context) -> None:
        self.came, self._context = False, context
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            before = signal.signal(signal.SIGINT, self._note)
            context.call_on_close(lambda: signal.signal(signal.SIGINT, before))

    def _note(self, number: int, frame: Any) -> None:
        self.came = True
        raise KeyboardInterrupt

    def end(self) -> NoReturn:
        message("\nInterrupted; what was finished is kept.")
        self._context.exit(130)


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "Warning: " if record.levelno == logging.WARNING else ""
        colour = {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno)
        _print(prefix + record.getMessage(), err=True, colour=colour)


def line(text: str) -> None:
    """A line of results on stdout."""
    _print(text, err=False)


def message(text: str, colour: str | None = None) -> None:
    """A line for people on stderr, also with --quiet; coloured on a terminal."""
    _print(text, err=True, colour=colour)


def failures(failed: Sequence[tuple[str, str]]) -> None:
    """The first (path, reason) of what failed, on stderr."""
    for path, reason in failed[:SHOWN_FAILURES]:
        log.error("Failed: %s", reason if path in reason else f"{path}: {reason}")
    if len(failed) > SHOWN_FAILURES:
        log.error("... and %d more", len(failed) - SHOWN_FAILURES)


def end_with(left_out: Sequence[object]) -> None:
    """Status 1 where images were left out."""
    if left_out:
        log.error("%s left out.", plural(len(left_out), "image"))
        raise SystemExit(1)


def record(record: dict[str, Any]) -> None:
    """One line of JSON Lines; Chinese stays legible."""
    line(json.dumps(record, ensure_ascii=False))


def show(style: str, record: dict[str, Any], text: Callable[[], str]) -> None:
    """A record in the style of `options.format_option`: itself for programs, or a text for people."""
    line(json.dumps(record, ensure_ascii=False) if style == "json" else text())


def table(rows: Iterable[Sequence[object]], headers: Sequence[str] = (), **style: Any) -> str:
    """A table for people; its cells stay as they are, a label 1e5 is not made 100000."""
    from tabulate import tabulate

    return tabulate(rows, headers, disable_numparse=True, **style)


class Rows:
    """A table that is printed as its rows come: a column is as wide as what has come so far."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers: Sequence[str] | None = headers
        self._widths = [len(header) for header in headers]

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        from wcwidth import wcswidth

        rows = [[" ".join(CONTROL.sub(" ", cell).split()) for cell in row] for row in rows]
        sizes = [[max(wcswidth(cell), 0) for cell in row] for row in rows]
        self._widths = [max(column) for column in zip(self._widths, *sizes, strict=True)]
        if self._headers is not None:
            heads = [self._headers, ["-" * width for width in self._widths]]
            rows, sizes = [*heads, *rows], [*([len(cell) for cell in head] for head in heads), *sizes]
            self._headers = None
        for row, taken in zip(rows, sizes, strict=True):
            cells = (cell + " " * (width - size) for cell, width, size in zip(row, self._widths, taken, strict=True))
            line("  ".join(cells).rstrip())


def tables(template: str, **what: Any) -> str:
    """The tables of a text template beside this file.

    A line is a row, cells have TABs between them, `===` begins the next table, and `# ` a row of headers.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {
        "whole": "{:,}".format,
        "share": "{:.4f}".format,
        "shortest": lambda value: f"{value:g}" if isinstance(value, float) else str(value),
        "between": lambda ends: f"{ends[0]:.4f} to {ends[1]:.4f}",
        "how": lambda kind: "listed" if kind == "listed" else "the known, their labels hidden",
        "plural": plural,
        "cell": lambda label: " ".join(label.split()),
    }
    shown = []
    for block in pages.get_template(template).render(**what).split("===\n"):
        head, *rows = [line.split("\t") for line in block.splitlines() if line]
        if head[0].startswith("#"):
            shown.append(table(rows, [head[0].removeprefix("# "), *head[1:]]))
        else:
            shown.append(table([head, *rows], tablefmt="plain"))
    return "\n\n".join(shown)


def _print(text: str, *, err: bool, colour: str | None = None) -> None:
    if not text.isascii():
        # In the C locale Python hands over the UTF-8 of a path byte by byte.
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    with _bar_aside(err), suppress(*[OSError] * err):  # what nobody can read changes nothing about the work
        text = CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        # click.echo takes the colours out where stderr is no terminal; https://no-color.org
        coloured = colour is not None and not os.environ.get("NO_COLOR")
        click.echo(click.style(text, fg=colour) if coloured else text, err=err)


def _bar_aside(err: bool) -> AbstractContextManager[Any]:
    """While a line is printed to the terminal, the bar that stands there steps back."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None or not (sys.stderr if err else sys.stdout).isatty():
        return nullcontext()
    aside: AbstractContextManager[Any] = tqdm.tqdm.external_write_mode()
    return aside


def shows_progress() -> bool:
    """Progress bars are for people at a terminal who did not ask for quiet."""
    return sys.stderr.isatty() and all(handler.level <= logging.INFO for handler in log.handlers)


def progress(total: int | None, description: str, unit: str = "images") -> AbstractContextManager[Any]:
    """A bar on stderr with rate and, where the total is known, time left; on a terminal only."""
    from tqdm import tqdm

    on = shows_progress()
    known = on and os.get_terminal_size(sys.stderr.fileno()).columns > 0  # 0: a terminal in some containers
    width: dict[str, Any] = {"dynamic_ncols": True} if known else {"ncols": 80}
    bar: AbstractContextManager[Any] = tqdm(total=total, desc=description, unit=f" {unit}", disable=not on, **width)
    return bar


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "image"), plural(0, "image"), plural(12_000, "image")
    ('1 image', '0 images', '12,000 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
