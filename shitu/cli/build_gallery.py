"""`shitu build-gallery` and `shitu gallery append`: images into a gallery, and the report of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.fleet import Far, fleet_options, opened, place_of
from shitu.cli.options import Own, as_text, config_options, example, read_config, with_config
from shitu.errors import ConfigError, UsageError
from shitu.object_store import is_stored

if TYPE_CHECKING:
    from shitu.build.builder import GalleryBuilder
    from shitu.build.list_file import Entry
    from shitu.config import Config


@click.command(
    "build-gallery",
    epilog=example("build-gallery demo/gallery/google -g my_gallery", "build-gallery -c general"),
)
@config_options("gallery", "threshold", "device")
@click.option(
    "--labels",
    type=click.Choice(["from-folders", "from-names", "list"]),
    help="What names a picture: the folder in PHOTOS that it lies in, its file, or the list data_file.  [default: "
    "from-folders where PHOTOS has such, else from-names; list without PHOTOS, or where that is a list]",
)
@click.option("--skip-missing", is_flag=True, help="Pass over images that are listed but not there.")
@click.option("--yes", is_flag=True, help="Replace a gallery even where most of the listed images are missing.")
@fleet_options("GALLERY.parts")
@click.option("--crops", metavar="FOLDER", help="Only write the crops and a list of them, to weed out before indexing.")
@click.argument("photos", required=False, metavar="[PHOTOS]")
def build_gallery(
    *,
    config_path: str | None,
    overrides: tuple[str, ...],
    labels: str | None,
    skip_missing: bool,
    yes: bool,
    far: Far | None,
    crops: str | None,
    photos: str | None,
) -> None:
    """Index the pictures in the folder PHOTOS, or those of a list: PHOTOS, or else IndexProcess.data_file.

    In PHOTOS lies a folder of pictures for each thing, called as it is; it may be in an object store,
    s3://bucket/photos. IndexProcess.index_operation says how: new (default), append, or remove. Kill it at any time:
    the old gallery stays whole, and the same command goes on where it was.
    """
    from shitu.build.crops import write_crops
    from shitu.build.photos import read_photos

    named = photos_overrides(photos, labels, config_path, overrides)
    config = read_config(config_path, (*overrides, *named))
    from_folder = photos is not None and (os.path.isdir(photos) or is_stored(photos)) and labels != "list"
    entries = read_photos(photos, labels, config.Global.output_dir) if photos and from_folder else None
    root = stored_root(config, (*overrides, *named))
    if not crops:
        with builder_of(config, far, root, skip_missing=skip_missing, yes=yes) as builder:
            run_builder(builder, entries)
        return
    if far or root:
        raise UsageError("--crops cuts from files, in this process: copy the photos here, and leave --engine ray away")
    with out.progress(None, "cropping") as bar:
        done, failed = write_crops(config, crops, bar.update, entries)
    out.failures(failed)
    out.log.info(done)
    if failed:
        raise SystemExit(1)


def stored_root(config: Config, typed: tuple[str, ...]) -> str | None:
    """Where in an object store the images lie, by what was typed; None for files. Raises ConfigError."""
    root = config.IndexProcess.image_root
    if not root or not is_stored(root):
        return None
    if not any(override.partition("=")[0].strip() == "IndexProcess.image_root" for override in typed):
        raise ConfigError(
            f"IndexProcess.image_root is {root}: nothing is fetched because a file says so; name the address on the "
            f"command line: -o IndexProcess.image_root={root}"
        )
    return root


@contextmanager
def builder_of(config: Config, far: Far | None, root: str | None, **options: Any) -> Iterator[GalleryBuilder]:
    """Who builds, with images from files or below `root`, by this process or the fleet that `far` names."""
    from shitu.build.builder import GalleryBuilder
    from shitu.build.source import Stored

    source = Stored(root) if root else None
    if far is None:
        yield GalleryBuilder(config, source=source, **options)
        return
    from shitu.build.in_shards import InShards

    place = place_of(far, config.IndexProcess.index_dir)
    with opened(far, config) as fleet:
        executor = partial(InShards, fleet=fleet, place=place)
        yield GalleryBuilder(config, source=source, executor=executor, **options)


def photos_overrides(
    photos: str | None, labels: str | None, config_path: str | None, overrides: tuple[str, ...]
) -> list[str]:
    """What PHOTOS means as overrides: where images start, and which list names them. Raises UsageError."""
    said = {override.partition("=")[0].strip() for override in overrides}
    if photos is None:
        if labels not in (None, "list"):
            raise UsageError(f"--labels {labels}: of which pictures? Name their folder: shitu build-gallery PHOTOS")
        short = any(isinstance(override, Own) and "index_dir" in override for override in overrides)
        if short and config_path is None and "IndexProcess.data_file" not in said:
            raise UsageError(
                "which pictures? Name their folder, shitu build-gallery PHOTOS -g FOLDER, or a list of them"
            )
        return []
    if os.path.isfile(photos):
        if labels not in (None, "list"):
            raise UsageError(f"--labels {labels}: {photos} is a file; wanted the folder of the pictures")
        root = (
            []
            if "IndexProcess.image_root" in said
            else [as_text("IndexProcess.image_root", os.path.dirname(photos) or ".")]
        )
        return [as_text("IndexProcess.data_file", photos), *root]
    if not os.path.isdir(photos) and not is_stored(photos):
        raise UsageError(f"{photos}: no such folder or list; check the path")
    return [as_text("IndexProcess.image_root", photos)]


@click.command(
    "append",
    epilog=example("gallery append -g my_gallery --label 'beach' demo/photos/beach.jpg"),
)
@with_config("gallery", "threshold", "device")
@click.option("--list", "list_file", metavar="FILE", help="A list of images, as data_file. [default: data_file]")
@click.option("--label", metavar="TEXT", help="The label of the images named on the command line.")
@click.option("--skip-missing", is_flag=True, help="Pass over images that are listed but not there.")
@click.argument("images", nargs=-1, metavar="[IMAGE | FOLDER | GLOB]...")
def append(
    config: Config, list_file: str | None, label: str | None, skip_missing: bool, images: tuple[str, ...]
) -> None:
    """Add images to the gallery: those of a list, or those named, with one label.

    Images whose content is already there are passed over.
    """
    from shitu.build.builder import GalleryBuilder
    from shitu.build.list_file import Entry
    from shitu.images.drawn import find_photos

    if bool(images) != (label is not None) or (images and list_file):
        raise UsageError("name images and their --label, or a --list (or neither, for IndexProcess.data_file)")
    config = config.replace("IndexProcess", index_operation="append")
    if list_file:
        config = config.replace("IndexProcess", data_file=list_file)
    builder = GalleryBuilder(config, skip_missing=skip_missing)
    entries = None
    if images and label:
        root = config.IndexProcess.image_root
        found = find_photos(images, config.Global.output_dir)
        entries = [Entry(_below(root, path), path, label, 0) for path in found]
    run_builder(builder, entries)


def _below(root: str | None, path: str) -> str:
    """The path as a list would have it: from `image_root` on, where it lies below that; else as it was given."""
    if not root:
        return path
    inner = os.path.relpath(path, root)
    return path if inner.split(os.sep)[0] == os.pardir else inner


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
    for contradiction in report.contradicting[: out.SHOWN_FAILURES]:
        out.log.warning("%s; it is indexed under each, and one of them may be wrong", contradiction)
    parts = [
        f"{out.plural(report.images, 'image')} indexed" if report.images else "",
        out.plural(report.indexed, "vector") if report.indexed != report.images else "",
        f"{report.resumed} of them from the build that was interrupted" if report.resumed else "",
        f"{report.already_there} already there" if report.already_there else "",
        f"{out.plural(report.repeated, 'repeated line')} passed over" if report.repeated else "",
        f"{report.removed} removed" if report.removed is not None else "",
        f"{report.missing} missing, passed over" if report.missing else "",
        f"{len(report.failed)} failed" if report.failed else "",
    ]
    out.log.info(
        f"{', '.join(part for part in parts if part) or 'Nothing to do'}; {builder.index_dir} holds {report.total:,}."
    )
    if report.failed:
        raise SystemExit(1)
