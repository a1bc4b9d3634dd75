"""model.yaml, read into a typed record: closed, so that an unknown key is an error, and not trusted."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from shitu.errors import ModelError
from shitu.models.known import DETECTION, RECOGNITION, nearest

MODEL_YAML = "model.yaml"
INTERPOLATIONS = ("nearest", "bilinear", "area", "bicubic", "cubic", "lanczos")
_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Preprocess:
    """What the model was trained with: (pixel * scale - mean) / std on RGB; `size` is (height, width)."""

    size: tuple[int, int]
    interpolation: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    keep_ratio: bool = False


@dataclass(frozen=True)
class FileRecord:
    """What a file of the model must be."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ModelCard:
    """The contents of a model.yaml; file names are relative to its folder and inside it."""

    name: str
    version: str
    task: str
    architecture: str
    program: str
    params: str
    raw: tuple[str, str] | None
    dimension: int | None
    labels: tuple[str, ...]
    preprocess: Preprocess
    files: Mapping[str, FileRecord]
    licence: str
    provenance: str
    measured: tuple[Mapping[str, Any], ...]


def read_model_yaml(path: Path) -> ModelCard:
    """Read and check a model.yaml."""
    return _card(_Section(path, "", read_yaml_mapping(path)))


def read_yaml_mapping(path: Path) -> dict[Any, Any]:
    """The mapping in a small YAML file from a stranger."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path}: {path.stat().st_size} bytes; a file of this kind has at most {_MAX_BYTES}")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    # ValueError: not UTF-8, or a date such as 2024-99-99; RecursionError: brackets thousands deep
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not YAML: {str(error)[:300]}; mend or copy it") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds {_shown(content)}; wanted a mapping of keys to values")
    return content


class _Section:
    """One mapping of the file, from which each key is taken once; what is left over was a mistake."""

    def __init__(self, path: Path, prefix: str, content: Any) -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(content, dict):
            raise ModelError(f"{path}: {prefix.rstrip('.')} is {_shown(content)}; wanted a mapping of keys to values")
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
            raise ModelError(f"{self.path}: {self.prefix}{key} is {_shown(value)}; wanted {wanted}") from None

    def section(self, key: str) -> _Section:
        """The mapping under `key`."""
        self.known.append(key)
        if key not in self.content:
            raise ModelError(f"{self.path}: {self.prefix}{key} is missing; wanted a mapping of keys to values")
        return _Section(self.path, f"{self.prefix}{key}.", self.content.pop(key))

    def close(self) -> None:
        """Refuse what nobody took."""
        for key in self.content:
            near = nearest(str(key), self.known)
            hint = f"did you mean {near}?" if near else f"known here: {', '.join(self.known)}"
            raise ModelError(f"{self.path}: unknown key {self.prefix}{_shown(key)}; {hint}")


def _card(section: _Section) -> ModelCard:
    task = section.take("task", _task, "detection or recognition")
    detection = task == DETECTION
    raw = None
    if detection and "raw" in section.content:
        part = section.section("raw")
        raw = (part.take("program", _file_name, _FILE), part.take("params", _file_name, _FILE))
        part.close()
    card = ModelCard(
        name=section.take("name", _text, "a name"),
        version=section.take("version", _version, "a number or a text", ""),
        task=task,
        architecture=section.take("architecture", _text, "a text", ""),
        program=section.take("program", _file_name, _FILE),
        params=section.take("params", _file_name, _FILE),
        raw=raw,
        dimension=None if detection else section.take("dimension", _count, "the length of a vector, such as 512"),
        labels=section.take("labels", _labels, "a list of texts, such as [foreground]") if detection else (),
        preprocess=_preprocess(section.section("preprocess")),
        files=_files(section.section("files")) if "files" in section.content else {},
        licence=section.take("licence", _text, "a text", ""),
        provenance=section.take("provenance", _text, "a text", ""),
        measured=_measured(section),
    )
    section.known += ["files", "raw"]
    section.close()
    return card


def _preprocess(section: _Section) -> Preprocess:
    three = "three numbers, for R, G and B"
    preprocess = Preprocess(
        size=section.take("size", _size, "[height, width], two whole numbers above 0"),
        interpolation=section.take("interpolation", _interpolation, f"one of {', '.join(INTERPOLATIONS)}"),
        scale=section.take("scale", _number, "a number"),
        mean=section.take("mean", _three_numbers, three),
        std=section.take("std", _three_divisors, f"{three}, none of them 0"),
        keep_ratio=section.take("keep_ratio", _truth, "true or false", False),
    )
    section.close()
    return preprocess


def _files(section: _Section) -> dict[str, FileRecord]:
    records = {}
    for name in list(section.content):
        if not isinstance(name, str) or not is_inside(name):
            raise ModelError(f"{section.path}: files names {_shown(name)}; wanted {_FILE}")
        records[name] = file_record(section.path, section.prefix, name, section.content[name])
    return records


def file_record(path: Path, prefix: str, name: str, content: Any) -> FileRecord:
    """The checked `{size, sha256}` of one file."""
    part = _Section(path, f"{prefix}{name}.", content)
    record = FileRecord(
        part.take("size", _size_in_bytes, "a whole number"), part.take("sha256", _sha256, "64 hex digits")
    )
    part.close()
    return record


def _measured(section: _Section) -> tuple[Mapping[str, Any], ...]:
    rows = section.take("measured", _list, "a list of {what, value, command}", [])
    checked = []
    for number, row in enumerate(rows):
        part = _Section(section.path, f"measured[{number}].", row)
        what = part.take("what", _text, "a text")
        value = part.take("value", _scalar, "a number or a text")
        checked.append({"what": what, "value": value, "command": part.take("command", _text, "a text", "")})
        part.close()
    return tuple(checked)


def is_inside(name: str) -> bool:
    """Whether a name stays in the folder it is relative to, on every system."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not re.search(r"[\\:\0]", name)


