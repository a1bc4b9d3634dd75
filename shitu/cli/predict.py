"""`shitu predict`, `predict-det`, `predict-rec`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from shitu.cli.options import config_options, progress_bar, read_config

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.images import Picture
    from shitu.predict_files import Read
    from shitu.results import DetectedObjects, Recognition

FORMATS = click.Choice(["json", "table"])
INPUTS = click.argument("inputs", nargs=-1, metavar="[IMAGE | FOLDER | GLOB | -]...")
FORMAT = click.option("--format", "style", type=FORMATS, default="json", help="json: one object per image and line.")
PICTURES = click.option("--pictures/--no-pictures", default=True, help="Annotated pictures in Global.output_dir.")


@click.command("predict", epilog="\b\nExample:\n  shitu predict --format table demo/photos/beach.jpg\n")
@config_options
@FORMAT
@PICTURES
@INPUTS
def predict(
    config_path: str | None, overrides: tuple[str, ...], style: str, pictures: bool, inputs: tuple[str, ...]
) -> None:
    """Find the objects in images and name them from the gallery.

    Without arguments, the images are those of Global.infer_imgs. `-` reads standard input: one image, or a list of
    paths, one per line.
    """
    run_predict(read_config(config_path, overrides), inputs, style, pictures=pictures)


def run_predict(config: Config, inputs: tuple[str, ...], style: str, *, pictures: bool) -> None:
    """`shitu predict` with a config at hand."""
    from shitu.draw import draw_recognition
    from shitu.predict_files import recognize_files
    from shitu.predict_system import SystemPredictor

    names = _names(config, inputs)
    records = recognize_files(SystemPredictor(config), _read(names), config.Global.batch_size)
    _finish(records, config, style, draw_recognition if pictures else None)


@click.command("predict-det", epilog="\b\nExample:\n  shitu predict-det --no-pictures demo/photos/beach.jpg\n")
@config_options
@FORMAT
@PICTURES
@INPUTS
def predict_det(
    config_path: str | None, overrides: tuple[str, ...], style: str, pictures: bool, inputs: tuple[str, ...]
) -> None:
    """Only find the objects: boxes and scores."""
    from shitu.draw import draw_detections
    from shitu.predict_det import DetPredictor
    from shitu.predict_files import detect_files

    config = read_config(config_path, overrides)
    names = _names(config, inputs)
    records = detect_files(DetPredictor(config), _read(names), config.Global.batch_size)
    _finish(records, config, style, draw_detections if pictures else None)


@click.command("predict-rec", epilog="\b\nExample:\n  shitu predict-rec --npy vectors.npy demo/gallery/fluent\n")
@config_options
@click.option("--npy", metavar="FILE", help="Write an (n, d) array instead of printing records; row i is image i.")
@INPUTS
def predict_rec(config_path: str | None, overrides: tuple[str, ...], npy: str | None, inputs: tuple[str, ...]) -> None:
    """Only extract: one vector per whole image.

    Records are {"image", "dimension", "vector"}. With --npy the paths go to stdout, in the order of the rows, and
    images that could not be read are left out of both.
    """
    from shitu.predict_files import embed_files
    from shitu.predict_rec import RecPredictor

    config = read_config(config_path, overrides)
    names = _names(config, inputs)
    predictor = RecPredictor(config)
    failed = 0
    rows = []
    with progress_bar(None, "embedding") as bar:
        for name, vector, error in embed_files(predictor, _read(names), max(config.Global.batch_size, 8)):
            bar.update()
            if error is not None or vector is None:
                failed += 1
                _echo_json({"image": name, "error": str(error)}, err=npy is not None)
            elif npy:
                rows.append(vector)
                click.echo(name)
            else:
                _echo_json({"image": name, "dimension": predictor.dimension, "vector": vector.tolist()})
    if npy:
        _save_npy(npy, rows)
    if failed:
        raise SystemExit(1)


def _names(config: Config, inputs: tuple[str, ...]) -> Iterable[str]:
    """Checked now, walked later: a wrong path is told before the models are loaded."""
    from shitu.errors import UsageError
    from shitu.images import find_images

    if not inputs and config.Global.infer_imgs:
        inputs = (config.Global.infer_imgs,)
    if not inputs:
        raise UsageError("no images given; name images, folders or globs, or set Global.infer_imgs")
    if "-" in inputs:
        if len(inputs) > 1:
            raise UsageError("`-` (standard input) cannot be mixed with other images")
        return ("-",)
    return find_images(inputs)


def _read(names: Iterable[str]) -> Iterator[Read]:
    from shitu.read_ahead import read_ahead, read_stdin

    return read_stdin(sys.stdin.buffer) if names == ("-",) else read_ahead(names)


def _finish(
    records: Iterable[tuple[Picture | None, Recognition | DetectedObjects]], config: Config, style: str, draw: Any
) -> None:
    """Print every record as soon as it is there, draw beside it, end with status 1 where an image failed."""
    from shitu.write_pictures import PictureWriter

    failed = 0
    shown: list[Recognition | DetectedObjects] = []
    with PictureWriter(config.Global.output_dir, draw) as pictures, progress_bar(None, "images") as bar:
        for image, record in records:
            if record.error is not None:
                failed += 1
                click.echo(f"Failed: {record.error}", err=True)
            if image is not None:
                pictures.write(record.image, image, record)
            if style == "json":
                _echo_json(record.to_dict())
            else:
                shown.append(record)
            bar.update()
    if style == "table":
        click.echo(_table(shown))
    if pictures.count:
        click.echo(f"{pictures.count} annotated pictures in {config.Global.output_dir}", err=True)
    if failed or pictures.failed:
        raise SystemExit(1)


def _echo_json(record: dict[str, Any], err: bool = False) -> None:
    click.echo(json.dumps(record, ensure_ascii=False), err=err)


def _table(records: Iterable[Recognition | DetectedObjects]) -> str:
    from tabulate import tabulate

    rows = []
    for record in records:
        if record.error is not None:
            rows.append([record.image, "(failed)", "", "", ""])
        for region in record.regions:
            score = getattr(region, "score", "")
            det_score = getattr(region, "det_score", score)
            label = region.label
            rows.append([record.image, label, score, det_score, " ".join(map(str, region.bbox))])
        if record.error is None and not record.regions:
            rows.append([record.image, "(nothing)", "", "", ""])
    return tabulate(rows, headers=["image", "label", "score", "det", "x1 y1 x2 y2"], floatfmt=".3f")


def _save_npy(path: str, rows: list[Any]) -> None:
    import numpy as np

    from shitu.errors import UsageError

    try:
        with open(path, "wb") as file:
            np.save(file, np.stack(rows) if rows else np.empty((0, 0), np.float32), allow_pickle=False)
    except OSError as error:
        raise UsageError(f"--npy {path}: {error.strerror}") from error
