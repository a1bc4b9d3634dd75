"""Model folders: made beside their place, described by a model.yaml, and swapped in whole."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml

from shitu.digest import sha256_of
from shitu.errors import ShituError, UsageError
from shitu.files import replace_file, replace_folder
from shitu.models.folder import ModelFolder
from shitu.models.model_yaml import INFERENCE_YML, MODEL_YAML, Program, read_model_yaml

PROGRAM, PARAMS, ONNX = "inference.json", "inference.pdiparams", "inference.onnx"
RAW_PROGRAM, RAW_PARAMS = "inference_raw.json", "inference_raw.pdiparams"  # a detector that ends before its NMS
INT8 = "inference_int8.onnx"  # its weights are inside
INT8_OPENVINO = "inference_int8_openvino.onnx"
WEIGHTS = "weights.pdparams"
_OURS = (PROGRAM, PARAMS, RAW_PROGRAM, RAW_PARAMS, ONNX, INT8, INT8_OPENVINO, MODEL_YAML, INFERENCE_YML, WEIGHTS)
PROVENANCE = "As Paddle's exporter left it, without a model.yaml; described by `shitu models convert`."
_IN_A_LINE = 400  # characters of a mapping of plain values
_KEPT = ("LICENSE", "NOTICE")  # put there by hand; an export takes them over


@contextmanager
def new_folder(target: Path, key: str) -> Iterator[Path]:
    """An empty folder that takes the place of `target` when the block ends well, and vanishes when it does not.

    Whoever has the old one's files open keeps them. `key` is what names the target: a key of the config, an option.
    Raises UsageError where `target` is no folder of a model, so that `-o Global.save_inference_dir=.` deletes nothing,
    and ShituError where it cannot be written.
    """
    target = target.expanduser()
    _check_replaceable(target, key)
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
        replace_folder(folder, target.resolve())
    except OSError as error:
        raise ShituError(
            f"{target} cannot be written: {error.strerror}; what was there is untouched; make room and run it again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_replaceable(target: Path, key: str) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; {key} wants a folder, name another")
    strange = [each.name for each in target.iterdir() if each.name not in _OURS + _KEPT] if target.is_dir() else []
    if strange:
        names = ", ".join(sorted(strange)[:5])
        raise UsageError(
            f"{target} holds {names}, which no export wrote, and would be replaced as a whole; choose another {key}"
        )


def write_model_yaml(folder: Path, *, preprocess: Mapping[str, Any], **stated: Any) -> None:
    """Describe the model whose program lies in `folder`: what is `stated` (name, task, architecture, dimension,
    labels ...), in this order, then `preprocess`, and sizes and checksums of the files; what is empty is left out, also
    Paddle's `program` and `params`.
    """
    files = [path for path in sorted(folder.iterdir()) if path.name not in (MODEL_YAML, *_KEPT)]
    last = {key: stated.pop(key, "") for key in ("licence", "provenance", "measured")}
    model = {
        "name": stated.pop("name"),
        "version": 1,
        "task": stated.pop("task"),
        "architecture": stated.pop("architecture", ""),
        "program": PROGRAM,
        "params": PARAMS,
        **stated,
        "preprocess": {key: list(value) if isinstance(value, tuple) else value for key, value in preprocess.items()},
        "files": {path.name: record_of(path) for path in files},
        **last,
    }
    model = {key: value for key, value in model.items() if value not in ("", [], {}, None)}
    text = yaml.dump(model, Dumper=_Dumper, sort_keys=False, width=500, allow_unicode=True)
    (folder / MODEL_YAML).write_text(text, encoding="utf-8")
    read_model_yaml(folder / MODEL_YAML)  # what cannot be read again is not left behind


def describe_programs(
    model: ModelFolder, programs: Sequence[Program], measured: Sequence[Mapping[str, Any]] = (), **facts: Any
) -> None:
    """Add programs, which lie in the model's folder, to its model.yaml, or write one.

    `facts` are said only where the card says nothing of them; `measured` takes the place of rows that are called alike
    up to the first bracket.
    """
    path, card = model.path / MODEL_YAML, model.card
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not content:
        files = {"program": card.program, "params": card.params}
        said = {"labels": list(card.labels), "transform_ops": list(card.transform_ops)}
        said = {key: value for key, value in said.items() if value}
        content = {"name": card.name, "task": card.task, **files, **said, "provenance": PROVENANCE}
    for key, value in facts.items():
        if value is not None and not content.get(key):
            content[key] = vars(value) if is_dataclass(value) else value
    for each in programs:
        names = {"program": each.program.name, "params": each.params and each.params.name}
        part: dict[str, Any] = {key: value for key, value in names.items() if value}
        part.update(_rounded_down(cosine=each.cosine, agreement=each.agreement))
        place = content.setdefault("programs", {}).setdefault(each.engine, {})
        place[each.precision] = {"raw": part} if each.raw else part
    if measured:
        replaced = tuple({str(row["what"]).partition("(")[0] for row in measured})
        before = [row for row in content.get("measured") or [] if not str(row["what"]).startswith(replaced)]
        content["measured"] = [*before, *map(dict, measured)]
    # What is on record stays: a file that was put in another's place is not to be vouched for by a new record.
    recorded, written = content.get("files") or {}, {each.program.name for each in programs}
    content["files"] = {
        name: recorded[name] if name in recorded and name not in written else record_of(model.path / name)
        for name in sorted({*recorded, *(file.name for each in (*model.programs, *programs) for file in each.files)})
    }
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=500, allow_unicode=True)
    replace_file(path, lambda file: file.write(text.encode()))
    read_model_yaml(path)


def record_of(path: Path) -> dict[str, Any]:
    """What a model.yaml says of a file."""
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def _rounded_down(**figures: float | None) -> dict[str, float]:
    """To four digits: a card that rounds up says more than was measured."""
    return {name: math.floor(value * 1e4) / 1e4 for name, value in figures.items() if value is not None}


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, lists of numbers in one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flow = not any(isinstance(value, dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


def _mapping(dumper: yaml.SafeDumper, values: dict[str, Any]) -> yaml.Node:
    flow = not any(isinstance(value, (dict, list)) for value in values.values()) and len(str(values)) < _IN_A_LINE
    return dumper.represent_mapping("tag:yaml.org,2002:map", values.items(), flow_style=flow)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)
