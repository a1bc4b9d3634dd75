"""`shitu predict`, `predict-det`, `predict-rec`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out, sheets
from shitu.cli.fleet import Far, fleet_options, opened, place_of
from shitu.cli.options import example, format_option, with_config
from shitu.cli.records import Shown, finish
from shitu.cli.remote import or_server
from shitu.cli.video import Watching, run_watch, watching_options

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.recognise.files import Read

INPUTS = click.argument("inputs", nargs=-1, metavar="[IMAGE | FOLDER | GLOB | URL | -]...")
FORMAT = format_option("json", "json: one object per image and line; csv, parquet: a row per region.", *sheets.STYLES)
PICTURES = click.option("--pictures/--no-pictures", default=True, help="Annotated pictures in Global.output_dir.")


@click.command("predict", epilog=example("predict --format table demo/photos/beach.jpg"))
@or_server
@with_config("gallery", "score", "top_k", "threshold", "out", "device")
@FORMAT
@PICTURES
@click.option("--unnamed", is_flag=True, help="Tell of objects without a name, too, in records and pictures.")
@watching_options
@fleet_options("OUT.parts")
@INPUTS
def predict(config: Config, inputs: tuple[str, ...], watching: Watching | None, far: Far | None, **shown: Any) -> None:
    """Find the objects in images and name them from the gallery.

    Without arguments, the images are those of Global.infer_imgs. `-` reads standard input: one image, or a list of
    paths, one per line. Of PDF and TIFF files each page is an image.

    With --every the one input is a video file, a camera or a stream, and the records are events: a thing that is
    followed from frame to frame has got a name.

    With --engine ray machines do the photos in shards, and draw no pictures; a run that was broken off goes on where it
    was.
    """
    if far:
        predict_far(config, inputs, watching, far, **shown)
    elif watching:
        run_watch(config, inputs, watching, **shown)
    else:
        run_predict(config, inputs, **shown)


def run_predict(config: Config, inputs: tuple[str, ...], *, style: str, pictures: bool, unnamed: bool = False) -> None:
    """`shitu predict` with a config at hand."""
    from shitu.recognise.files import recognize_files
    from shitu.recognise.from_config import SystemPredictor

    images, count, many = _images(config, inputs)
    records = recognize_files(SystemPredictor(config, many=many), images, config.Global.batch_size)
    finish(records, count, config.Global.output_dir, Shown(style, pictures, unnamed))


def predict_far(
    config: Config,
    inputs: tuple[str, ...],
    watching: Watching | None,
    far: Far,
    *,
    style: str,
    pictures: bool,
    unnamed: bool,
) -> None:
    """The same by a fleet. Raises UsageError for what is done in this process alone."""
    from shitu.errors import UsageError
    from shitu.images.read_ahead import paths_in
    from shitu.recognise.in_shards import recognise_in_shards

    if watching:
        raise UsageError("--every watches in this process; leave --engine ray away")
    drawing = click.get_current_context().get_parameter_source("pictures")
    if pictures and drawing is not None and drawing.name == "COMMANDLINE":
        raise UsageError("--pictures: machines of a fleet draw none; leave it away, or leave --engine ray away")
    listed = inputs == ("-",)
    names = list(paths_in(sys.stdin.buffer) if listed else _found(config, inputs))
    place = place_of(far, config.Global.output_dir)
    with opened(far, config) as fleet:
        found = recognise_in_shards(config, names, fleet, place, typed=not listed)
        records = ((None, record) for record in found)
        finish(records, len(names), config.Global.output_dir, Shown(style, False, unnamed))


@click.command("predict-det", epilog=example("predict-det --no-pictures demo/photos/beach.jpg"))
@with_config("threshold", "out", "device")
@FORMAT
@PICTURES
@INPUTS
def predict_det(config: Config, style: str, pictures: bool, inputs: tuple[str, ...]) -> None:
    """Only find the objects: boxes and scores."""
    from shitu.recognise.files_of_parts import detect_files
    from shitu.recognise.from_config import DetPredictor

    images, count, many = _images(config, inputs)
    records = detect_files(DetPredictor(config, many=many), images, config.Global.batch_size)
    finish(records, count, config.Global.output_dir, Shown(style, pictures))


@click.command("predict-rec", epilog=example("predict-rec --npy vectors.npy demo/gallery/fluent"))
@with_config("gallery", "device")
@click.option("--npy", metavar="FILE", help="Write an (n, d) array instead of printing records; row i is image i.")
@INPUTS
def predict_rec(config: Config, npy: str | None, inputs: tuple[str, ...]) -> None:
    """Only extract: one vector per whole image.

    Records are {"image", "dimension", "vector"}. With --npy the paths go to stdout, in the order of the rows, and
    images that could not be read are left out of both.
    """
    from shitu.recognise.files_of_parts import embed_files
    from shitu.recognise.from_config import RecPredictor

    images, count, many = _images(config, inputs)
    if npy:
        _check_writable(npy)
    predictor = RecPredictor(config, many=many)
    done = failed = 0
    rows = []
    with out.progress(count, "embedding") as bar:
        for name, vector, error in embed_files(predictor, images, max(config.Global.batch_size, 8)):
            bar.update()
            if vector is None:
                failed += 1
                out.log.error("Failed: %s", error)
                if not npy:
                    out.record({"image": name, "error": str(error)})
                continue
            done += 1
            if npy:
                rows.append(vector)
                out.line(name)
            else:
                out.record({"image": name, "dimension": len(vector), "vector": vector.tolist()})
    if npy:
        _save_npy(npy, rows, predictor.dimension)
    out.log.info(f"{out.plural(done, 'image')} embedded" + (f", {failed} failed" if failed else ""))
    if failed:
        raise SystemExit(1)


def _images(config: Config, inputs: tuple[str, ...]) -> tuple[Iterator[Read], int | None, bool]:
    """The images; how many they are, if that is to be shown; whether several may be looked at side by side.

    Paths are checked now, images read when wanted. Whoever pipes in paths waits for each answer.
    """
    from shitu.images.read_ahead import read_stdin
    from shitu.sources.read import read_sources

    if inputs == ("-",):
        return read_stdin(sys.stdin.buffer), None, False
    found = _found(config, inputs)
    shows = out.shows_progress()
    first = list(found if shows else islice(found, 2))  # all of them for the time left
    return read_sources(chain(first, found)), len(first) if shows else None, len(first) > 1


def _found(config: Config, inputs: tuple[str, ...]) -> Iterator[str]:
    """The names of the images, checked now and looked for as they are consumed. Raises UsageError."""
    from shitu.errors import UsageError
    from shitu.images.drawn import find_photos
    from shitu.sources.read import find_sources

    find = partial(find_photos, output_dir=config.Global.output_dir)
    if inputs:
        find = partial(find_sources, find=find)
    elif config.Global.infer_imgs:
        inputs = (config.Global.infer_imgs,)  # a config is no user: nothing is fetched for it
    if not inputs:
        raise UsageError("no images given; name images, folders or globs, or set Global.infer_imgs")
    if "-" in inputs:
        raise UsageError("`-` (standard input) cannot be mixed with other images; give it alone")
    return find(inputs)


def _check_writable(path: str) -> None:
    """Before the work, not after it."""
    from shitu.errors import UsageError

    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"--npy {path}: there is no folder {folder}; make it first")
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise UsageError(f"--npy {path}: cannot be written; name another file")


def _save_npy(path: str, rows: list[Any], dimension: int) -> None:
    import numpy as np

    from shitu.errors import ShituError

    try:
        with open(path, "wb") as file:
            np.save(file, np.stack(rows) if rows else np.empty((0, dimension), np.float32), allow_pickle=False)
    except OSError as error:
        raise ShituError(f"--npy {path}: {error.strerror}; check space and permissions") from error
