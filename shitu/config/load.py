"""Reads a configuration: built-in defaults < the YAML file < `-o key=value` from left to right < a command's options.

PaddleClas's files are read as they are. A key that nobody reads is refused, and nothing is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shitu.config.read_yaml import parse_yaml, read_text
from shitu.config.reader import Reader
from shitu.config.schema import Config
from shitu.config.values import AnySection, Section
from shitu.errors import ConfigError
from shitu.resources import bundled


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read `path` (None: the bundled inference_general.yaml) and set `overrides` such as `Global.threshold=0.3` in it.

    What each source says wins over those before it: the defaults of schema.py, the file, the overrides from
    left to right. A command's own options come last, through `Config.replace`.
    """
    path = bundled("configs") / "inference_general.yaml" if path is None else Path(path).expanduser()
    return load_sections(Config, path, overrides, source=str(path))


def load_sections(root: type[AnySection], path: Path, overrides: Sequence[str] = (), **hidden: Any) -> AnySection:
    """Read the YAML file at `path`, with `overrides` set in it, into a section of kind `root`. Raises ConfigError."""
    raw, origins = read_raw(root, path, overrides)
    return Reader(root, str(path), origins).section(root, raw, **hidden)


def read_raw(root: type[Section], path: Path, overrides: Sequence[str]) -> tuple[dict[Any, Any], dict[str, str]]:
    """What the YAML file at `path` says with `overrides` set in it, and the dotted keys that these made."""
    raw = parse_yaml(read_text(path), str(path), root.tags)
    if raw is None:
        raise ConfigError(f"{path} is empty; sections such as Global: are wanted")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds a {type(raw).__name__}; a mapping of sections such as Global: is wanted")
    origins: dict[str, str] = {}
    if overrides:
        from shitu.config.overrides import apply

        for override in overrides:
            apply(raw, override, origins)
    return raw, origins
