"""What a run leaves in its folder and goes on from: files that are whole or not there, and arrays by names that last.

    output_dir/RecModel/config_as_read.yaml, metrics.jsonl   what began it, what it wrote
    output_dir/RecModel/latest.pdstates                      all that a resume needs: an .npz of arrays, no pickle
    output_dir/RecModel/latest.pdparams                      weights as PaddleClas writes them; so best_model, epoch_N

Considered: PaddleClas's three files for one checkpoint (a kill between two of them leaves a mixture), a folder per
checkpoint (`Global.checkpoints` is a path prefix in everybody's scripts), and one file for the resume; taken: the last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import paddle
import yaml
from paddle import nn

from shitu import files
from shitu.config.values import Section
from shitu.errors import ModelError, ShituError, UsageError
from shitu.training.base import processes
from shitu.training.base.boards import BOARDS

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


# --- a run's folder -----------------------------------------------------------------------------------------------


def find_checkpoint(folder: Path, *, resume: bool, overwrite: bool, key: str, world: int) -> Path | None:
    """What to go on from, without suffix. `key` of the config names the folder.

    Raises UsageError rather than start over an earlier run, or go on with one that not all machines have.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite together; one goes on, the other starts anew")
    latest = folder / "latest"
    there = latest.with_name(latest.name + STATES).is_file()
    if there and not (resume or overwrite):
        raise UsageError(
            f"{folder} holds an earlier run; go on with it: --resume, start over it: --overwrite, or write "
            f"elsewhere: -o {key}=FOLDER"
        )
    if processes.any_of(there and resume, world) and not there:
        raise UsageError(f"this machine has no {latest}{STATES}, but another has; copy it to all")
    return latest if there and resume else None


def forget_epochs(folder: Path, keep: int | None) -> None:
    """Delete all epoch_N.pdparams but the `keep` latest; None keeps all."""
    found = [path for path in folder.glob(f"epoch_*{WEIGHTS}") if path.stem.removeprefix("epoch_").isdigit()]
    found.sort(key=lambda path: int(path.stem.removeprefix("epoch_")))
    for old in found[:-keep] if keep else []:
        old.unlink()


def begin(folder: Path, config: Section, *, overwrite: bool) -> None:
    """The folder with the config as read, and without what an earlier run left: its log, if `overwrite` all of it."""
    if overwrite:
        for pattern in ("*.pdparams", "*.pdstates", "curves.png"):
            for old in folder.glob(pattern):
                old.unlink()
        for board in BOARDS.values():
            shutil.rmtree(folder / board.folder, ignore_errors=True)
    for name in ("metrics.jsonl", "train.log"):
        (folder / name).unlink(missing_ok=True)
    text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    replace_file(folder / "config_as_read.yaml", lambda file: file.write(text.encode()))


# --- does a checkpoint fit? --------------------------------------------------------------------------------------


def check_fits(path: object, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], advice: str) -> None:
    """Raises ModelError, with `advice`, where a checkpoint's arrays are not those of the network."""
    problems = [
        f"{name} is {list(found[name].shape) if name in found else 'not there'}, wanted {list(value.shape)}"
        for name, value in wanted.items()
        if name not in found or found[name].shape != value.shape
    ]
    problems += [f"{name} is in the checkpoint alone" for name in found if name not in wanted]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"the checkpoint {path} is of another network: {'; '.join(problems[:3])}{more}. {advice}")


def plain(config: Section) -> Any:
    """As JSON brings it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def changes(before: Any, after: Any, may_change: Collection[str], key: str = "") -> Iterator[str]:
    """What differs between two configs in their plain form, but for the keys that may."""
    if key in may_change:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from changes(before.get(name), after.get(name), may_change, f"{key}.{name}" if key else name)
    elif before != after:
        yield f"{key} {before} -> {after}"


# --- networks and optimizers as arrays, named as the network names its parameters -----------------------------------


def arrays(layer: nn.Layer) -> dict[str, np.ndarray]:
    """Its state dict as numpy arrays."""
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def tensors(values: dict[str, np.ndarray]) -> dict[str, paddle.Tensor]:
    """As set_state_dict wants them; Paddle makes bfloat16 of the uint16 that numpy has in its place."""
    return {name: paddle.to_tensor(value) for name, value in values.items()}


def optimizer_state(optimizer: paddle.optimizer.Optimizer, network: nn.Layer) -> dict[str, np.ndarray]:
    """Its accumulators by the names that parameters have in the network; Paddle's own count up within a process."""
    owners = sorted(((p.name, name) for name, p in network.named_parameters()), key=lambda pair: -len(pair[0]))
    state: dict[str, np.ndarray] = {}
    values = optimizer.state_dict()
    masters = values.pop("master_weights", {})
    values.pop("LR_Scheduler", None)
    for kind, tensors in (("", values), ("master/", masters)):
        for key, tensor in tensors.items():
            own, name = next((pair for pair in owners if key.startswith(pair[0])), ("", ""))
            state[f"{kind}{name}|{key[len(own) :]}"] = tensor.numpy()
    return state


def set_optimizer_state(optimizer: paddle.optimizer.Optimizer, network: nn.Layer, state: dict[str, np.ndarray]) -> None:
    """The inverse of `optimizer_state`; for an optimizer that has not made a step."""
    own = {name: p.name for name, p in network.named_parameters()}
    values: dict[str, object] = {}
    masters: dict[str, object] = {}
    for key, array in state.items():
        name, _, suffix = key.rpartition("|")
        target = masters if name.startswith("master/") else values
        target[own.get(name.removeprefix("master/"), "") + suffix] = paddle.to_tensor(array)
    if masters:
        values["master_weights"] = masters
    optimizer.set_state_dict(values)
