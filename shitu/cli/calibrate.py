"""`shitu calibrate`: thresholds from photos whose right answers are known."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.evaluate import queries_of, query_options
from shitu.cli.options import config_options, example, false_accept_option, format_option, read_config

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.evaluation.calibrate import Calibration
    from shitu.evaluation.edit_yaml import Change


@click.command(
    "calibrate",
    epilog=example("calibrate --query demo/photos.txt --false-accept 0.1 --write my_config.yaml --format table"),
)
@config_options("gallery", "device")
@query_options
@false_accept_option
@click.option(
    "--write",
    "target",
    metavar="NEW.yaml",
    help="Write the config with the calibrated values and those given by options, each with a comment; all else stays.",
)
@click.option("--overwrite", is_flag=True, help="Replace NEW.yaml if it is there, even if it is CONFIG itself.")
@format_option("json")
def calibrate_config(
    *,
    config_path: str | None,
    overrides: tuple[str, ...],
    query_list: str | None,
    image_root: str | None,
    false_accept: float,
    target: str | None,
    overwrite: bool,
    style: str,
    **asked: Any,
) -> None:
    """Choose thresholds by photos with known answers.

    Finds the score threshold at which at most a wanted share of unknown things is named, and with a detector
    Global.whole_image, max_det_results, threshold and rec_nms_thresold, so that most known things are named rightly.
    Settings no more than a standard error below the best count as equal; of those the nearest to the config's are
    chosen. Recall and rate on the photos that chose flatter: believe the cross-validated ones.
    """
    from shitu.evaluation.calibrate import calibrate, check_rate

    check_rate(false_accept)
    config = read_config(config_path, overrides)
    if target is not None:
        from shitu.evaluation.write_config import check_target

        check_target(target, overwrite=overwrite)
    queries = queries_of(config, query_list, image_root)
    with out.progress(len(queries), "looking", "queries") as bar:
        found = calibrate(config, queries, false_accept=false_accept, progress=bar.update, **asked)
    for _, reason in dict.fromkeys(found.failed):
        out.log.error("Failed: %s", reason)
    for warning in found.warnings:
        out.log.warning(warning)
    if target is not None:
        _write(found, config, config_path, target, overwrite)
    out.show(style, {**found.to_dict(), "written": target}, lambda: out.tables("calibrate.txt", found=found))
    if found.failed:
        raise SystemExit(1)


def _write(found: Calibration, config: Config, config_path: str | None, target: str, overwrite: bool) -> None:
    from shitu.config import load_config
    from shitu.config.layers import config_file
    from shitu.evaluation.write_config import given_changes, write_config

    on_file, command = load_config(config_path), shlex.join(["shitu", *sys.argv[1:]])
    changes = changes_of(found, on_file, command)
    changes += given_changes(config, on_file, found.values, date.today().isoformat(), command)
    path, count = write_config(config_file(config_path), target, changes, overwrite=overwrite)
    out.log.info(f"{path}: {out.plural(count, 'key')} changed" if count else f"{path}: nothing to change, a copy")
    out.log.info(f"Next: shitu predict -c {shlex.quote(target)} PHOTOS")


def changes_of(found: Calibration, on_file: Config, command: str) -> list[Change]:
    """The keys whose values in the file are others than the calibrated ones, and what stands above each."""
    from shitu.evaluation.edit_yaml import Change

    low, high = found.threshold_interval
    how = "listed" if found.unknown_kind == "listed" else "the known, their labels hidden"
    changes = []
    for key, (_, value) in found.values.items():
        section, _, name = key.partition(".")
        before = getattr(getattr(on_file, section), name)
        if before == value:
            continue
        interval = f"; 95 % interval {low:.4g} to {high:.4g}" if section == "IndexProcess" else ""
        notes = (
            f"was {before}{interval}",
            f"{found.known} known and {found.unknown} unknown queries ({how}), false-accept rate wanted "
            f"{found.false_accept:g}",
            f"by: {command}",
        )
        changes.append(Change(key, value, date.today().isoformat(), notes))
    return changes
