"""Reads a configuration: built-in defaults < the YAML file < `-o key=value` from left to right < a command's options.

PaddleClas's files are read as they are. A key that nobody reads is refused, and nothing is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shitu.config.layers import StandIn, config_file, merged, read_layers, with_stand_in
from shitu.config.reader import Reader
from shitu.config.schema import Config
from shitu.config.values import AnySection


def load_config(path: str | Path | None, overrides: Sequence[str] = (), stand_in: StandIn | None = None) -> Config:
    """Read `path`, a file or the name of a bundled config, and set `overrides` such as `Global.threshold=0.3` in it.

    None is the bundled `general`. What each source says wins over those before it: the defaults of schema.py, the base
    that the file names, what `stand_in` knows better than that, the file, the overrides from left to right. A command's
    own options come last, through `Config.replace`. Raises ConfigError.
    """
    return load_sections(Config, path, overrides, stand_in, source=str(config_file(path)))


def load_sections(
    root: type[AnySection],
    path: str | Path | None,
    overrides: Sequence[str] = (),
    stand_in: StandIn | None = None,
    **hidden: Any,
) -> AnySection:
    """Read the YAML file at `path`, with `overrides` set in it, into a section of kind `root`. Raises ConfigError."""
    layers = read_layers(root, path)
    if stand_in is not None:
        layers = with_stand_in(layers, overrides, stand_in)
    raw, origins = merged(layers, overrides)
    return Reader(root, layers[-1].name, origins, layers).section(root, raw, **hidden)
