"""From what YAML gave to what a key wants: sections that check themselves, and the reader that fills them.

Knows nothing of the keys: those are in schema.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
import os
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from shitu.errors import ConfigError

FilePath = Annotated[str, "path"]  # relative to the working directory, as in PaddleClas; `~` is expanded
Operators = tuple[dict[str, Any], ...]  # each {name: parameters}; transform_ops.py knows the parameters
AnySection = TypeVar("AnySection", bound="Section")

_log = logging.getLogger("shitu")

_KINDS = {bool: "bool", int: "int", float: "float", str: "text", list: "list", tuple: "list", dict: "mapping"}
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class BadValueError(ConfigError):
    """A value that its key cannot take."""

    def __init__(self, key: str, value: Any, wanted: str, where: str = "") -> None:
        super().__init__(f"{key} is {_shown(value)}{' in ' + where if where else ''}; {wanted}")
        self.key, self.value, self.wanted = key, value, wanted


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    try:
        text = repr(value)
    except ValueError:  # Python writes out no number of more than 4,300 digits
        text = "something very long"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({_kind(value)})"


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


# --- sections --------------------------------------------------------------------------------------------------


def within(default: Any, low: float, high: float = math.inf) -> Any:
    """A dataclass field whose number, or each of its numbers, lies between the two, both included."""
    return field(default=default, metadata={"low": low, "high": high})


def not_a_key(default: Any) -> Any:
    """A dataclass field that no YAML can set."""
    return field(default=default, metadata={"hidden": True})


@dataclass(frozen=True)
class Section:
    """What all sections share: limits that hold however the section was made."""

    no_effect: ClassVar[frozenset[str]] = frozenset()  # keys of PaddleClas that have no meaning here

    @classmethod
    def read_as(cls, value: Any) -> tuple[type[Section], Any]:
        """The kind of section that a raw value stands for, and its keys; variants.py has sections of several kinds.

        Raises ValueError that says what is wanted.
        """
        return cls, value

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if "low" not in each.metadata or value is None:
                continue
            low, high = each.metadata["low"], each.metadata["high"]
            # `all(...)` and not `any(... < low)`: a NaN must fail
            if not all(low <= number <= high for number in (value if isinstance(value, tuple) else (value,))):
                limits = f"between {low} and {high}" if high < math.inf else f"of at least {low}"
                raise BadValueError(f"{type(self).__name__}.{each.name}", value, f"a number {limits} is wanted")


def _keys(kind: type[Section]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind) if "hidden" not in each.metadata}


def _section_in(hint: Any) -> type[Section] | None:
    for part in (hint, *get_args(hint)):
        # Python 3.10 takes dict[str, Any] for a type, but then issubclass refuses it
        if get_origin(part) is None and isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def _dotted(kind: type[Section], prefix: str = "") -> Iterator[str]:
    for name, hint in _keys(kind).items():
        yield prefix + name
        if inner := _section_in(hint):
            yield from _dotted(inner, f"{prefix}{name}.")


# --- the reader ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Reads mappings into sections; `name` and `overrides` (dotted key -> `key=value`) say where values came from."""

    root: type[Section]
    name: str
    overrides: dict[str, str] = field(default_factory=dict)

    def section(self, kind: type[AnySection], value: Any, key: str = "", **hidden: Any) -> AnySection:
        if isinstance(value, kind):
            return value
        if value is None or value == "None":
            value = {}
        try:
            meant, value = kind.read_as(value)
        except ValueError as error:
            raise self._refused(key, value, str(error)) from None
        assert issubclass(meant, kind)
        return self._filled(meant, value, key, **hidden)

    def _filled(self, kind: type[AnySection], value: Any, key: str, **hidden: Any) -> AnySection:
        if not isinstance(value, dict):
            raise self._refused(key, value, "a section is wanted, that is a mapping of keys to values")
        prefix, keys, values = f"{key}." if key else "", _keys(kind), {}
        for name, raw in value.items():
            if name in kind.no_effect:
                _log.warning("%s%s in %s has no effect", prefix, name, self._where(prefix + name))
            elif name in keys:
                values[name] = self._value(keys[name], raw, prefix + name)
            else:
                raise self._unknown(kind, key, str(name))
        try:
            return kind(**values, **hidden)
        except BadValueError as error:  # a section knows its limits, and the reader knows where the value came from
            raise self._refused(error.key, error.value, error.wanted) from None

    def _value(self, hint: Any, value: Any, key: str) -> Any:
        if get_origin(hint) in (Union, types.UnionType):  # something | None is the only union there is
            hint = next(part for part in get_args(hint) if part is not type(None))
            if value is None or value in ("", "None"):
                return None
        inner = None if get_origin(hint) is tuple else _section_in(hint)
        if value is None and not inner:
            raise self._refused(key, value, f"{_wanted(hint)} is wanted; leave it out for the default")
        return self.section(inner, value, key) if inner else self._convert(hint, value, key)

    def _convert(self, hint: Any, value: Any, key: str) -> Any:
        if hint == Operators:
            return self._operators(value, key)
        if get_origin(hint) is tuple:
            return self._list(get_args(hint)[0], value, key)
        if get_origin(hint) is Literal:
            return self._choice(get_args(hint), value, key)
        if get_origin(hint) is Annotated:
            return self._path(value, key)
        if hint is str:
            return self._text(value, key)
        try:
            return _PLAIN[hint](value)
        except (TypeError, ValueError, OverflowError):
            raise self._refused(key, value, f"{_wanted(hint)} is wanted") from None

    def _text(self, value: Any, key: str) -> str:
        override = self.overrides.get(key)
        if override and not isinstance(value, (str, list, dict)):
            value = override.partition("=")[2].strip()  # `-o Global.infer_imgs=2024`: a folder of that name
        if isinstance(value, str):
            return "\t" if value == r"\t" else value  # a shell hands over backslash and t
        wanted = "text is wanted"
        if isinstance(value, bool):
            wanted += "; YAML reads an unquoted no, yes, on, off, true or false as a bool: put it in quotes"
        elif not isinstance(value, (list, dict)):
            wanted += ": put it in quotes"
        raise self._refused(key, value, wanted)

    def _path(self, value: Any, key: str) -> str:
        text = self._text(value, key)
        if not text.strip() or "\0" in text or text == "None":
            raise self._refused(key, text, "a path is wanted")
        return os.path.expanduser(text)

    def _choice(self, choices: Sequence[str], value: Any, key: str) -> str:
        by_name = {choice.casefold(): choice for choice in choices}
        if isinstance(value, str) and value.casefold() in by_name:
            return by_name[value.casefold()]
        raise self._refused(key, value, f"one of {', '.join(choices)} is wanted")

    def _list(self, item: Any, value: Any, key: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise self._refused(key, value, f"a list is wanted, written [a, b], each {_wanted(item)}")
        return tuple(self._value(item, each, f"{key}.{number}") for number, each in enumerate(value))

    def _operators(self, value: Any, key: str) -> Operators:
        wanted = "a list of operators is wanted, each a mapping with one key, such as {ResizeImage: {size: 224}}"
        if not isinstance(value, (list, tuple)):
            raise self._refused(key, value, wanted)
        for number, each in enumerate(value):
            if not isinstance(each, dict) or len(each) != 1 or not isinstance(next(iter(each)), str):
                hint = f"; write {each}: with a colon" if isinstance(each, str) else ""
                raise self._refused(f"{key}.{number}", each, wanted + hint)
        return tuple(value)

    def _refused(self, key: str, value: Any, wanted: str) -> BadValueError:
        return BadValueError(key, value, wanted, self._where(key))

    def _where(self, key: str) -> str:
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            if override := self.overrides.get(".".join(parts[:end])):
                return f"-o {override}"
        return self.name

    def _unknown(self, kind: type[Section], prefix: str, name: str) -> ConfigError:
        beside = [f"{prefix}.{each}" if prefix else each for each in _keys(kind)]
        known = [*_dotted(self.root), *beside]
        by_name = {each.rpartition(".")[2].lower(): each for each in beside}
        elsewhere = [each for each in known if each.rpartition(".")[2] == name]
        near = elsewhere or [by_name[each] for each in difflib.get_close_matches(name.lower(), by_name, n=1)]
        what = "key" if prefix else "section"
        if near:
            advice = f"did you mean {near[0]}?"
        elif beside:
            names = ", ".join(each.rpartition(".")[2] for each in beside)
            advice = f"the {what}s {'of ' + prefix if prefix else 'there are'}: {names}"
        else:
            advice = f"{prefix} takes no keys: write {prefix}: {{}}"
        key = f"{prefix}.{name}" if prefix else name
        return ConfigError(f"Unknown {what} {key} in {self._where(key)}; {advice}")


# --- single values; ValueError or TypeError where it is none ---------------------------------------------------


def _bool(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise TypeError


def _int(value: Any) -> int:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return int(value)
    raise TypeError


def _float(value: Any) -> float:
    if isinstance(value, (str, float)) or (isinstance(value, int) and not isinstance(value, bool)):
        return float(value)  # text: YAML 1.1 takes 1e-3 for text
    raise TypeError


_PLAIN: dict[type, Callable[[Any], Any]] = {bool: _bool, int: _int, float: _float}


def _wanted(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is Annotated:
        return "a path"
    if get_origin(hint) is tuple:
        return "a list"
    return {bool: "true or false", int: "an int", float: "a number", str: "text"}[hint]
