"""Sections that come in several kinds, told apart by a `name` key or by the one key of a mapping: tagged unions.

The kinds are the subclasses of the base, called in YAML as in Python unless `yaml_name` says otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from shitu.config.keys import UnwantedError
from shitu.config.values import Section


@dataclass(frozen=True)
class Variant(Section):
    """What both forms share."""

    yaml_name: ClassVar[str] = ""
    unknown: ClassVar[str] = "unknown"

    @classmethod
    def called(cls) -> str:
        return cls.__dict__.get("yaml_name") or cls.__name__

    @classmethod
    def kinds(cls) -> dict[str, type[Section]]:
        return {each.called(): each for each in cls.__subclasses__()}

    @classmethod
    def names(cls) -> list[str]:
        """Of the kinds; of a base without subclasses, which is the only kind, its own."""
        return list(cls.kinds()) or [cls.called()]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if not cls.kinds():
            return super().__get_pydantic_core_schema__(source, handler)
        choices: Any = {name: handler.generate_schema(kind) for name, kind in cls.kinds().items()}
        name_of = lambda value: value.called() if isinstance(value, cls) else cls.split(value)[0]  # noqa: E731
        union = core_schema.tagged_union_schema(choices, name_of)
        return core_schema.no_info_before_validator_function(cls._checked, union)

    @classmethod
    def _checked(cls, value: Any) -> Any:
        """`value`, of which the kind is known. Raises UnwantedError that names the nearest kind or all of them."""
        if isinstance(value, cls):
            return value
        name, known = cls.split(value)[0], cls.names()
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)} is wanted"
            raise UnwantedError(f"{cls.unknown} {name}: {advice}")
        return value

    @classmethod
    def keys_in(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not cls.kinds() and {ByName, ByKey} & {*cls.__bases__}:  # alone: no union has looked at its name
            value = cls._checked(value)
        return super().keys_in(cls.split(value)[1])

    @classmethod
    def split(cls, value: Any) -> tuple[Any, Any]:
        """The name of the kind, and the keys. Raises UnwantedError."""
        raise NotImplementedError


@dataclass(frozen=True)
class ByName(Variant):
    """`{name: PKSampler, batch_size: 256}`"""

    unknown = "unknown name"

    def in_yaml(self) -> Iterator[tuple[str, Any]]:
        yield "name", self.called()
        yield from super().in_yaml()

    @classmethod
    def split(cls, value: Any) -> tuple[Any, Any]:
        if not isinstance(value, dict) or "name" not in value:
            raise UnwantedError(f"a section with a name is wanted, one of {', '.join(cls.names())}")
        return value["name"], {key: each for key, each in value.items() if key != "name"}


@dataclass(frozen=True)
class ByKey(Variant):
    """`{CELoss: {weight: 1.0}}`, as in PaddleClas's lists of losses and metrics; without keys the name alone."""

    def in_yaml(self) -> Iterator[tuple[str, Any]]:
        yield from ((f"{self.called()}.{name}", value) for name, value in super().in_yaml())

    @classmethod
    def split(cls, value: Any) -> tuple[Any, Any]:
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, dict) or len(value) != 1:
            raise UnwantedError(f"a mapping with one key is wanted, one of {', '.join(cls.names())}")
        return next(iter(value.items()))
