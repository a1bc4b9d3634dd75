"""ppdet's modules, imported without what they print: ppdet names on stdout whatever optional package is missing."""

from __future__ import annotations

import contextlib
import io
from types import ModuleType

from shitu.training.base import toolkits


def ppdet(module: str) -> ModuleType:
    """`ppdet.<module>`. Raises EngineError with the install command."""
    with contextlib.redirect_stdout(io.StringIO()):
        return toolkits.ppdet(module)
