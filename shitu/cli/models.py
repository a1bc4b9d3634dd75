"""`shitu models`: list, download and verify model folders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from shitu.cli import out
from shitu.cli.options import example, format_option
from shitu.errors import ModelError, ShituError, UsageError
from shitu.models.folder import downloads_home, find_folder, model_folders, model_homes, open_folder
from shitu.models.known import KNOWN_MODELS, KnownModel, known_model, nearest
from shitu.models.verify import recorded_files, verify_model


@click.group(epilog=example("models list"))
def models() -> None:
    """List, download and verify models."""


@dataclass(frozen=True)
class _Row:
    """One line of the list; `size` in bytes, as published in rounded MB where the model is not here."""

    name: str
    task: str | None
    size: int | None
    where: str
    licence: str | None
    dimension: int | None

    def cells(self) -> list[str]:
        size = "" if self.size is None else f"{self.size / 1e6:.1f} MB"
        return [self.name, self.task or "", size, self.where, self.licence or "", str(self.dimension or "")]


@models.command("list", epilog=example("models list --format json"))
@format_option("table", "json: JSON Lines.")
def list_command(style: str) -> None:
    """List bundled, downloaded and downloadable models."""
    bundled, downloads = model_homes()
    here = model_folders(bundled) + model_folders(downloads)
    rows = [_row_of_folder(path, "bundled" if path.parent == bundled else str(path)) for path in here]
    names = {path.name for path in here}
    rows += [_row_of_known(known) for known in KNOWN_MODELS if known.name not in names]
    if style == "json":
        for row in rows:
            out.record(asdict(row))
    else:
        headers = ["name", "task", "size", "where", "licence", "dimension"]
        out.line(out.table([row.cells() for row in rows], headers))


def _row_of_folder(path: Path, where: str) -> _Row:
    known = known_model(path.name)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        folder = open_folder(path)
    except ModelError:
        # One broken folder must not hide the others; `verify` tells what is wrong.
        return _Row(path.name, None, size, f"{where} (damaged)", None, None)
    return _Row(
        path.name,  # the name by which it is found, whatever its model.yaml says
        folder.task or (known.task if known else None),
        size,
        where,
        folder.licence or (known.licence if known else None),
        folder.dimension or (known.dimension if known else None),
    )


def _row_of_known(known: KnownModel) -> _Row:
    size = None if known.published_mb is None else int(known.published_mb * 1e6)
    where = "not downloaded" if known.url else "not downloaded (no address known)"
    return _Row(known.name, known.task, size, where, known.licence, known.dimension)


@models.command("download", epilog=example("models download picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer"))
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="All models whose address is known.")
@click.option(
    "--dir", "home", type=click.Path(path_type=Path, file_okay=False), help="Where to put them.  [default: see below]"
)
@click.option(
    "--url",
    envvar="SHITU_MODELS_URL",
    help="Mirror in place of https://paddle-imagenet-models-name.bj.bcebos.com, with the same paths behind it; also "
    "$SHITU_MODELS_URL.",
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
        out.line(_verdict(path, problems))
    if not paths:
        out.message("no models here")
    if failed:
        raise SystemExit(1)


def _verdict(path: Path, problems: list[str]) -> str:
    name = path.resolve().name
    if problems:
        return f"{name}: WRONG: {'; '.join(problems)}"
    return f"{name}: ok" if recorded_files(path) else f"{name}: complete, but no checksums are on record"
