"""`shitu predict`, `predict-det`, `predict-rec`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out, sheets
from shitu.cli.options import example, format_option, with_config

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.images.read import Picture
    from shitu.recognise.files import Read
    from shitu.results import DetectedObjects, Recognition

INPUTS = click.argument("inputs", nargs=-1, metavar="[IMAGE | FOLDER | GLOB | -]...")
FORMAT = format_option("json", "json: one object per image and line; csv, parquet: a row per region.", *sheets.STYLES)
PICTURES = click.option("--pictures/--no-pictures", default=True, help="Annotated pictures in Global.output_dir.")


@click.command("predict", epilog=example("predict --format table demo/photos/beach.jpg"))
@with_config
@FORMAT
@PICTURES
@INPUTS
def predict(config: Config, inputs: tuple[str, ...], **shown: Any) -> None:
    """Find the objects in images and name them from the gallery.

    Without arguments, the images are those of Global.infer_imgs. `-` reads standard input: one image, or a list of
    paths, one per line.
    """
    run_predict(config, inputs, **shown)


def run_predict(config: Config, inputs: tuple[str, ...], *, style: str, pictures: bool) -> None:
    """`shitu predict` with a config at hand."""
    from shitu.recognise.files import recognize_files
    from shitu.recognise.from_config import SystemPredictor

    images, count = _images(config, inputs)
    records = recognize_files(SystemPredictor(config), images, config.Global.batch_size)
    _finish(records, count, config, style, pictures)


@click.command("predict-det", epilog=example("predict-det --no-pictures demo/photos/beach.jpg"))
@with_config
@FORMAT
@PICTURES
@INPUTS
def predict_det(config: Config, style: str, pictures: bool, inputs: tuple[str, ...]) -> None:
    """Only find the objects: boxes and scores."""
    from shitu.recognise.files_of_parts import detect_files
    from shitu.recognise.from_config import DetPredictor

    images, count = _images(config, inputs)
    records = detect_files(DetPredictor(config), images, config.Global.batch_size)
    _finish(records, count, config, style, pictures)


@click.command("predict-rec", epilog=example("predict-rec --npy vectors.npy demo/gallery/fluent"))
@with_config
@click.option("--npy", metavar="FILE", help="Write an (n, d) array instead of printing records; row i is image i.")
@INPUTS
def predict_rec(config: Config, npy: str | None, inputs: tuple[str, ...]) -> None:
    """Only extract: one vector per whole image.

    Records are {"image", "dimension", "vector"}. With --npy the paths go to stdout, in the order of the rows, and
    images that could not be read are left out of both.
    """
    from shitu.recognise.files_of_parts import embed_files
    from shitu.recognise.from_config import RecPredictor

    images, count = _images(config, inputs)
    if npy:
        _check_writable(npy)
    predictor = RecPredictor(config)
    failed = 0
    rows = []
    with out.progress(count, "embedding") as bar:
        for name, vector, error in embed_files(predictor, images, max(config.Global.batch_size, 8)):
            bar.update()
            if vector is None:
                failed += 1
                out.log.error("Failed: %s", error)
                if not npy:
                    out.record({"image": name, "error": str(error)})
            elif npy:
                rows.append(vector)
                out.line(name)
            else:
                out.record({"image": name, "dimension": len(vector), "vector": vector.tolist()})
    if npy:
        _save_npy(npy, rows, predictor.dimension)
    if failed:
        raise SystemExit(1)


def _images(config: Config, inputs: tuple[str, ...]) -> tuple[Iterator[Read], int | None]:
    """The images, and how many they are if that is to be shown; paths are checked now, images read when wanted."""
    from shitu.errors import UsageError
    from shitu.images.find import find_images
    from shitu.images.read_ahead import read_ahead, read_stdin

    if not inputs and config.Global.infer_imgs:
        inputs = (config.Global.infer_imgs,)
    if not inputs:
        raise UsageError("no images given; name images, folders or globs, or set Global.infer_imgs")
    if "-" in inputs:
        if len(inputs) > 1:
            raise UsageError("`-` (standard input) cannot be mixed with other images; give it alone")
        return read_stdin(sys.stdin.buffer), None
    found = find_images(inputs)
    if not out.shows_progress():
        return read_ahead(found), None
    names = list(found)  # for the time left
    return read_ahead(names), len(names)


def _finish(
    records: Iterable[tuple[Picture | None, Recognition | DetectedObjects]],
    total: int | None,
    config: Config,
    style: str,
    pictures: bool,
) -> None:
    """Print every record as soon as it is there, draw beside it, end with status 1 where an image failed."""
    from shitu.draw import draw_recognition
    from shitu.draw.annotated_writer import PictureWriter

    failed = 0
    shown: list[Recognition | DetectedObjects] = []
    with (
        PictureWriter(config.Global.output_dir, draw_recognition if pictures else None) as writer,
        out.progress(total, "images") as bar,
        sheets.Sheet(style, sheets.REGION) if style in sheets.STYLES else nullcontext() as sheet,
    ):
        for image, record in records:
            if record.error is not None:
                failed += 1
                out.log.error("Failed: %s", record.error)
            if image is not None:
                writer.write(record.image, image, record)
            if sheet is not None:
                sheet.add(sheets.regions(record.to_dict()))
            elif style == "json":
                out.record(record.to_dict())
            else:
                shown.append(record)
            bar.update()
    if style == "table":
        out.line(_table(shown))
    if writer.count:
        out.log.info("%s in %s", out.plural(writer.count, "annotated picture"), config.Global.output_dir)
    if failed or writer.failed:
        raise SystemExit(1)


def _table(records: Iterable[Recognition | DetectedObjects]) -> str:
    rows: list[list[str]] = []
    for record in records:
        if not record.regions:
            rows.append([record.image, "(nothing)" if record.error is None else "(failed)", "", "", ""])
        for region in record.regions:
            scores = [region.score, getattr(region, "det_score", None)]  # a Detection has one score
            shown = ["" if score is None else f"{score:.3f}" for score in scores]
            rows.append([record.image, region.label, *shown, " ".join(map(str, region.bbox))])
    return out.table(rows, ["image", "label", "score", "det", "x1 y1 x2 y2"])


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
