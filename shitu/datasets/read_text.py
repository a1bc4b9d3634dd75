"""Text and JSON files of others, or an error that names the file and what was wanted of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from shitu.errors import ConfigError, UsageError

_LONGEST = 4_000_000  # characters; the longest known is a GLDv2 landmark of 170,000


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end); empty lines are passed over. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            number = 0
            while line := file.readline(_LONGEST):
                number += 1
                if len(line) == _LONGEST:
                    raise ConfigError(f"{path}:{number}: a line of more than {_LONGEST:,} characters; fetch it anew")
                if line.strip():
                    yield number, line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); fetch it anew") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; check the path and its permissions") from error


def bad_line(path: Path, number: int, line: str, wanted: str) -> ConfigError:
    """What is said of a line that does not hold what the set's lists hold."""
    return ConfigError(f"{path}:{number}: {line[:80]!r}: wanted {wanted}; fetch the file anew")


def read_json(path: str | Path, wanted: str) -> dict[str, Any]:
    """The object in the file. Raises UsageError, which says that `wanted` was wanted."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # RPC's files start with a byte-order mark
            content = json.load(file)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; wanted {wanted}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text; wanted {wanted}, convert it first") from None
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise UsageError(f"{path}: not JSON ({str(error)[:80]}); wanted {wanted}") from None
    except MemoryError:
        raise UsageError(f"{path}: does not fit into memory; split the file") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: holds a {type(content).__name__} where {wanted} is wanted")
    return content


def is_records(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether it is a list of objects."""
    return isinstance(value, list) and all(isinstance(record, dict) for record in value)
