"""`shitu dataset mainbody` and `mainbody-merge`: annotations for the mainbody detector."""

from __future__ import annotations

import os
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shitu.cli import out
from shitu.cli.options import Within, example, together

if TYPE_CHECKING:
    from shitu.datasets.mainbody import Report

NAMES = ("objects365", "coco2017", "icartoonface", "logodet3k", "rpc", "coco")


rule_options = together(
    click.option("-o", "--output", required=True, metavar="FILE", help="The COCO file to write."),
    click.option("--min-area", type=Within(0), default=0.0, help="Drop boxes of fewer square pixels.  [default: 0]"),
    click.option(
        "--max-boxes",
        type=click.IntRange(0),
        default=0,
        help="Leave out images with more boxes than this; a crowded shelf has no main body.  [default: no limit]",
    ),
)


@click.command("mainbody", epilog=example("dataset mainbody coco2017 datasets/coco -o coco.json"))
@click.argument("name", metavar="NAME", type=click.Choice(NAMES, case_sensitive=False))
@click.argument("root")
@click.option("--image-root", metavar="DIR", help="With coco: the folder of the images.  [default: that of the file]")
@click.option("--skip-missing", is_flag=True, help="Pass over images that are annotated but not there.")
@rule_options
def mainbody(
    *, name: str, root: str, image_root: str | None, skip_missing: bool, output: str, min_area: float, max_boxes: int
) -> None:
    """The boxes of a data set, whatever their category, as the one category foreground.

    NAME is objects365, coco2017, icartoonface, logodet3k, rpc or coco. ROOT is the folder where the set was
    unpacked; with coco, any COCO annotation file. Crowds and boxes
    without area are dropped, boxes are clipped to their image.
    """
    from shitu.datasets.from_coco import CocoFile
    from shitu.datasets.mainbody import Rules, write_foreground
    from shitu.datasets.mainbody_sources import SOURCES, read_source
    from shitu.errors import UsageError

    if image_root and name != "coco":
        raise UsageError(f"--image-root goes with coco; {name} has its images below {root}")
    folder = Path(image_root or Path(root).parent) if name == "coco" else Path(root)
    images = CocoFile(root) if name == "coco" else read_source(name, folder)
    with out.progress(len(images) if isinstance(images, Sized) else None, "converting") as bar:
        report = write_foreground(images, folder, Path(output), Rules(min_area, max_boxes, skip_missing), bar.update)
    if name in SOURCES:
        source = SOURCES[name]
        out.log.info(
            f"{source.title}: {out.plural(report.images, 'image')}; PaddleDetection's README says "
            f"{source.published // 1000}k, without telling how they were chosen."
        )
    _print_report(report, output, f"dataset_dir: {folder}")


@click.command("mainbody-merge", epilog=example("dataset mainbody-merge coco=coco.json rpc=rpc.json -o mainbody.json"))
@click.argument("files", nargs=-1, required=True, metavar="[PREFIX=]FILE...")
@rule_options
def mainbody_merge(files: tuple[str, ...], output: str, min_area: float, max_boxes: int) -> None:
    """Several COCO files as one, with new ids and the one category foreground.

    PREFIX is the folder of the file's images below the common dataset_dir.
    """
    from shitu.datasets.mainbody import Rules, write_foreground
    from shitu.datasets.mainbody_sources import merged

    given = []
    for name in files:
        prefix, _, file = ("", "", name) if os.path.exists(name) or "=" not in name else name.partition("=")
        given.append((prefix.rstrip("/"), file))
    with out.progress(None, "merging") as bar:
        report = write_foreground(merged(given), None, Path(output), Rules(min_area, max_boxes), bar.update)
    _print_report(
        report, output, "dataset_dir: the folder that holds " + (", ".join(p for p, _ in given if p) or "all")
    )


def _print_report(report: Report, output: str, where: str) -> None:
    out.failures([("", reason) for reason in report.failed])
    for reason, count in sorted(report.dropped.items()):
        if count:
            out.log.info(f"  {count:,} {reason}, left out")
    if report.clipped:
        out.log.info(f"  {report.clipped:,} boxes clipped to their image")
    out.log.info(f"{output}: {out.plural(report.images, 'image')}, {report.boxes:,} boxes of foreground; {where}")
    out.end_with(report.failed)
