"""preprocessor_config.json, which Hugging Face's exports have beside the network: how pixels become numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shitu.convert.add_source import Asked
from shitu.errors import ModelError
from shitu.models.checked import number

FILE = "preprocessor_config.json"
MOST_BYTES = 100_000
_RESAMPLE = {1: "pil-lanczos", 2: "pil-bilinear", 3: "pil-bicubic"}  # Pillow's codes


def with_config(source: Path, asked: Asked) -> tuple[Asked, Path | None]:
    """What the user did not say as the file beside `source` (or above a folder onnx/) says it; that file, if any.

    The size, and how images come to it, stay the user's to say: ShiTu's crops are stretched. Raises ModelError where
    the file is not what it should be.
    """
    folder = source if source.is_dir() else source.parent
    places = [folder, folder.resolve().parent] if folder.resolve().name == "onnx" else [folder]
    path = next((each for place in places if (each := place / FILE).is_file()), None)
    if path is None:
        return asked, None
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MOST_BYTES))
        said = _said(content)
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be understood ({type(error).__name__}: {str(error)[:80]}); correct it, or move it away and "
            "say --mean, --std and --interpolation"
        ) from None
    return replace(asked, **{key: value for key, value in said.items() if getattr(asked, key) is None}), path


def _said(content: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if content.get("do_normalize", True):
        if "image_mean" not in content or "image_std" not in content:
            return {}
        said = {"mean": _three(content["image_mean"]), "std": _three(content["image_std"])}
    said["scale"] = number(content.get("rescale_factor", 1 / 255)) if content.get("do_rescale", True) else 1.0
    if content.get("resample") in _RESAMPLE:
        said["interpolation"] = _RESAMPLE[content["resample"]]
    return said


def _three(values: Any) -> tuple[float, ...]:
    numbers = tuple(number(each) for each in values)
    if len(numbers) != 3:
        raise ValueError(f"{len(numbers)} numbers in place of three")
    return numbers
