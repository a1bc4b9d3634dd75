"""Every key of a configuration, its value, and where that came from: a line of the file, an override, the default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shitu.config.layers import Layer, StandIn, merged, read_layers, with_stand_in
from shitu.config.read_yaml import read_text
from shitu.config.reader import Reader
from shitu.config.values import Section

DEFAULT = "default"


class Row(NamedTuple):
    key: str  # dotted, as -o takes it
    value: str  # as YAML on one line
    where: str


def explain(
    root: type[Section], path: str | Path | None, overrides: Sequence[str] = (), stand_in: StandIn | None = None
) -> list[Row]:
    """The keys of the file at `path` with `overrides`, in the order of the schema. Raises ConfigError."""
    layers = read_layers(root, path)
    if stand_in is not None:
        layers = with_stand_in(layers, overrides, stand_in)
    raw, origins = merged(layers, overrides)
    config = Reader(root, layers[-1].name, origins, layers).section(root, raw)
    known = [(layer, {} if layer.path is None else _lines_of(layer.path)) for layer in reversed(layers)]
    return [Row(key, _written(value), _where(key, raw, origins, known)) for key, value in _leaves(config)]


def _leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.in_yaml():
        key = prefix + name
        if isinstance(value, Section):
            yield from _leaves(value, f"{key}.")
        elif isinstance(value, tuple) and any(isinstance(each, Section) for each in value):
            for number, each in enumerate(value):
                yield from _leaves(each, f"{key}.{number}.")
        else:
            yield key, value


def _written(value: Any) -> str:
    plain = [list(each) if isinstance(each, tuple) else each for each in value] if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _where(key: str, raw: Any, origins: dict[str, str], known: list[tuple[Layer, dict[str, int]]]) -> str:
    if not _is_in(raw, key):
        return DEFAULT
    parts = key.split(".")
    above = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]  # the nearest first
    within = [f"-o {override}" for made, override in origins.items() if made.startswith(f"{key}.")]
    for each in above:
        if each in origins:
            return ", ".join([f"-o {origins[each]}", *within])
    layer, lines = next(((layer, lines) for layer, lines in known if _is_in(layer.raw, key)), known[0])
    line = next((f":{lines[each]}" for each in above if each in lines), "")
    return ", ".join([f"{layer.name}{line}", *within])


def _is_in(raw: Any, key: str) -> bool:
    """Whether the YAML says anything of a dotted key."""
    for part in key.split("."):
        if isinstance(raw, list) and part.isdecimal() and int(part) < len(raw):
            raw = raw[int(part)]
        elif isinstance(raw, dict) and part in raw:
            raw = raw[part]
        else:
            return False
    return True


def _lines_of(path: Path) -> dict[str, int]:
    """The line of every dotted key in a YAML file that can be read."""
    lines: dict[str, int] = {}
    waiting = [("", yaml.compose(read_text(path), yaml.SafeLoader))]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            below = [(key.value, key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            below = [(str(number), value, value) for number, value in enumerate(node.value)]
        else:
            continue
        for name, key, value in below:
            lines[prefix + name] = key.start_mark.line + 1
            waiting.append((f"{prefix}{name}.", value))
    return lines
