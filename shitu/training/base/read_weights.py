"""Reads .pdparams and .pdopt, which are pickles, without running what is in them; and sets networks from them.

What paddle.save writes needs ten names: arrays and their types, and a few ways to spell a tuple. They are stood in for
by functions of our own here, and any other name is refused, so not even numpy's own unpickling sees the file.
"""

from __future__ import annotations

import io
import logging
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ModelError
from shitu.models.folder import downloads_home

SUFFIX = ".pdparams"
_log = logging.getLogger("shitu")
_MOST_VALUES = 100_000  # a network has some thousand; a nest of tuples can stand for 2**100
_NAMES_KEY, _SLICES_KEY = "StructuredToParameterName@@", "UnpackBigParamInfor@@"  # sic
_SHOWN = 5  # names in a report
_ADVICE = "is it whole, and a state dict that paddle.save wrote?"


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a file: names to arrays (read-only), or to plain values and further dicts.

    Raises ModelError where the file is missing, cut short, or holds anything else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    try:
        found = _plain(_Arrays(io.BytesIO(content), encoding="latin1").load(), [_MOST_VALUES])
    except ModelError as error:
        raise ModelError(f"{path}: {error}; nothing of it was run: {_ADVICE}") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = "it is empty" if not content else repr(error)[:200]
        raise ModelError(f"{path} is no file of weights, or damaged ({reason}); {_ADVICE}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ModelError(f"{path} holds a {type(found).__name__}; a dict of names is wanted: {_ADVICE}")
    found.pop(_NAMES_KEY, None)
    return _joined(found, path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays alone."""
    return {name: value for name, value in read_state(path).items() if isinstance(value, np.ndarray)}


def fetched(url: str) -> Path:
    """The file of weights at an address, downloaded at the first time. Raises DownloadError, OSError."""
    from filelock import FileLock

    from shitu.models.download import download

    target = weights_home(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.is_file():
            _log.info("downloading %s to %s", url, target)
            download(url, target)
    return target


def weights_home(url: str) -> Path:
    """Where the file of that address is kept."""
    return downloads_home().parent / "weights" / Path(urlsplit(url).path).name


def _joined(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Protocols 2 and 3 cut arrays beyond 1 GB into slices."""
    for name, parts in state.pop(_SLICES_KEY, {}).items():
        try:
            slices = [state.pop(part) for part in parts["slices"]]
            state[name] = np.concatenate(slices).reshape(parts["OriginShape"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: the slices of {name} do not fit together ({error}); {_ADVICE}") from error
    return state


# --- stand-ins for what the pickle names -----------------------------------------------------------------------


class _Type:
    """For numpy.dtype."""

    def __init__(self, code: object, align: object = False, copied: object = True) -> None:
        if not re.fullmatch(r"[biuf][1248]", str(code)):
            raise ModelError(f"an array of {str(code)[:30]!r}; numbers are wanted")
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """For numpy.ndarray."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, data = state
        flat = np.frombuffer(_raw(data), kind.dtype) if data else np.zeros(0, kind.dtype)
        native = flat.astype(kind.dtype.newbyteorder("="), copy=False)
        self.values = native.reshape(shape, order="F" if by_columns else "C")


def _raw(data: bytes | str) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data


def _scalar(kind: _Type, data: bytes | str) -> object:
    value: object = np.frombuffer(_raw(data), kind.dtype, count=1)[0].item()
    return value


def _encoded(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if encoding != "latin1":
        raise ModelError(f"bytes in {str(encoding)[:30]!r}; latin1 is wanted")
    return text.encode("latin1")


def _given(_: object, names: dict[str, Any]) -> Any:
    """paddle.save spells a DenseTensor as eval("data", {"data": array})."""
    return names["data"]


def _stand_ins() -> dict[tuple[str, str], Callable[..., Any]]:
    """Made anew for each file, so that a pickle which sets attributes on one of them changes nothing for the next."""

    def new(function: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*given: Any) -> Any:
            return function(*given)

        return stand_in

    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): new(_Array),
        ("numpy", "dtype"): new(_Type),
        ("collections", "OrderedDict"): dict,
        ("_codecs", "encode"): new(_encoded),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since numpy 2
        names[module, "_reconstruct"] = lambda *_: _Array()
        names[module, "scalar"] = new(_scalar)
    for module in ("builtins", "__builtin__"):
        names[module, "tuple"] = tuple
        names[module, "eval"] = new(_given)
    return names


class _Arrays(pickle.Unpickler):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise ModelError(f"it wants to run {module}.{name}, which no file of weights needs")
        return self._known[module, name]


def _plain(value: Any, left: list[int]) -> Any:
    """The value with arrays in place of their stand-ins; ModelError where anything else is left."""
    left[0] -= 1
    if left[0] < 0:
        raise ModelError(f"it holds more than {_MOST_VALUES:,} values")
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    if isinstance(value, dict):
        return {key: _plain(each, left) for key, each in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], _Array):
        return _plain(value[1], left)  # a tensor: its name and its numbers
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, left) for each in value)
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return value
    raise ModelError(f"it holds a {type(value).__name__}, which is no array and no plain value")


# --- into a network ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadReport:
    """Names are the network's, but for `unexpected`, which are the file's."""

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]  # "head.fc.weight (512, 80) here, (512, 192612) there"

    def __str__(self) -> str:
        wanted = len(self.loaded) + len(self.missing) + len(self.other_shape)
        parts = [f"loaded {len(self.loaded)} of {wanted} tensors from {self.source}"]
        told = (
            ("not in the file", self.missing),
            ("left out, other shape", self.other_shape),
            ("only in the file", self.unexpected),
        )
        parts += [f"{what}: {some(names)}" for what, names in told if names]
        return "; ".join(parts)


def some(names: tuple[str, ...]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def load_fitting(
    network: nn.Layer,
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    check: Callable[[LoadReport], object],
    *,
    unexpected: tuple[str, ...] = (),
) -> LoadReport:
    """Set what is of the right shape, once `check` has let the report pass; `unexpected` is in the file, too.

    What an export alone uses (`unused_in_training`) may be missing. Raises ModelError where a number is not finite.
    """
    own = network.state_dict()
    known = {name: array for name, array in tensors.items() if name in own}
    fitting = {name: array for name, array in known.items() if tuple(array.shape) == tuple(own[name].shape)}
    needless = {name for name, each in network.named_parameters() if getattr(each, "unused_in_training", False)}
    report = LoadReport(
        str(path),
        tuple(fitting),
        tuple(name for name in own if name not in known and name not in needless),
        (*(name for name in tensors if name not in own), *unexpected),
        tuple(
            f"{name} {tuple(own[name].shape)} here, {tuple(array.shape)} there"
            for name, array in known.items()
            if name not in fitting
        ),
    )
    check(report)
    values = {name: _values(array, own[name].numpy().dtype) for name, array in fitting.items()}
    for name, each in values.items():
        if not np.isfinite(each).all():
            raise ModelError(
                f"{path}: {name} holds numbers that are not finite; its training failed, take an earlier one"
            )
    for name, each in values.items():
        own[name].set_value(each)
    return report


def _values(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array as `dtype`; Paddle saves bfloat16, which numpy has not, as the uint16 of the same bits."""
    if array.dtype == np.uint16 and dtype == np.float32:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(dtype, copy=False)
