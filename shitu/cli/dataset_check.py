"""`shitu dataset check`: what is wrong with a list, before training finds out."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shitu.cli import out
from shitu.cli.options import example, format_option
from shitu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shitu.datasets.examine import Embedder
    from shitu.datasets.findings import CheckReport

EXAMPLES = 5
BAR = 40  # characters of the longest bar of the histogram
log = logging.getLogger("shitu")


@click.command(
    "check",
    epilog=example(
        "dataset check train.txt --image-root photos --query query.txt --query gallery.txt",
        "dataset check demo/gallery.txt --image-root demo --gallery --no-embeddings",
    ),
)
@click.argument("list_file", metavar="LIST")
@click.option("--image-root", default="", metavar="DIR", help="The paths of LIST are below it.  [default: here]")
@click.option("--query", "queries", multiple=True, metavar="LIST", help="Must share no image with LIST; repeatable.")
@click.option("--query-root", metavar="DIR", help="The paths of the query lists are below it.  [default: image root]")
@click.option(
    "--gallery", is_flag=True, help="LIST is a data_file of build-gallery: labels are text, and one image is enough."
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
@click.option("--report", metavar="FILE", help="Write every finding there, as JSON.")
@click.option("--write-clean", metavar="FILE", help="Write LIST there without its bad lines.")
@click.option("--drop-suspects", is_flag=True, help="With --write-clean: without the labels that look wrong, too.")
def check(
    *,
    list_file: str,
    image_root: str,
    queries: tuple[str, ...],
    query_root: str | None,
    gallery: bool,
    delimiter: str | None,
    k: int,
    min_size: int,
    embeddings: bool,
    model: str | None,
    style: str,
    report: str | None,
    write_clean: str | None,
    drop_suspects: bool,
) -> None:
    """Missing, damaged, duplicate and doubtful entries of a list. Status 0 where there are none, 1 otherwise.

    Every image is decoded. Bad lines, which --write-clean leaves out: wrong columns, labels that are no number,
    missing and unreadable files, images below --min-size, images listed before (of those under different labels
    all), and images that are in a --query list. Reported only: labels that look wrong, gaps in the labels, classes
    with fewer than K images.
    """
    from shitu.datasets.check import check_list, clean_lines
    from shitu.datasets.examine import CheckOptions
    from shitu.datasets.write_list import write_lines

    if drop_suspects and not (write_clean and embeddings):
        raise UsageError("--drop-suspects goes with --write-clean, and without --no-embeddings")
    mark = delimiter.replace("\\t", "\t") if delimiter else "\t" if gallery else None
    options = CheckOptions(image_root, query_root, mark, gallery, k, min_size)
    files, embedder = [Path(path) for path in (list_file, *queries)], _embedder(model) if embeddings else None
    total = _lines_in(files + files[:1] * embeddings)  # compared after they were read
    with out.progress(total, "checking") as bar:
        found = check_list(files[0], files[1:], options, embedder, bar.update)
    if report:
        write_lines(Path(report), [json.dumps(found.as_json(), ensure_ascii=False, indent=1)])
    if style == "json":
        out.record(found.as_json())
    else:
        _print_table(found)
    if write_clean:
        write_lines(Path(write_clean), clean_lines(Path(list_file), found, drop_suspects=drop_suspects))
        log.info("Wrote %s, without the bad lines.", write_clean)
    if found.findings:
        raise SystemExit(1)


def _embedder(model: str | None) -> Embedder:
    from shitu.config import load_config
    from shitu.recognise.from_config import RecPredictor

    return RecPredictor(load_config(None, [f"Global.rec_inference_model_dir={model}"] if model else []))


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


def _print_table(report: CheckReport) -> None:
    from shitu.datasets.findings import KINDS

    for kind, plural in KINDS.items():
        found = report.of(kind)
        if found:
            out.line(f"{len(found):,} {plural}")
            for finding in found[:EXAMPLES]:
                where = f"{finding.source}:{finding.line}: " if finding.line else ""
                out.line(f"    {where}{finding.path + ': ' if finding.path else ''}{finding.detail}")
            if len(found) > EXAMPLES:
                out.line(f"    ... and {len(found) - EXAMPLES:,} more (--report FILE writes them all)")
    usable = report.counts.total()
    out.line(f"{report.source}: {out.plural(report.lines, 'line')}, {out.plural(usable, 'usable image')}")
    out.line(f"{len(report.counts):,} classes; images per class:")
    most = max((classes for *_, classes in report.histogram()), default=0)
    for low, high, classes in report.histogram():
        span = f"{low:,}" if low == high else f"{low:,}-{high:,}"
        out.line(f"{span:>17} {'#' * -(-classes * BAR // most):{BAR}} {classes:,}")
    if not report.findings:
        out.line("Nothing wrong was found.")
