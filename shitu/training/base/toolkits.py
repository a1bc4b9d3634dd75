"""The one door to paddleclas (networks) and paddledet (detector training); recognition needs neither."""

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
    return _import("paddleclas", module)


def ppdet(module: str) -> ModuleType:
    """`ppdet.<module>`, from the package paddledet. Raises EngineError with the install command."""
    with contextlib.redirect_stdout(io.StringIO()):  # it names there whatever optional package is missing
        return _import("ppdet", module)


def _import(package: str, module: str) -> ModuleType:
    try:
        return import_module(f"{package}.{module}")
    except ImportError as error:
        raise EngineError(f"{package} cannot be imported ({error}); it belongs to training: {INSTALL}") from error
