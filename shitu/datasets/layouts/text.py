"""Lines of a text file of others: UTF-8, one at a time, or an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shitu.errors import ConfigError

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
