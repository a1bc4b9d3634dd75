"""The one door to paddleclas (networks), paddledet (detector training) and what else may not be installed."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from types import ModuleType

from shitu.errors import EngineError

INSTALL = (
    "pip install 'shitu[train]' && pip install --no-deps paddleclas==2.6.0 paddledet==2.6.0 "
    "(their own pins exclude each other; `make install` does this)"
)


def paddleclas(module: str) -> ModuleType:
    """`paddleclas.<module>`. Raises EngineError with the install command."""
    return imported(f"paddleclas.{module}", f"it belongs to training: {INSTALL}")


def ppdet(module: str) -> ModuleType:
    """`ppdet.<module>`, from the package paddledet. Raises EngineError with the install command."""
    with contextlib.redirect_stdout(io.StringIO()):  # it names there whatever optional package is missing
        return imported(f"ppdet.{module}", f"it belongs to training: {INSTALL}")


def imported(module: str, advice: str) -> ModuleType:
    """A module of an optional package. Raises EngineError with the advice."""
    try:
        return import_module(module)
    except ImportError as error:
        raise EngineError(f"{module.partition('.')[0]} cannot be imported ({error}); {advice}") from error
