"""The files of a network from elsewhere, what they tell of it, and what its user has to say."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu.engines.base import Session
from shitu.engines.onnxruntime import ONNX, OnnxSession
from shitu.errors import ModelError, UsageError
from shitu.models import Program
from shitu.models.checked import is_inside
from shitu.models.exported import inferred_card
from shitu.models.model_yaml import DETECTION, INFERENCE_YML, MODEL_YAML
from shitu.models.write import ONNX as ONNX_FILE
from shitu.recognise.detect import KNOWN_INPUTS

MOST_NOTES = 100_000  # characters of names that a file may state
_FLOATS = "float32"
Three = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user says of the network; None: as the file says, or as networks with such outputs have it.

    `size`: height and width; `mean` and `std` of R, G and B, after `scale`; `resize`: stretch, crop (shorter side to
    `short`, then the middle), letterbox (filled around) or corner (filled right and below). `labels`: of all classes;
    `classes`: the wanted ones. `output`: name or number of the one that is the vector. `weights`: a file that the ONNX
    file points to.
    """

    task: str | None = None
    size: tuple[int, int] | None = None
    mean: Three | None = None
    std: Three | None = None
    scale: float | None = None
    bgr: bool | None = None
    resize: str | None = None
    short: int | None = None
    interpolation: str | None = None
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    head: str | None = None
    activation: str | None = None
    nms: float | None = None
    output: str | None = None
    pool: str | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Source:
    """A program where the user has it; `files`: what its parts are to be called in the model's folder."""

    engine: str
    program: Program
    files: Mapping[str, Path]

    @property
    def runs_on(self) -> str:
        return "onnxruntime" if self.engine == ONNX else self.engine


@dataclass(frozen=True)
class Facts:
    """What a file tells: `size` (height, width) of its input, `batch` (None: any), the names of its outputs, and what
    its exporter noted; `paddle`: it has a Paddle detector's inputs.
    """

    size: tuple[int, int]
    batch: int | None
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    task: str | None = None
    paddle: bool = False


def find_source(path: Path, weights: Path | None) -> Source:
    """Raises ModelError where there is no program, or more than one."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise ModelError(f"{path} is not there; wanted an ONNX file, a program of Paddle's, or a folder with one")
    if path.suffix in (".pdmodel", ".json"):
        params = weights or path.with_suffix(".pdiparams")
        if not params.is_file():
            raise ModelError(f"{path} has no weights, {params.name}, beside it; copy both, or name them: --weights")
        files = {f"inference{path.suffix}": path, "inference.pdiparams": params}
        return Source("paddle", Program("paddle", "fp32", path, params), files)
    if path.suffix != ".onnx":
        kinds = "an ONNX file (.onnx) or a program of Paddle's (.json, .pdmodel)"
        raise ModelError(f"{path} is neither {kinds}; export the network first (docs/models.md has the commands)")
    files = {ONNX_FILE: path}
    if weights is not None:
        if not weights.is_file() or not is_inside(weights.name):
            raise ModelError(f"{weights}, named by --weights, is not there")
        files[weights.name] = weights
    return Source(ONNX, Program(ONNX, "fp32", path, weights), files)


def _in_folder(folder: Path) -> Path:
    for name in (MODEL_YAML, INFERENCE_YML):
        if (folder / name).is_file():
            raise ModelError(f"{folder} has its {name} already: name the folder in a config, or its program here")
    programs = sorted(folder.glob("*.onnx"))
    if len(programs) > 1:
        raise ModelError(f"{folder} holds {', '.join(each.name for each in programs[:9])}; name one of them")
    return programs[0] if programs else folder / str(inferred_card(folder).program)


def told_of(source: Source, session: Session, size: tuple[int, int] | None) -> Facts:
    """`size`: what the user says of it. Raises ModelError on a network with other inputs than one image."""
    path, names = source.program.program, session.input_names
    paddle = "image" in names and "scale_factor" in names and set(names) <= set(KNOWN_INPUTS)
    told = session.told() if isinstance(session, OnnxSession) else None
    if len(names) != 1 and not paddle:
        raise ModelError(
            f"{path} has the inputs {', '.join(names)}; wanted one, an image. Export that part alone: of CLIP the "
            "image tower, of a DETR the network without pixel_mask or target sizes"
        )
    if told is None:
        if size is None:
            raise UsageError(f"{path} does not say how large its input is; say it: --size 224, or --size HEIGHTxWIDTH")
        return Facts(size, None, (), task=DETECTION if paddle else None, paddle=paddle)
    image = "image" if paddle else names[0]
    kind, shape = told.inputs[image]
    if kind != _FLOATS:
        raise ModelError(f"{path}: its input {image} is {kind}; wanted {_FLOATS}: export it in fp32, without casts")
    if len(shape) != 4 or shape[1] not in (3, None) or (shape[1] is None and shape[3] == 3):
        shown = ", ".join("?" if side is None else str(side) for side in shape)
        advice = ": planes come last; export it with planes first (NCHW)" if len(shape) == 4 and shape[3] == 3 else ""
        raise ModelError(f"{path}: its input {image} has shape [{shown}]; wanted [n, 3, height, width]{advice}")
    if shape[0] not in (None, 1):
        raise ModelError(f"{path} takes {shape[0]} images a run; export it with a free batch, or with a batch of 1")
    return Facts(
        size=_size(path, shape[2:], size, told.notes),
        batch=shape[0],
        outputs=told.outputs,
        labels=_names(told.notes),
        task=DETECTION if paddle or told.notes.get("task") == "detect" else None,
        paddle=paddle,
    )


def _size(
    path: Path, stated: tuple[int | None, ...], asked: tuple[int, int] | None, notes: Mapping[str, str]
) -> tuple[int, int]:
    noted = _literal(notes.get("imgsz", ""))  # Ultralytics: [height, width]
    whole = isinstance(noted, list) and len(noted) == 2 and all(isinstance(side, int) and side > 0 for side in noted)
    sizes = asked or (noted if whole else (None, None))
    if asked and any(side not in (None, wanted) for side, wanted in zip(stated, asked, strict=True)):
        fixed = "x".join("any" if side is None else str(side) for side in stated)
        raise UsageError(f"{path} takes images of {fixed}, not of {asked[0]}x{asked[1]}; leave --size out")
    height, width = (side or other for side, other in zip(stated, sizes, strict=True))
    if not height or not width:
        raise UsageError(f"{path} takes images of any size; say which: --size 224, or --size HEIGHTxWIDTH")
    return int(height), int(width)


def _names(notes: Mapping[str, str]) -> tuple[str, ...]:
    """Of classes, as Ultralytics notes them: {0: 'person', 1: ...}."""
    names = _literal(notes.get("names", ""))
    if not isinstance(names, dict) or sorted(names) != list(range(len(names))):
        return ()
    return tuple(str(names[number]) for number in range(len(names)))


def _literal(text: str) -> Any:
    """What a Python literal says; nothing of it is run."""
    try:
        return ast.literal_eval(text) if len(text) < MOST_NOTES else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
