"""Sections that check themselves, and the reader that fills them from YAML: pydantic, with messages of our own.

Knows nothing of the keys: those are in schema.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shitu.config.keys import NoTextError, UnwantedError
from shitu.errors import ConfigError

AnySection = TypeVar("AnySection", bound="Section")

_log = logging.getLogger("shitu")

_KINDS = {bool: "bool", int: "int", float: "float", str: "text", list: "list", tuple: "list", dict: "mapping"}
_UNKNOWN = "unexpected_keyword_argument"  # pydantic's name for a key that a closed section has not


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
                raise PydanticCustomError(_UNKNOWN, "{name}", {"name": each.name})
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


def _dotted(kind: type[Section], prefix: str = "") -> Iterator[str]:
    for name, hint in keys_of(kind).items():
        yield prefix + name
        if inner := section_in(hint):
            yield from _dotted(inner, f"{prefix}{name}.")


# --- the reader ------------------------------------------------------------------------------------------------


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """pydantic's reader of a kind of section; made once, on first use."""
    return TypeAdapter(kind)


@dataclass(frozen=True)
class Reader:
    """Reads mappings into sections; `name` and `overrides` (dotted key -> `key=value`) say where values came from."""

    root: type[Section]
    name: str
    overrides: dict[str, str] = field(default_factory=dict)

    def section(self, kind: type[AnySection], value: Any, key: str = "", **hidden: Any) -> AnySection:
        """What `value` says below `key`; changes it in place. Raises ConfigError for the first mistake in it."""
        try:
            made: AnySection = adapter(kind).validate_python(value)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = [_Problem(kind, value, key, each) for each in error.errors(include_url=False)]
        else:
            return dataclasses.replace(made, **hidden) if hidden else made
        # two things depend on where a value stands, which pydantic does not tell its validators
        mended = [self._mended(problem) for problem in problems]
        if not any(mended):
            raise self._told(min(problems, key=lambda problem: problem.order))
        return self.section(kind, value, key, **hidden)

    def _mended(self, problem: _Problem) -> bool:
        """Whether a key without effect was taken out, or an override's value became the text that it was typed as."""
        if problem.unknown and problem.last in problem.section.no_effect:
            _log.warning("%s in %s has no effect", problem.key, self._where(problem.path))
            del problem.holder[problem.last]
            return True
        override = self.overrides.get(problem.path)
        typed = isinstance(problem.error, NoTextError) and not isinstance(problem.value, (list, dict))
        if override and typed:  # `-o Global.infer_imgs=2024`: a folder of that name
            problem.holder[problem.last] = override.partition("=")[2].strip()
        return bool(override) and typed

    def _told(self, problem: _Problem) -> ConfigError:
        if problem.unknown:
            return self._unknown(problem)
        return BadValueError(problem.key, problem.value, problem.wanted, self._where(problem.path))

    def _where(self, key: str) -> str:
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            if override := self.overrides.get(".".join(parts[:end])):
                return f"-o {override}"
        return self.name

    def _unknown(self, problem: _Problem) -> ConfigError:
        prefix, _, name = problem.key.rpartition(".")
        beside = [f"{prefix}.{each}" if prefix else each for each in keys_of(problem.section)]
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
        return ConfigError(f"Unknown {what} {problem.key} in {self._where(problem.path)}; {advice}")


class _Problem:
    """One of pydantic's errors, and where it lies.

    `key` is dotted, as messages write it; `path` as overrides do, with the key that names a kind. `section` is the kind
    of section around it, `holder` what the YAML has there, and `last` the place in that. `order` is that of the YAML.
    """

    def __init__(self, kind: type[Section], raw: Any, key: str, found: Any) -> None:
        self.unknown, self.value, context = found["type"] == _UNKNOWN, found["input"], found.get("ctx", {})
        self.error, self.section, self.holder, self.last = context.get("error"), kind, raw, None
        self.wanted = getattr(self.error, "wanted", None) or str(self.error or found["msg"])
        shown, steps, here, self.order = [key] * bool(key), [key] * bool(key), raw, list[int]()
        for part in found["loc"]:
            kinds = self.section.kinds()
            if part not in kinds or (isinstance(here, dict) and part in here):
                # where there is no such key, a mapping has another one that names what it holds: {Student: {...}}
                other = isinstance(here, dict) and part not in here and len(here) == 1
                self.holder, self.last = here, next(iter(here)) if other else part
                self.order.append(list(here).index(self.last) if isinstance(here, dict) else int(part))
                here = here[self.last]
                steps.append(str(self.last))
                if part not in kinds:
                    shown.append(steps[-1])
            self.section = kinds.get(part) or section_in(keys_of(self.section).get(part)) or self.section
        # what a section says of itself as a whole
        if inner := getattr(self.error, "key", None) or context.get("name"):
            shown, steps = [*shown, inner], [*steps, inner]
        if isinstance(self.error, BadValueError):
            self.value = self.error.value
        self.key, self.path = ".".join(shown), ".".join(steps)
