"""Sections that check themselves: frozen dataclasses that pydantic reads.

Knows nothing of the keys: those are in schema.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shitu.config.keys import UnwantedError
from shitu.errors import ConfigError

AnySection = TypeVar("AnySection", bound="Section")

_KINDS = {bool: "bool", int: "int", float: "float", str: "text", list: "list", tuple: "list", dict: "mapping"}
UNKNOWN = "unexpected_keyword_argument"  # pydantic's name for a key that a closed section has not


class BadValueError(ConfigError, ValueError):
    """A value that its key cannot take; `key` is relative to the section that raises it."""

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
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({_KINDS.get(type(value), type(value).__name__)})"


# --- sections --------------------------------------------------------------------------------------------------


def within(default: Any, low: float, high: float = math.inf) -> Any:
    """A dataclass field whose number, or each of its numbers, lies between the two, both included."""
    return field(default=default, metadata={"low": low, "high": high})


def not_a_key(default: Any) -> Any:
    """A dataclass field that no YAML can set."""
    return field(default=default, metadata={"hidden": True})


@dataclass(frozen=True)
class Section:
    """What all sections share: closed, and with limits that hold however the section was made."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    no_effect: ClassVar[frozenset[str]] = frozenset()  # keys of PaddleClas that have no meaning here
    layered: ClassVar[bool] = False  # of a whole file: it may name a bundled file that it is laid over (layers.py)
    based: ClassVar[bool] = False  # of a whole file: `_BASE_` names the files that it is laid over (bases.py)
    tags: ClassVar[frozenset[str]] = frozenset()  # of a whole file: `!Name {...}` that is read as `{name: Name, ...}`

    @classmethod
    def kinds(cls) -> dict[str, type[Section]]:
        """The kinds that there are of it, by their names in YAML; those of variants.py have several."""
        return {}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        made: Any = handler.resolve_ref_schema(handler(source))
        if made["schema"]["type"] == "dataclass-args":  # it keeps one schema for all keys of a kind: not again
            made["schema"] = core_schema.no_info_before_validator_function(cls.keys_in, made["schema"])
        return made  # type: ignore[no-any-return]

    @classmethod
    def keys_in(cls, value: Any) -> Any:
        """The keys that a raw value stands for; a section that was made already passes. Raises UnwantedError."""
        if isinstance(value, cls):
            return value
        if value is None or value == "None":
            return {}
        if not isinstance(value, dict):
            raise UnwantedError("a section is wanted, that is a mapping of keys to values")
        for each in dataclasses.fields(cls):
            if "hidden" in each.metadata and each.name in value:
                raise PydanticCustomError(UNKNOWN, "{name}", {"name": each.name})
        return {str(key): each for key, each in value.items()}

    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        """The JSON schema of what keys_in takes, given that of the section's keys."""
        return schema

    def in_yaml(self) -> Iterator[tuple[str, Any]]:
        """The dotted keys and values that stand for it in YAML."""
        for name in keys_of(type(self)):
            yield name, getattr(self, name)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if "low" not in each.metadata or value is None:
                continue
            low, high = each.metadata["low"], each.metadata["high"]
            # `all(...)` and not `any(... < low)`: a NaN must fail
            if not all(low <= number <= high for number in (value if isinstance(value, tuple) else (value,))):
                limits = f"between {low} and {high}" if high < math.inf else f"of at least {low}"
                raise BadValueError(each.name, value, f"a number {limits} is wanted")
        self.check()

    def check(self) -> None:
        """What a kind of section asks of its values beyond their limits. Raises BadValueError."""


def keys_of(kind: type[Section]) -> dict[str, Any]:
    """The keys that YAML can set, and their types."""
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind) if "hidden" not in each.metadata}


def section_in(hint: Any) -> type[Section] | None:
    """The kind of section that a key of this type holds, if it holds any."""
    # Python 3.10 takes dict[str, Any] for a type, but then issubclass refuses it
    if get_origin(hint) is None and isinstance(hint, type) and issubclass(hint, Section):
        return hint
    return next(filter(None, map(section_in, get_args(hint))), None)


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """pydantic's reader of a kind of section; made once, on first use."""
    return TypeAdapter(kind)
