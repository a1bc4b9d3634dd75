"""Model folders: made beside their place, described by a model.yaml, and swapped in whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from shitu.errors import ShituError, UsageError
from shitu.models.folder import sha256_of
from shitu.models.model_yaml import MODEL_YAML, Preprocess, read_model_yaml

PROGRAM, PARAMS, ONNX = "inference.json", "inference.pdiparams", "inference.onnx"
WEIGHTS = "weights.pdparams"
_OURS = (PROGRAM, PARAMS, ONNX, MODEL_YAML, WEIGHTS)
_KEPT = ("LICENSE", "NOTICE")  # put there by hand; an export takes them over


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `target` when the block ends well, and vanishes when it does not.

    Whoever has the old one's files open keeps them. Raises UsageError where `target` is no folder of a model, so that
    `-o Global.save_inference_dir=.` deletes nothing, and ShituError where it cannot be written.
    """
    target = target.expanduser()
    _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.resolve().name}.exporting-", dir=target.resolve().parent))
    except OSError as error:
        raise ShituError(f"{target} cannot be written: {error.strerror}; choose another place") from error
    try:
        yield folder
        for name in _KEPT:
            if (target / name).is_file() and not (folder / name).exists():
                shutil.copy(target / name, folder / name)
        folder.chmod(0o755)  # mkdtemp's folder is closed to other users
        _swap_in(folder, target.resolve())
    except OSError as error:
        raise ShituError(f"{target} cannot be written: {error.strerror}; what was there is untouched") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; Global.save_inference_dir wants a folder")
    strange = [each.name for each in target.iterdir() if each.name not in _OURS + _KEPT] if target.is_dir() else []
    if strange:
        names = ", ".join(sorted(strange)[:5])
        raise UsageError(
            f"{target} holds {names}, which no export wrote, and would be replaced as a whole; "
            "choose another Global.save_inference_dir"
        )


def _swap_in(new: Path, old: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{old.name}.old-", dir=old.parent))
    kept = aside / old.name
    try:
        if old.exists():
            os.replace(old, kept)
        try:
            os.replace(new, old)
        except OSError:
            if kept.exists():
                os.replace(kept, old)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_model_yaml(
    folder: Path,
    *,
    name: str,
    architecture: str,
    dimension: int,
    preprocess: Preprocess,
    provenance: str,
    licence: str = "",
    measured: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Describe the recogniser whose program lies in `folder`, with sizes and checksums of its files."""
    files = [path for path in sorted(folder.iterdir()) if path.name in _OURS and path.name != MODEL_YAML]
    stated = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(preprocess).items()}
    model = {
        "name": name,
        "version": 1,
        "task": "recognition",
        "architecture": architecture,
        "program": PROGRAM,
        "params": PARAMS,
        "dimension": dimension,
        "preprocess": stated,
        "files": {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files},
        "licence": licence,
        "provenance": provenance,
        "measured": [dict(row) for row in measured],
    }
    model = {key: value for key, value in model.items() if value not in ("", [])}
    text = yaml.dump(model, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    (folder / MODEL_YAML).write_text(text, encoding="utf-8")
    read_model_yaml(folder / MODEL_YAML)  # what cannot be read again is not left behind


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, lists of numbers in one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flow = not any(isinstance(value, dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
