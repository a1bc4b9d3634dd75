"""A JSON file of others, or a clear error; memory is a small multiple of the file's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shitu.errors import UsageError


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
