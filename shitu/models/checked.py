"""YAML from strangers, read into closed sections by pydantic, with messages of our own.

pydantic is loaded when a file is read, and not with this module: `shitu --help` need not wait for it.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from shitu.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema

MAPPING = "a mapping of keys to values"
FILE = "the name of a file inside the model's folder"


def read_mapping(path: Path) -> dict[Any, Any]:
    """The mapping in a small YAML file from a stranger."""
    from shitu.config.read_yaml import parse_yaml, read_text

    try:
        content = parse_yaml(read_text(path), str(path))
    except ConfigError as error:
        raise ModelError(str(error)) from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds {shown(content)}; wanted {MAPPING}")
    return content


class UnwantedError(ValueError):
    """`words` follow the dotted key of what is read, or of `key` in it; {} stands for that key."""

    def __init__(self, words: str, key: str = "") -> None:
        self.words, self.key = words, key

    @classmethod
    def of(cls, value: Any, wanted: str) -> UnwantedError:
        return cls(f"{{}} is {shown(value)}; wanted {wanted}")


@dataclass(frozen=True)
class Wanted:
    """Marks a type: the value goes through `read`, must be of the type, strictly, and `fits`; else `words` say why."""

    words: str
    fits: Callable[[Any], Any] = lambda value: True
    read: Callable[[Any], Any] = lambda value: value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_wrap_validator_function(self._checked, handler(source))

    def _checked(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        unwanted = UnwantedError.of(value, self.words)
        if value is None:  # also where None is what stands for a key that is not there
            raise unwanted
        try:
            made = inner(self.read(tuple(value) if isinstance(value, list) else value))
        except (ValueError, TypeError, AttributeError, ArithmeticError):  # pydantic's error is a ValueError
            raise unwanted from None
        if not self.fits(made):
            raise unwanted
        return made


@dataclass(frozen=True)
class Made:
    """Marks a type: the value is read as `kind`, from which `make` makes it; None is none, though the type has it."""

    kind: Any
    make: Callable[[Any], Any] = lambda value: value
    words: ClassVar[str] = MAPPING

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.make, handler.generate_schema(self.kind))


class Section:
    """A mapping whose keys are the fields of a dataclass: no others, and all that have no default."""

    __pydantic_config__: ClassVar[Any] = {"strict": True}  # yes is not 1, and 512 in quotes is no number

    @classmethod
    def keys(cls, content: dict[Any, Any]) -> dict[str, bool]:
        """The keys there may be, and whether each must be."""
        return {each.name: each.default is MISSING and each.default_factory is MISSING for each in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        made: Any = handler.resolve_ref_schema(handler(source))
        made["strict"] = False  # else only a section made before would do; its fields stay strict
        return core_schema.no_info_before_validator_function(cls._closed, made)

    @classmethod
    def _closed(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            raise UnwantedError.of(content, MAPPING)
        known = cls.keys(content)
        for key, needed in known.items():
            if needed and key not in content:
                words = get_type_hints(cls, include_extras=True)[key].__metadata__[0].words
                raise UnwantedError(f"{{}} is missing; wanted {words}", key)
        for key in content:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                raise UnwantedError(f"unknown key {{}}; {hint}", shown(key))
        return content


def read_as(kind: Any, content: Any, path: Path, key: str = "") -> Any:
    """What `path` holds below `key`, as `kind` says. Raises ModelError for the first mistake in it."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        found: Any = error.errors(include_url=False)[0]
    problem, places = found.get("ctx", {}).get("error"), [key, *found["loc"]]
    if not isinstance(problem, UnwantedError):  # what lies between sections: mappings, and one list
        wanted = "a list of {what, value, command}" if found["type"] == "list_type" else MAPPING
        problem = UnwantedError.of(found["input"], wanted)
    words = problem.words
    if places[-1] == "[key]":  # so pydantic marks what is wrong about a key, and not about its value
        places, words = places[:-2], words.replace("is", "names", 1)
    parts = [part for part in (*places, problem.key) if part != ""]
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    raise ModelError(f"{path}: {words.replace('{}', dotted.removeprefix('.'), 1)}")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def is_inside(name: str) -> bool:
    """Whether a name stays in the folder it is relative to, on every system."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not re.search(r"[\\:\0]", name)


def number(value: Any) -> float:
    """PyYAML reads 1e-3 as a text, and PaddleClas writes 1.0/255.0: both are numbers, neither infinite nor NaN."""
    over, _, under = str(value).partition("/")
    number = float(over) / float(under) if under else float(over)
    if not abs(number) < 1e9:
        raise ValueError
    return number


def shown(value: Any) -> str:
    """Short, because aliases let a small file hold a value of astronomic length."""
    short = reprlib.Repr()
    short.maxlevel = 2
    try:
        return short.repr(value)
    except ValueError:  # Python writes out no number of more than 4,300 digits
        return "something very long"
