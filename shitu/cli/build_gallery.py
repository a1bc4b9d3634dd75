"""`shitu build-gallery` and `shitu gallery append`: images into a gallery, and the report of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shitu.cli import out
from shitu.cli.options import example, with_config
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.build.builder import GalleryBuilder
    from shitu.build.list_file import Entry
    from shitu.config import Config


@click.command("build-gallery", epilog=example("build-gallery -c configs/inference_general.yaml"))
@with_config("gallery", "threshold", "device")
@click.option("--skip-missing", is_flag=True, help="Pass over images that are listed but not there.")
@click.option("--crops", metavar="FOLDER", help="Only write the crops and a list of them, to weed out before indexing.")
def build_gallery(config: Config, skip_missing: bool, crops: str | None) -> None:
    """Index the images of IndexProcess.data_file.

    IndexProcess.index_operation says how: new (default), append, or remove. Kill it at any time: the old gallery
    stays whole, and the same command goes on where it was.
    """
    from shitu.build.builder import GalleryBuilder
    from shitu.build.crops import write_crops

    if not crops:
        run_builder(GalleryBuilder(config, skip_missing=skip_missing))
        return
    with out.progress(None, "cropping") as bar:
        done, failed = write_crops(config, crops, bar.update)
    out.failures(failed)
    out.log.info(done)
    if failed:
        raise SystemExit(1)


@click.command(
    "append", epilog=example("gallery append -c configs/inference_general.yaml --label 'beach' demo/photos/beach.jpg")
)
@with_config("gallery", "threshold", "device")
@click.option("--list", "list_file", metavar="FILE", help="A list of images, as data_file. [default: data_file]")
@click.option("--label", metavar="TEXT", help="The label of the images named on the command line.")
@click.option("--skip-missing", is_flag=True, help="Pass over images that are listed but not there.")
@click.argument("images", nargs=-1, metavar="[IMAGE | FOLDER | GLOB]...")
def append(
    config: Config, list_file: str | None, label: str | None, skip_missing: bool, images: tuple[str, ...]
) -> None:
    """Add images to the gallery of IndexProcess.index_dir: those of a list, or those named, with one label.

    Images whose content is already there are passed over.
    """
    from shitu.build.builder import GalleryBuilder
    from shitu.build.list_file import Entry
    from shitu.images.find import find_images

    if bool(images) != (label is not None) or (images and list_file):
        raise UsageError("name images and their --label, or a --list (or neither, for IndexProcess.data_file)")
    config = config.replace("IndexProcess", index_operation="append")
    if list_file:
        config = config.replace("IndexProcess", data_file=list_file)
    builder = GalleryBuilder(config, skip_missing=skip_missing)
    entries = [Entry(path, path, label, 0) for path in find_images(images)] if images and label else None
    run_builder(builder, entries)


def run_builder(builder: GalleryBuilder, entries: list[Entry] | None = None) -> None:
    """Run with a progress bar, print the report, end with status 1 where images failed."""
    entries = list(builder.entries()) if entries is None else entries
    try:
        with out.progress(len(entries), "embedding") as bar:
            report = builder.run(entries, bar.update)
    except KeyboardInterrupt:
        out.log.info("\nThe gallery is as it was; the same command goes on where it stopped.")
        raise
    out.failures(report.failed)
    for image in report.relabel[: out.SHOWN_FAILURES]:
        out.log.warning(
            "%s is there under another label, left so; to rename it, `shitu gallery remove` it first", image
        )
    parts = [
        f"{out.plural(report.images, 'image')} indexed" if report.images else "",
        out.plural(report.indexed, "vector") if report.indexed != report.images else "",
        f"{report.resumed} of them from the build that was interrupted" if report.resumed else "",
        f"{report.already_there} already there" if report.already_there else "",
        f"{report.removed} removed" if report.removed is not None else "",
        f"{report.missing} missing, passed over" if report.missing else "",
        f"{len(report.failed)} failed" if report.failed else "",
    ]
    out.log.info(
        f"{', '.join(part for part in parts if part) or 'Nothing to do'}; {builder.index_dir} holds {report.total:,}."
    )
    if report.failed:
        raise SystemExit(1)
