"""What one key of a configuration may hold: YAML 1.1's readings, and what is said of a value that does not fit.

`Flag`, `Whole`, `Number` and `Text` stand in schemas where Python has bool, int, float and str: pydantic's own readings
take yes for the number 1 and y for true. `Choice`, `Maybe` and `Several` do so for Literal, `| None` and tuple.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_OPERATORS = "a list of operators is wanted, each a mapping with one key, such as {ResizeImage: {size: 224}}"


class UnwantedError(ValueError):
    """Its text says what is wanted; pydantic adds where, and the value."""


class NoTextError(UnwantedError):
    """What is wanted is text, which an override is before it is read as YAML."""


@dataclass(frozen=True)
class Read:
    """Marks a type: what YAML gave goes through `read`, which raises where it is none of `wanted`."""

    wanted: str
    read: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self, handler(source))

    def __call__(self, value: Any) -> Any:
        if value is None:
            raise UnwantedError(f"{self.wanted} is wanted; leave it out for the default")
        try:
            return self.read(value)
        except UnwantedError:
            raise
        except (TypeError, ValueError, OverflowError):
            raise UnwantedError(f"{self.wanted} is wanted") from None


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        return _WORDS[value.strip().lower()] if value.strip().lower() in _WORDS else _no()
    return bool(value) if isinstance(value, int) and value in (0, 1) else _no()


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else _no()


def _number(value: Any) -> float:
    # text: YAML 1.1 takes 1e-3 for text
    return float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else _no()


def _no() -> Any:
    raise TypeError


def _text(value: Any) -> str:
    if isinstance(value, str):
        return "\t" if value == r"\t" else value  # a shell hands over backslash and t
    wanted = "text is wanted"
    if isinstance(value, bool):
        wanted += "; YAML reads an unquoted no, yes, on, off, true or false as a bool: put it in quotes"
    elif not isinstance(value, (list, dict)):
        wanted += ": put it in quotes"
    raise NoTextError(wanted)


def _path(value: Any) -> str:
    text = _text(value)
    if not text.strip() or "\0" in text or text == "None":
        raise TypeError
    return os.path.expanduser(text)


def _operator(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) != 1 or not isinstance(next(iter(value)), str):
        raise UnwantedError(_OPERATORS + (f"; write {value}: with a colon" if isinstance(value, str) else ""))
    return value


# --- types that wrap others ------------------------------------------------------------------------------------------


class _OneOf:
    """A Literal, in any case."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        by_name = {choice.casefold(): choice for choice in get_args(source)}

        def choice(value: Any) -> Any:
            return by_name[value.casefold()] if isinstance(value, str) and value.casefold() in by_name else _no()

        read = Read(f"one of {', '.join(by_name.values())}", choice)
        return core_schema.no_info_before_validator_function(read, handler(source))


@dataclass(frozen=True)
class _List:
    """A list that becomes a tuple."""

    wanted: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        marks = getattr(get_args(source)[0], "__metadata__", ())
        each = next((mark.wanted for mark in marks if isinstance(mark, Read)), "a mapping")

        def listed(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return value
            raise UnwantedError(self.wanted or f"a list is wanted, written [a, b], each {each}")

        return core_schema.no_info_before_validator_function(Read("a list", listed), handler(source))


Flag = Annotated[bool, Read("true or false", _flag)]
Whole = Annotated[int, Read("an int", _whole)]
Number = Annotated[float, Read("a number", _number)]
Text = Annotated[str, Read("text", _text)]
FilePath = Annotated[str, Read("a path", _path)]  # relative to the working directory, as in PaddleClas; `~` is expanded
Choice = Annotated[T, _OneOf()]  # Choice[Literal["a", "b"]]
# nothing is written as null, as '', or as Python's None, which YAML takes for text
Maybe = Annotated[T | None, BeforeValidator(lambda value: None if value in ("", "None") else value)]
Several = Annotated[tuple[T, ...], _List()]
# transform_ops.py and its like know the parameters
_Operator = Annotated[dict[str, Any], Field(min_length=1, max_length=1), BeforeValidator(_operator)]
Operators = Annotated[tuple[_Operator, ...], _List(_OPERATORS)]  # each {name: parameters}
