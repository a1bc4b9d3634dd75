"""`shitu gallery append`: more images into a gallery that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shitu.cli.build_gallery import run_builder
from shitu.cli.options import example, with_config
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.config import Config


@click.command(
    "append", epilog=example("gallery append -c configs/inference_general.yaml --label 'beach' demo/photos/beach.jpg")
)
@with_config
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
