"""What a configuration is made of, lowest first: a bundled file, what stands in for it, the user's file, overrides.

A file that says `base: NAME` is laid over the bundled config of that name, which may do the same; one without has
nothing below it but the defaults of schema.py, as PaddleClas reads its own. `base: paddleclas` means these defaults,
too. A detector's file has below it what it names in `_BASE_` (bases.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu.config.bases import read_bases
from shitu.config.read_yaml import parse_yaml, read_text
from shitu.config.values import Section, keys_of
from shitu.errors import ConfigError
from shitu.resources import at_hand, bundled

PADDLECLAS = "paddleclas"


@dataclass(frozen=True)
class Layer:
    """Sections of keys, and what says so; `path` where that is a file."""

    name: str
    raw: dict[Any, Any]
    path: Path | None = None


# (what all layers say of a dotted key, whether those above the base say something) -> a layer between the two
StandIn = Callable[[Callable[[str], Any], Callable[[str], bool]], Layer | None]


def names() -> dict[str, Path]:
    """The bundled configs, by the names that `-c` and `base:` take."""
    found = sorted(bundled("configs").glob("*.yaml"))
    return {path.stem.removeprefix("inference_"): path for path in found}


def config_file(path: str | Path | None) -> Path:
    """The file that a path or the name of a bundled config means, a file of that name first; None: the general one."""
    known = names()
    if path is None:
        return known["general"]
    found = Path(path).expanduser()
    return known[str(path)] if str(path) in known and not found.exists() else Path(at_hand(str(found)))


def read_layers(root: type[Section], path: str | Path | None) -> list[Layer]:
    """What the file says, or the name, and below it its base, if it has one. Raises ConfigError."""
    file = config_file(path)
    top = _read(root, file)
    if root.based:
        known = {*keys_of(root), *root.no_effect}
        bases = read_bases(file, top.raw, known, lambda base: _read(root, base).raw)
        return [*(Layer(str(base), raw, base) for base, raw in bases), top]
    if not root.layered:
        return [top]
    if path is None or (file != Path(path).expanduser() and str(path) in names()):  # as `base: NAME` alone
        return [*_bundled(root, file), Layer(str(file), {})]
    base = top.raw.pop("base", None)
    if base is None:
        return [top]
    if base == PADDLECLAS:
        return [Layer(PADDLECLAS, {}), top]
    if base not in names():
        raise ConfigError(f"base is {base!r} in {file}; one of {', '.join([*names(), PADDLECLAS])} is wanted")
    return [*_bundled(root, names()[base]), top]


def merged(layers: list[Layer], overrides: Sequence[str]) -> tuple[dict[Any, Any], dict[str, str]]:
    """The values of all layers with `overrides` set in them, and the dotted keys that these made."""
    raw: dict[Any, Any] = {}
    for layer in layers:
        _lay(raw, copy.deepcopy(layer.raw))
    origins: dict[str, str] = {}
    if overrides:
        from shitu.config.overrides import apply

        for override in overrides:
            apply(raw, override, origins)
    return raw, origins


def with_stand_in(layers: list[Layer], overrides: Sequence[str], stand_in: StandIn) -> list[Layer]:
    """The layers with what `stand_in` puts above the lowest; those of a file without base stay as they are."""
    if len(layers) == 1:
        return layers
    every, above = merged(layers, overrides)[0], merged(layers[1:], overrides)[0]
    more = stand_in(lambda key: _said(every, key, None), lambda key: says(above, key))
    return layers if more is None else [layers[0], more, *layers[1:]]


def _read(root: type[Section], path: Path) -> Layer:
    raw = parse_yaml(read_text(path), str(path), root.tags)
    if raw is None:
        raise ConfigError(f"{path} is empty; sections such as Global: are wanted")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds a {type(raw).__name__}; a mapping of sections such as Global: is wanted")
    if root.layered:  # the demo is where shitu is, also for a copy of the bundled config
        for section in raw.values():
            if isinstance(section, dict):
                section.update({key: at_hand(value) for key, value in section.items() if isinstance(value, str)})
    return Layer(str(path), raw, path)


def _bundled(root: type[Section], file: Path) -> list[Layer]:
    """A bundled config, and below it the one that it names as its base, if any."""
    top = _read(root, file)
    base = top.raw.pop("base", None)
    return [top] if base is None else [*_bundled(root, names()[base]), top]


def _lay(raw: dict[Any, Any], over: dict[Any, Any]) -> None:
    """Mappings key by key; all else, null included, in the place of what was there."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(raw.get(key), dict):
            _lay(raw[key], value)
        else:
            raw[key] = value


def says(raw: dict[Any, Any], key: str) -> bool:
    """Whether something is said of a dotted key."""
    return _said(raw, key, raw) is not raw


def _said(raw: Any, key: str, nothing: Any) -> Any:
    for part in key.split("."):
        if not isinstance(raw, dict) or part not in raw:
            return nothing
        raw = raw[part]
    return raw
