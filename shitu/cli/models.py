"""`shitu models`: list, download, convert and verify model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shitu.cli import out
from shitu.cli.models_add import add_command
from shitu.cli.options import example, format_option
from shitu.errors import ModelError, ShituError, UsageError
from shitu.models.folder import downloads_home, find_folder, model_folders, model_homes, open_folder
from shitu.models.known import KNOWN_MODELS, KnownModel, known_model, nearest
from shitu.models.model_yaml import ModelCard
from shitu.models.verify import recorded_files, verify_model


@click.group(epilog=example("models list"))
def models() -> None:
    """List, download, add and verify models."""


@models.command("list", epilog=example("models list --format json"))
@format_option("table", "json: JSON Lines.")
def list_command(style: str) -> None:
    """List bundled, downloaded and downloadable models."""
    bundled, downloads = model_homes()
    here = model_folders(bundled) + model_folders(downloads)
    rows = [_row_of_folder(path, "bundled" if path.parent == bundled else str(path)) for path in here]
    for known in KNOWN_MODELS:
        if known.name not in {path.name for path in here}:
            size = None if known.published_mb is None else int(known.published_mb * 1e6)
            where = "not downloaded" if known.url else "not downloaded (no address known)"
            rows.append(_row(known.name, size, where, known))
    if style == "json":
        for row in rows:
            out.record(row)
        return
    shown = [{**row, "size": "" if row["size"] is None else f"{row['size'] / 1e6:.1f} MB"} for row in rows]
    out.line(out.table([["" if cell is None else str(cell) for cell in row.values()] for row in shown], list(rows[0])))


def _row(name: str, size: int | None, where: str, *tell: KnownModel | ModelCard | None) -> dict[str, Any]:
    """A line of the list, `size` in bytes; what the first of `tell` does not say, the next may."""

    def told(key: str) -> Any:
        return next((value for one in tell if (value := getattr(one, key, None))), None)

    about = {key: told(key) for key in ("task", "licence", "dimension")}
    return {"name": name, "task": about.pop("task"), "size": size, "where": where, **about}


def _row_of_folder(path: Path, where: str) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:  # the name is that by which it is found, whatever its model.yaml says
        return _row(path.name, size, where, open_folder(path).card, known_model(path.name))
    except ModelError:
        # One broken folder must not hide the others; `verify` tells what is wrong.
        return _row(path.name, size, f"{where} (damaged)")


@models.command("download", epilog=example("models download picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer"))
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="All models whose address is known.")
@click.option(
    "--dir", "home", type=click.Path(path_type=Path, file_okay=False), help="Where to put them.  [default: see below]"
)
@click.option(
    "--url",
    envvar="SHITU_MODELS_URL",
    help="Mirror in place of https://paddle-imagenet-models-name.bj.bcebos.com, or PaddleX's host, with the same paths "
    "behind it; also $SHITU_MODELS_URL.",
)
def download_command(names: tuple[str, ...], every: bool, home: Path | None, url: str | None) -> None:
    """Download models that PaddleClas published, or go on with a download that broke off.

    They are put into $SHITU_HOME/models, by default ~/.cache/shitu/models, where all commands find them by
    their names.
    """
    from shitu.models.fetch import fetch_model  # brings urllib and ssl

    if bool(names) == every:
        raise UsageError("wanted either names of models or --all: see `shitu models list`")
    chosen = [model for model in KNOWN_MODELS if model.url] if every else [_wanted(name) for name in names]
    home, failures = home or downloads_home(), []
    for known in chosen:
        was_there = (home / known.name).exists()
        try:
            path = fetch_model(known, home, base_url=url)
        except ShituError as error:
            failures.append(error)  # the other models may still come
            continue
        verified = "and verified" if recorded_files(path) else "; its checksums are not on record"
        out.line(f"{known.name}: " + (f"already at {path} {verified}" if was_there else f"downloaded to {path}"))
    if failures:
        raise type(failures[0])("\n".join(str(error) for error in failures))


def _wanted(name: str) -> KnownModel:
    known = known_model(name.rstrip("/"))
    if known is None:
        near = nearest(name, (model.name for model in KNOWN_MODELS))
        bundled = name in (path.name for path in model_folders(model_homes()[0]))
        hint = "it is bundled" if bundled else f"did you mean {near}?" if near else "see `shitu models list`"
        raise ModelError(f"no model {name} can be downloaded; {hint}")
    return known


@models.command("convert", epilog=example("models convert efficientnet_lite0_512 --out output/models/efficientnet"))
@click.argument("names", nargs=-1, required=True, metavar="NAME|FOLDER...")
@click.option("--task", type=click.Choice(["recognition", "detection"]), help="Where neither folder nor program tell.")
@click.option("--out", "copy", type=click.Path(path_type=Path, file_okay=False), help="A copy that gets them.")
def convert_command(names: tuple[str, ...], task: str | None, copy: Path | None) -> None:
    """Make ONNX programs of Paddle's, for the engines onnxruntime and openvino.

    inference.onnx and model.yaml are written into the model's folder, after the outputs were compared with Paddle's.
    """
    from shitu.convert.folder import convert_model, in_copy

    def tell(text: str) -> None:
        click.echo(text, err=True)

    if copy is not None and len(names) > 1:
        raise UsageError(f"--out is one folder, and {len(names)} models are named; convert them one by one")
    for name in names:
        path = in_copy(name, copy, lambda folder: convert_model(folder, task, tell))
        out.line(f"{copy or path}: has a program for onnxruntime and openvino now")


models.add_command(add_command)


@models.command("verify", epilog=example("models verify"))
@click.argument("names", nargs=-1, metavar="[NAME|FOLDER]...")
def verify_command(names: tuple[str, ...]) -> None:
    """Compare models with their recorded sizes and SHA-256, by default all that are here.

    Ends with status 1 if something is wrong.
    """
    paths = [find_folder(name) for name in names]
    if not names:
        paths = [path for home in model_homes() for path in model_folders(home)]
    failed = False
    for path in paths:
        problems = verify_model(path)
        failed = failed or bool(problems)
        if problems:
            told = f"WRONG: {'; '.join(problems)}"
        else:
            told = "ok" if recorded_files(path) else "complete, but no checksums are on record"
        out.line(f"{path.resolve().name}: {told}")
    if not paths:
        out.message("no models here")
    if failed:
        raise SystemExit(1)
