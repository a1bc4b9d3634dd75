"""What a run leaves on disk: weights for others, and one file from which it goes on. Each is whole or not there.

    output_dir/RecModel/latest.pdstates      all that a resume needs: an .npz of arrays, no pickle
    output_dir/RecModel/latest.pdparams      weights as PaddleClas writes them; so are best_model and epoch_N

Considered: PaddleClas's three files for one checkpoint (a kill between two of them leaves a mixture), a folder per
checkpoint (`Global.checkpoints` is a path prefix in everybody's scripts), and one file for the resume; taken: the last.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import paddle

from shitu import files
from shitu.errors import ModelError, ShituError, UsageError

STATES, WEIGHTS = ".pdstates", ".pdparams"
State = dict[str, dict[str, np.ndarray]]


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside `path`, flush it to the disk, and put it in its place. Raises ShituError on a full disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, write)
    except OSError as error:
        raise ShituError(
            f"{path} cannot be written: {error.strerror or error}. What was saved before is untouched; make room "
            "(or name another Global.output_dir), then go on with --resume"
        ) from error


def save_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    """`path` + .pdparams, readable by paddle.load and PaddleClas."""
    buffer = io.BytesIO()  # paddle.save takes no other file object
    paddle.save(weights, buffer, protocol=4)  # type: ignore[arg-type]  # it saves arrays as well
    replace_file(path.with_name(path.name + WEIGHTS), lambda file: file.write(buffer.getbuffer()))


def save_states(path: Path, state: State, position: dict[str, Any]) -> None:
    """`path` + .pdstates: groups of arrays, and `position` as JSON."""
    arrays = {f"{group}//{name}": array for group, values in state.items() for name, array in values.items()}
    arrays["position"] = np.frombuffer(json.dumps(position, ensure_ascii=False).encode(), np.uint8)
    replace_file(path.with_name(path.name + STATES), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def load_states(path: str) -> tuple[State, dict[str, Any]]:
    """The inverse; `path` with or without suffix. Raises UsageError or ModelError."""
    file = Path(path.removesuffix(STATES).removesuffix(WEIGHTS) + STATES).expanduser()
    if not file.is_file():
        raise UsageError(
            f"no checkpoint {file}; Global.checkpoints wants the path of one without suffix, such as "
            "output/RecModel/latest. To start from weights alone: -o Global.pretrained_model=PATH"
        )
    state: State = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            position = json.loads(bytes(arrays["position"]).decode())
            for key in arrays.files:
                group, separator, name = key.partition("//")
                if separator:
                    state.setdefault(group, {})[name] = arrays[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{file} is no checkpoint of shitu's, or is damaged: {error}. Name another, or start anew: --overwrite"
        ) from error
    return state, position


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            part.unlink()
