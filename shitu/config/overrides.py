"""`-o a.b.2.c=value`: what the command line sets in what a file says."""

from __future__ import annotations

from typing import Any

from shitu.config.read_yaml import parse_yaml
from shitu.errors import ConfigError

_NULLS = ("", "~", "null", "Null", "NULL")
_EXAMPLE = "write section.key=value, such as -o Global.threshold=0.3"


def apply(raw: dict[Any, Any], override: str, origins: dict[str, str]) -> None:
    """Set one `a.b.2.c=value` in `raw`, and note in `origins` which keys it made."""
    dotted, equals, text = override.partition("=")
    parts = [part.strip() for part in dotted.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"Cannot read -o {override}; {_EXAMPLE}")
    here: Any = raw
    for depth in range(1, len(parts)):
        here = _below(here, parts[:depth], parts[depth], override, origins)
    here[_place(here, parts, override)] = _value(text)
    _made(".".join(parts), override, origins)


def _below(here: Any, path: list[str], following: str, override: str, origins: dict[str, str]) -> Any:
    """What `here` has at the end of `path`; where that is nothing, a new mapping."""
    place, reached = _place(here, path, override), ".".join(path)
    below = here[place] if isinstance(here, list) or place in here else None
    if below is None or below == "None":
        if following.isdecimal():
            advice = f"set the whole list: -o '{reached}=[...]'"
            raise ConfigError(f"-o {override}: {reached} is not set and has no entry {following}; {advice}")
        below = here[place] = {}
        _made(reached, override, origins)
    return below


def _place(here: Any, path: list[str], override: str) -> Any:
    """The key or list index that the last of `path` is in `here`."""
    part, reached = path[-1], ".".join(path[:-1])
    if isinstance(here, dict):
        return part
    if not isinstance(here, list):
        raise ConfigError(
            f"-o {override}: {reached} is {here!r}, and nothing can be set inside that; set {reached} itself"
        )
    if not (part.isascii() and part.isdecimal()):
        raise ConfigError(f"-o {override}: {reached} is a list; write a number from 0 instead of {part}")
    if len(part) > 9 or int(part) >= len(here):
        last = f"its last is {len(here) - 1}" if here else "it is empty"
        raise ConfigError(f"-o {override}: {reached} has no entry {part}; {last}")
    return int(part)


def _made(key: str, override: str, origins: dict[str, str]) -> None:
    """From now on `key` and all below it come from `override`."""
    for below in [each for each in origins if each.startswith(key + ".")]:
        del origins[below]
    origins[key] = override


def _value(text: str) -> Any:
    """The value that `text` is as YAML; text where it is none."""
    bare = text.strip()
    if text and not bare:
        return text  # a blank or a tab, as a delimiter
    try:
        value = parse_yaml(text, "the value")
    except ConfigError:
        return bare
    if value is None and bare not in _NULLS:
        return bare  # what YAML takes for a comment
    if isinstance(value, str) and not bare.startswith(('"', "'")):
        return bare  # YAML would cut `photos #2` short
    return value
