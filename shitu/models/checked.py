"""YAML from strangers, checked key by key: closed, so that an unknown key is an error, and not trusted."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from shitu.errors import ModelError
from shitu.models.known import nearest

_MAX_BYTES = 1_000_000
FILE = "the name of a file inside the model's folder"


def read_yaml_mapping(path: Path) -> dict[Any, Any]:
    """The mapping in a small YAML file from a stranger."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(
                f"{path}: {path.stat().st_size} bytes; a file of this kind has at most {_MAX_BYTES}: shorten it"
            )
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    # ValueError: not UTF-8, or a date such as 2024-99-99; RecursionError: brackets thousands deep
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not YAML: {str(error)[:300]}; mend it, or copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds {shown(content)}; wanted a mapping of keys to values")
    return content


class Section:
    """One mapping of the file, from which each key is taken once; what is left over was a mistake."""

    def __init__(self, path: Path, prefix: str, content: Any) -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(content, dict):
            raise ModelError(f"{path}: {prefix.rstrip('.')} is {shown(content)}; wanted a mapping of keys to values")
        self.content: dict[Any, Any] = dict(content)
        self.known: list[str] = []

    def take(self, key: str, check: Callable[[Any], Any], wanted: str, *default: Any) -> Any:
        """The checked value of `key`; `check` raises ValueError or TypeError where it does not fit."""
        self.known.append(key)
        if key not in self.content:
            if default:
                return default[0]
            raise ModelError(f"{self.path}: {self.prefix}{key} is missing; wanted {wanted}")
        value = self.content.pop(key)
        try:
            return check(value)
        except (ValueError, TypeError, OverflowError):
            raise ModelError(f"{self.path}: {self.prefix}{key} is {shown(value)}; wanted {wanted}") from None

    def section(self, key: str) -> Section:
        """The mapping under `key`."""
        self.known.append(key)
        if key not in self.content:
            raise ModelError(f"{self.path}: {self.prefix}{key} is missing; wanted a mapping of keys to values")
        return Section(self.path, f"{self.prefix}{key}.", self.content.pop(key))

    def close(self) -> None:
        """Refuse what nobody took."""
        for key in self.content:
            near = nearest(str(key), self.known)
            hint = f"did you mean {near}?" if near else f"known here: {', '.join(self.known)}"
            raise ModelError(f"{self.path}: unknown key {self.prefix}{shown(key)}; {hint}")


def is_inside(name: str) -> bool:
    """Whether a name stays in the folder it is relative to, on every system."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not re.search(r"[\\:\0]", name)


def refuse_unless(fits: bool) -> None:
    if not fits:
        raise ValueError


def file_name(value: Any) -> str:
    refuse_unless(isinstance(value, str) and is_inside(value))
    return str(value)


def text(value: Any) -> str:
    refuse_unless(isinstance(value, str) and bool(value.strip()))
    return str(value)


def version(value: Any) -> str:
    refuse_unless(isinstance(value, (str, int, float)) and not isinstance(value, bool))
    return str(value)


def scalar(value: Any) -> Any:
    refuse_unless(isinstance(value, (str, int, float)))
    return value


def listed(value: Any) -> list[Any]:
    refuse_unless(isinstance(value, list))
    return list(value)


def truth(value: Any) -> bool:
    refuse_unless(isinstance(value, bool))
    return bool(value)


def size_in_bytes(value: Any) -> int:
    refuse_unless(isinstance(value, int) and not isinstance(value, bool) and value >= 0)
    return int(value)


def count(value: Any) -> int:
    refuse_unless(size_in_bytes(value) > 0)
    return int(value)


def number(value: Any) -> float:
    """PyYAML reads 1e-3 as a text, and PaddleClas writes 1.0/255.0: both are numbers."""
    refuse_unless(isinstance(value, (int, float, str)) and not isinstance(value, bool))
    over, _, under = str(value).partition("/")
    number = float(over) / (float(under) or float("nan")) if under else float(over)
    refuse_unless(abs(number) < 1e9)  # neither infinite nor NaN
    return number


def three_numbers(value: Any) -> tuple[float, float, float]:
    first, second, third = (number(part) for part in listed(value))
    return first, second, third


def three_divisors(value: Any) -> tuple[float, float, float]:
    numbers = three_numbers(value)
    refuse_unless(all(numbers))
    return numbers


def size(value: Any) -> tuple[int, int]:
    height, width = (count(part) for part in listed(value))
    refuse_unless(max(height, width) <= 8192)
    return height, width


def labels(value: Any) -> tuple[str, ...]:
    labels = tuple(text(label) for label in listed(value))
    refuse_unless(bool(labels))
    return labels


def sha256(value: Any) -> str:
    refuse_unless(isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) is not None)
    return str(value).lower()


def shown(value: Any) -> str:
    """Short, because aliases let a small file hold a value of astronomic length."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)


def one_of(*known: str) -> Callable[[Any], str]:
    """A check for one of some texts."""

    def check(value: Any) -> str:
        refuse_unless(value in known)
        return str(value)

    return check


def cosine(value: Any) -> float:
    refuse_unless(0 <= number(value) <= 1)
    return number(value)


def limit(value: Any) -> int:
    """A whole number, or -1 for none."""
    return -1 if value == -1 else size_in_bytes(value)
