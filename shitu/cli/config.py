"""`shitu config`: what a configuration may say, and what one says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shitu.cli import out
from shitu.cli.options import choice, config_options, example

if TYPE_CHECKING:
    from shitu.config.values import Section

KINDS = {
    "inference": "gallery, prediction and evaluation",
    "train": "training of the feature extractor",
    "det": "training of the detector",
}


@click.group(
    "config",
    epilog=example("config show -c configs/inference_logo.yaml -o Global.threshold=0.3", "config schema --kind train"),
)
def config() -> None:
    """Show what a config says in full, or the schema that editors check configs by."""


@config.command("schema", epilog=example("config schema --kind inference"))
@choice("--kind", KINDS, "Of which configs.")
def schema(kind: str) -> None:
    """Print the JSON schema of a kind of config.

    An editor that knows YAML language servers then completes keys and marks mistakes; the shipped configs name theirs.
    """
    import json

    from shitu.config.json_schema import json_schema

    made = json_schema(_root(kind), f"shitu: configs for {KINDS[kind]}")
    out.line(json.dumps(made, indent=1, ensure_ascii=False))


@config.command("show", epilog=example("config show -c configs/det/picodet_lcnet_x1_0_320_mainbody.yml"))
@config_options("gallery")
def show(config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Print every key of a config with its value and where that came from: file and line, -o, or the default.

    Takes configs of every kind. What stands before the # can be given to -o.
    """
    from shitu.config.layers import config_file
    from shitu.config.origins import explain
    from shitu.made_with import stand_in

    rows = explain(_root(_kind_of(config_file(config_path))), config_path, overrides, stand_in)
    width = max(min(len(f"{row.key}={row.value}"), 50) for row in rows)
    for row in rows:
        out.line(f"{row.key + '=' + row.value:{width}}  # {row.where}")


def _root(kind: str) -> type[Section]:
    from shitu.config.schema import Config
    from shitu.training.det.schema import DetConfig
    from shitu.training.rec.schema import TrainConfig

    roots: dict[str, type[Section]] = {"inference": Config, "train": TrainConfig, "det": DetConfig}
    return roots[kind]


def _kind_of(path: Path) -> str:
    """The kind of config whose sections are most of the file's."""
    from shitu.config.layers import read_layers
    from shitu.config.values import keys_of

    raw = read_layers(_root("det"), path)[0].raw
    return max(KINDS, key=lambda kind: len(keys_of(_root(kind)).keys() & raw.keys()))
