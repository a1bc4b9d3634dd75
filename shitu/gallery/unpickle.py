"""PaddleClas's pickled id_map, read without running it: an interpreter that knows only integers and texts."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from shitu.errors import GalleryError

ADVICE = "build the gallery anew with `shitu build-gallery`"


class _Parts(list[Any]):
    """A tuple of the pickle's: arguments and states need no more. It is no key, since it cannot be hashed: that takes
    hours for a tuple of pairs of pairs, sixty deep.
    """


def _tuple_of(count: int) -> Callable[[Any], None]:
    def load(unpickler: Any) -> None:
        stack = unpickler.stack
        stack[len(stack) - count :] = [_Parts(stack[len(stack) - count :])]

    return load


def _marked_tuple(unpickler: Any) -> None:
    parts = _Parts(unpickler.pop_mark())
    unpickler.append(parts)  # which `pop_mark` has replaced


# Python's unpickler in Python: the one in C makes tuples that hash for ever, and a memo of as many GB as it is told.
class IntsAndStrings(pickle._Unpickler):
    """An unpickler for which there is nothing to call but the making of numpy integers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch | {
        pickle.EMPTY_TUPLE[0]: _tuple_of(0),
        pickle.TUPLE1[0]: _tuple_of(1),
        pickle.TUPLE2[0]: _tuple_of(2),
        pickle.TUPLE3[0]: _tuple_of(3),
        pickle.TUPLE[0]: _marked_tuple,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _integer_dtype
        if (module, name) in (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")):
            return _integer_scalar
        if (module, name) == ("_codecs", "encode"):  # how bytes were pickled for Python 2
            return _latin1
        raise GalleryError(f"it would load {module}.{name}, which an id_map never needs: do not use it; {ADVICE}")

    def persistent_load(self, pid: Any) -> Any:
        raise GalleryError(f"it refers to an object outside itself; {ADVICE}")


class _IntegerDtype:
    """Stands for a numpy integer dtype; numpy's own would take its state from the pickle."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, list) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise GalleryError(f"it describes a number in an unknown way; {ADVICE}")
        self.dtype = self.dtype.newbyteorder(state[1])


def _latin1(*arguments: Any) -> bytes:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise GalleryError(f"it holds bytes in an unknown way; {ADVICE}")
    return arguments[0].encode("latin-1")


def _integer_dtype(*arguments: Any) -> _IntegerDtype:
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or not re.fullmatch(r"[iu][1248]", code):
        raise GalleryError(f"it holds a numpy value of type {code!r:.40}, wanted integers; {ADVICE}")
    return _IntegerDtype(code)


def _integer_scalar(*arguments: Any) -> int:
    if len(arguments) != 2 or not isinstance(arguments[0], _IntegerDtype) or not isinstance(arguments[1], bytes):
        raise GalleryError(f"it holds a numpy value that is no integer; {ADVICE}")
    kind, content = arguments[0].dtype, arguments[1]
    if len(content) != kind.itemsize:
        raise GalleryError(f"it holds a number of {len(content)} bytes as {kind}; {ADVICE}")
    return int(np.frombuffer(content, kind)[0])
