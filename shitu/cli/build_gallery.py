"""`shitu build-gallery`, and the report that `shitu gallery append` prints too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shitu.cli.options import config_options, progress_bar, read_config

if TYPE_CHECKING:
    from shitu.build_gallery import BuildReport, GalleryBuilder
    from shitu.list_file import Entry

EPILOG = """\b
Example:
  shitu build-gallery -c configs/inference_general.yaml
"""
SHOWN_FAILURES = 20


@click.command("build-gallery", epilog=EPILOG)
@config_options
@click.option("--skip-missing", is_flag=True, help="Pass over images that are listed but not there.")
@click.option("--crops", metavar="FOLDER", help="Only write the crops and a list of them, to weed out before indexing.")
def build_gallery(config_path: str | None, overrides: tuple[str, ...], skip_missing: bool, crops: str | None) -> None:
    """Index the images of IndexProcess.data_file.

    IndexProcess.index_operation says how: new (default), append, or remove. Kill it at any time: the old gallery
    stays whole, and the same command goes on where it was.
    """
    from shitu.build_gallery import GalleryBuilder
    from shitu.write_crops import write_crops

    config = read_config(config_path, overrides)
    if crops:
        with progress_bar(None, "cropping") as bar:
            click.echo(write_crops(config, crops, bar.update), err=True)
        return
    run_builder(GalleryBuilder(config, skip_missing=skip_missing))


def run_builder(builder: GalleryBuilder, entries: list[Entry] | None = None) -> None:
    """Run with a progress bar, print the report, end with status 1 where images failed."""
    entries = list(builder.entries()) if entries is None else entries
    with progress_bar(len(entries), "embedding") as bar:
        report = builder.run(entries, bar.update)
    print_report(report, str(builder.index_dir))
    if report.failed:
        raise SystemExit(1)


def print_report(report: BuildReport, where: str) -> None:
    """Counts and failures, on stderr."""

    def say(text: str) -> None:
        click.echo(text, err=True)

    for path, reason in report.failed[:SHOWN_FAILURES]:
        say(f"Failed: {reason if path in reason else f'{path}: {reason}'}")
    if len(report.failed) > SHOWN_FAILURES:
        say(f"... and {len(report.failed) - SHOWN_FAILURES} more")
    for image in report.relabel[:SHOWN_FAILURES]:
        say(f"Already there under another label, left so: {image} (to rename: `shitu gallery remove` it first)")
    parts = [
        f"{report.images} images indexed" if report.images else "",
        f"{report.indexed} vectors" if report.indexed != report.images else "",
        f"{report.resumed} of them from the build that was interrupted" if report.resumed else "",
        f"{report.already_there} already there" if report.already_there else "",
        f"{report.removed} removed" if report.removed is not None else "",
        f"{report.missing} missing, passed over" if report.missing else "",
        f"{len(report.failed)} failed" if report.failed else "",
    ]
    say(f"{', '.join(part for part in parts if part) or 'Nothing to do'}; {where} holds {report.total}.")
