"""`shitu evaluate`: figures of the whole pipeline from photos whose right answers are known."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.options import Within, choice, example, format_option, together, with_config
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.evaluation.queries import Query

query_options = together(
    click.option(
        "--query",
        "query_list",
        metavar="LIST",
        help="Photos and what they show: path<delimiter>label per line, and if wanted <TAB>x1,y1,x2,y2, the box of the "
        "object that is meant.  [default: Eval.cls_label_path]",
    ),
    click.option(
        "--image-root",
        metavar="DIR",
        help="Where the paths of the list start.  [default: Eval.image_root, else IndexProcess.image_root]",
    ),
    choice(
        "--detector",
        ("on", "off", "given"),
        "on: as the config says; off: whole photos; given: the boxes of the list are cut out.",
    ),
    click.option(
        "--leave-one-out",
        is_flag=True,
        help="Where a photo of the list is in the gallery itself, it does not count as its own answer.",
    ),
)


def queries_of(config: Config, query_list: str | None, image_root: str | None) -> list[Query]:
    """The list that the options name, or else the config. Raises UsageError, ConfigError."""
    from shitu.evaluation.queries import read_queries

    listed = query_list or (config.Eval and config.Eval.cls_label_path)
    if not listed:
        raise UsageError("no query list; give --query LIST, or set Eval.cls_label_path")
    root = image_root or (config.Eval and config.Eval.image_root) or config.IndexProcess.image_root
    return read_queries(listed, root, config.IndexProcess.delimiter)


@click.command("evaluate", epilog=example("evaluate --query demo/photos.txt --image-root demo --format table"))
@with_config("gallery", "score", "threshold", "device")
@query_options
@click.option(
    "--false-accept",
    "false_accepts",
    type=Within(0, 1, max_open=True),
    multiple=True,
    default=(0.01, 0.1),
    show_default=True,
    help="A share of unknown things that may be named; recall is told at each. May be repeated.",
)
@click.option(
    "--map/--no-map",
    "with_map",
    default=None,
    help="Mean average precision, against every gallery entry.  [default: for up to 100,000 entries]",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page with the figures and the worst mistakes.",
)
@format_option("json")
def evaluate_gallery(
    config: Config,
    *,
    query_list: str | None,
    image_root: str | None,
    false_accepts: tuple[float, ...],
    report: Path | None,
    style: str,
    **asked: Any,
) -> None:
    """Measure how well photos are named from the gallery.

    Photos of things that the gallery knows tell how often the right label is nearest (Recall@1) and named. Photos of
    others tell how well the scores keep the unknown apart; where the list has none, each known thing is asked once more
    with its own label hidden from the gallery.
    """
    from shitu.evaluation.evaluate import evaluate
    from shitu.evaluation.report import check_report_path, write_report

    queries = queries_of(config, query_list, image_root)
    if report is not None:
        check_report_path(report)
    with out.progress(len(queries), "evaluating", "queries") as bar:
        found = evaluate(
            config, queries, false_accepts=tuple(dict.fromkeys(false_accepts)), progress=bar.update, **asked
        )
    out.show(style, found.to_dict(), lambda: out.tables("evaluate.txt", e=found))
    if report is not None:  # after the figures: a full disk must not cost them
        write_report(
            found,
            report,
            image_root=config.IndexProcess.image_root,
            delimiter=config.IndexProcess.delimiter,
            command=shlex.join(["shitu", *sys.argv[1:]]),
            date=date.today().isoformat(),
            detector_model=config.Global.det_inference_model_dir or "",
        )
        out.log.info("The figures with the worst mistakes as pictures: %s", report)
    if found.failed:
        raise SystemExit(1)