_FILE = "the name of a file inside the model's folder"


def _refuse_unless(fits: bool) -> None:
    if not fits:
        raise ValueError


def _file_name(value: Any) -> str:
    _refuse_unless(isinstance(value, str) and is_inside(value))
    return str(value)


def _task(value: Any) -> str:
    _refuse_unless(value in (DETECTION, RECOGNITION))
    return str(value)


def _text(value: Any) -> str:
    _refuse_unless(isinstance(value, str) and bool(value.strip()))
    return str(value)


def _version(value: Any) -> str:
    _refuse_unless(isinstance(value, (str, int, float)) and not isinstance(value, bool))
    return str(value)


def _scalar(value: Any) -> Any:
    _refuse_unless(isinstance(value, (str, int, float)))
    return value


def _list(value: Any) -> list[Any]:
    _refuse_unless(isinstance(value, list))
    return list(value)


def _truth(value: Any) -> bool:
    _refuse_unless(isinstance(value, bool))
    return bool(value)


def _size_in_bytes(value: Any) -> int:
    _refuse_unless(isinstance(value, int) and not isinstance(value, bool) and value >= 0)
    return int(value)


def _count(value: Any) -> int:
    _refuse_unless(_size_in_bytes(value) > 0)
    return int(value)


def _number(value: Any) -> float:
    """PyYAML reads 1e-3 as a text, and PaddleClas writes 1.0/255.0: both are numbers."""
    _refuse_unless(isinstance(value, (int, float, str)) and not isinstance(value, bool))
    over, _, under = str(value).partition("/")
    number = float(over) / (float(under) or float("nan")) if under else float(over)
    _refuse_unless(abs(number) < 1e9)  # neither infinite nor NaN
    return number


def _three_numbers(value: Any) -> tuple[float, float, float]:
    first, second, third = (_number(part) for part in _list(value))
    return first, second, third


def _three_divisors(value: Any) -> tuple[float, float, float]:
    numbers = _three_numbers(value)
    _refuse_unless(all(numbers))
    return numbers


def _size(value: Any) -> tuple[int, int]:
    height, width = (_count(part) for part in _list(value))
    _refuse_unless(max(height, width) <= 8192)
    return height, width


def _interpolation(value: Any) -> str:
    _refuse_unless(value in INTERPOLATIONS)
    return str(value)


def _labels(value: Any) -> tuple[str, ...]:
    labels = tuple(_text(label) for label in _list(value))
    _refuse_unless(bool(labels))
    return labels


def _sha256(value: Any) -> str:
    _refuse_unless(isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) is not None)
    return str(value).lower()


def _shown(value: Any) -> str:
    """Short, because aliases let a small file hold a value of astronomic length."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)
