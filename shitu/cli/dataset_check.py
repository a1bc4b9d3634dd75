"""`shitu dataset check`: what is wrong with a list, before training finds out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.options import example, format_option
from shitu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shitu.datasets.findings import CheckReport

EXAMPLES = 5
PATH = click.Path(path_type=Path)
BAR = 40  # characters of the longest bar of the histogram


@click.command(
    "check",
    epilog=example(
        "dataset check train.txt --image-root photos --query query.txt --query gallery.txt",
        "dataset check demo/gallery.txt --image-root demo --gallery --no-embeddings",
    ),
)
@click.argument("list_file", metavar="LIST", type=PATH)
@click.option("--image-root", default="", metavar="DIR", help="The paths of LIST are below it.  [default: here]")
@click.option(
    "--query", "queries", type=PATH, multiple=True, metavar="LIST", help="Must share no image with LIST; repeatable."
)
@click.option("--query-root", metavar="DIR", help="The paths of the query lists are below it.  [default: image root]")
@click.option(
    "--gallery",
    "text_labels",
    is_flag=True,
    help="LIST is a data_file of build-gallery: labels are text, and one image is enough.",
)
@click.option("--delimiter", metavar="TEXT", help="Between the columns.  [default: TAB where there is one, or space]")
@click.option("--k", type=click.IntRange(1), default=4, show_default=True, help="Images per class in a P×K batch.")
@click.option("--min-size", type=click.IntRange(1), default=1, metavar="PIXELS", help="Report images below that.")
@click.option(
    "--embeddings/--no-embeddings",
    default=True,
    help="Look for wrong labels with a recogniser, too: the most of the time taken.  [default: do]",
)
@click.option("--model", metavar="NAME", help="The recogniser, a folder or known name.  [default: the bundled one]")
@format_option("table")
@click.option("--report", type=PATH, metavar="FILE", help="Write every finding there, as JSON.")
@click.option("--write-clean", type=PATH, metavar="FILE", help="Write LIST there without its bad lines.")
@click.option("--drop-suspects", is_flag=True, help="With --write-clean: without the labels that look wrong, too.")
def check(
    *,
    list_file: Path,
    queries: tuple[Path, ...],
    text_labels: bool,
    delimiter: str | None,
    embeddings: bool,
    model: str | None,
    style: str,
    report: Path | None,
    write_clean: Path | None,
    drop_suspects: bool,
    **look: Any,
) -> None:
    """Missing, damaged, duplicate and doubtful entries of a list. Status 0 where there are none, 1 otherwise.

    Every image is decoded. Bad lines, which --write-clean leaves out: wrong columns, labels that are no number,
    missing and unreadable files, images below --min-size, images listed before (of those under different labels
    all), and images that are in a --query list. Reported only: labels that look wrong, gaps in the labels, classes
    with fewer than K images.
    """
    from shitu.config import load_config
    from shitu.datasets.check import check_list, clean_lines
    from shitu.datasets.examine import CheckOptions
    from shitu.datasets.write_list import write_lines

    if drop_suspects and not (write_clean and embeddings):
        raise UsageError("--drop-suspects goes with --write-clean, and without --no-embeddings")
    delimiter = delimiter.replace("\\t", "\t") if delimiter else "\t" if text_labels else None
    options = CheckOptions(**look, text_labels=text_labels, delimiter=delimiter)
    total = _lines_in([list_file, *queries, *[list_file] * embeddings])  # compared after they were read
    embedder = None
    if embeddings:
        from shitu.recognise.from_config import RecPredictor

        embedder = RecPredictor(load_config(None, [f"Global.rec_inference_model_dir={model}"] if model else []))
    with out.progress(total, "checking") as bar:
        found = check_list(list_file, queries, options, embedder, bar.update)
    if report:
        write_lines(report, [json.dumps(found.as_json(), ensure_ascii=False, indent=1)])
    out.show(style, found.as_json(), lambda: "\n".join(_table(found)))
    if write_clean:
        write_lines(write_clean, clean_lines(list_file, found, drop_suspects=drop_suspects))
        out.log.info("Wrote %s, without the bad lines.", write_clean)
    if found.findings:
        raise SystemExit(1)


def _lines_in(files: Iterable[Path]) -> int | None:
    """For the bar; a file that is not there is reported by who reads it."""
    count = 0
    for path in files:
        try:
            with path.open("rb") as file:
                count += sum(1 for _ in file)
        except OSError:
            return None
    return count


def _table(report: CheckReport) -> Iterator[str]:
    from shitu.datasets.findings import KINDS

    for kind, plural in KINDS.items():
        if found := report.of(kind):
            yield f"{len(found):,} {plural}"
            for finding in found[:EXAMPLES]:
                where = f"{finding.source}:{finding.line}: " if finding.line else ""
                yield f"    {where}{finding.path + ': ' if finding.path else ''}{finding.detail}"
            if len(found) > EXAMPLES:
                yield f"    ... and {len(found) - EXAMPLES:,} more (--report FILE writes them all)"
    usable = report.counts.total()
    yield f"{report.source}: {out.plural(report.lines, 'line')}, {out.plural(usable, 'usable image')}"
    yield f"{len(report.counts):,} classes; images per class:"
    most = max((classes for *_, classes in report.histogram()), default=0)
    for low, high, classes in report.histogram():
        span = f"{low:,}" if low == high else f"{low:,}-{high:,}"
        yield f"{span:>17} {'#' * -(-classes * BAR // most):{BAR}} {classes:,}"
    if not report.findings:
        yield "Nothing wrong was found."
