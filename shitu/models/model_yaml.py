"""model.yaml, read into a typed record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from shitu.models.checked import FILE, Made, Section, UnwantedError, Wanted, is_inside, number, read_as, read_mapping

DETECTION, RECOGNITION = "detection", "recognition"
MODEL_YAML = "model.yaml"
INFERENCE_YML = "inference.yml"  # what PaddleX, and PaddleClas with export_for_fd, write in its stead
HEADS = ("yolo8", "yolo5", "yolox", "picodet", "detr", "rows")
INTERPOLATIONS = ("nearest", "bilinear", "area", "bicubic", "cubic", "lanczos")

_THREE = "three numbers, for R, G and B"
_LIMIT = Wanted("a whole number, or -1 for no limit", lambda value: value >= -1)
_SHARE = Wanted("a number from 0 to 1", lambda value: 0 <= value <= 1, number)
_TEXT = Wanted("a text", str.strip)
_FILE = Wanted(FILE, is_inside)
_Number = Annotated[float, Wanted("a number", read=number)]
_Three = tuple[_Number, _Number, _Number]
_Label = Annotated[str, _TEXT]
_LABELS = Wanted("a list of texts, such as [foreground]", bool)
_OPERATORS = Wanted("a list of operators as PaddleClas writes them, such as [{ToCHWImage: {}}]", bool)


def _version(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError
    return str(value)


@dataclass(frozen=True)
class Preprocess(Section):
    """What the model was trained with: (pixel * scale - mean) / std on RGB; `size` is (height, width)."""

    size: Annotated[
        tuple[int, int],
        Wanted("[height, width], two whole numbers above 0", lambda size: 0 < min(size) <= max(size) <= 8192),
    ]
    interpolation: Annotated[str, Wanted(f"one of {', '.join(INTERPOLATIONS)}", INTERPOLATIONS.__contains__)]
    scale: _Number
    mean: Annotated[_Three, Wanted(_THREE)]
    std: Annotated[_Three, Wanted(f"{_THREE}, none of them 0", all)]
    keep_ratio: Annotated[bool, Wanted("true or false")] = False


@dataclass(frozen=True)
class Program:
    """The network as one engine reads it; the paths are within the model's folder.

    `params`: None where the weights are in the program. `raw`: a detector's, ending before its NMS. `cosine`: the
    smallest that was measured between its vectors and those that `vectors` in the card names; `agreement`: the share of
    a detector's boxes that have a twin in fp32's, and the other way; None: not measured.
    """

    engine: str
    precision: str
    program: Path
    params: Path | None = None
    raw: bool = False
    cosine: float | None = None
    agreement: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.program,) if self.params is None else (self.program, self.params)


@dataclass(frozen=True)
class Nms(Section):
    """How the boxes of a raw program are suppressed, in the words of Paddle's multiclass_nms3; -1: no limit."""

    score_threshold: Annotated[float, _SHARE]
    nms_threshold: Annotated[float, _SHARE]
    nms_top_k: Annotated[int, _LIMIT] = -1
    keep_top_k: Annotated[int, _LIMIT] = -1


@dataclass(frozen=True)
class Head(Section):
    """How a detector's outputs become boxes in pixels of its input, where the program is not of Paddle's exporters.

    `kind`: what the outputs are, n = 1, a boxes, c classes, H and W the input's size (recognise/heads.py):
    yolo8 (n, 4 + c, a) or (n, a, 4 + c); yolo5 (n, a, 5 + c); yolox the same in cells; picodet L times (n, cells, c),
    then L times (n, cells, 4 * bins); detr logits (n, q, c) and boxes (n, q, 4) in shares; rows (n, k, 6) after an NMS.
    `activation` makes scores of detr's logits; `classes`: which of `labels` are wanted, all by default.
    """

    kind: Annotated[str, Wanted(f"one of {', '.join(HEADS)}", HEADS.__contains__)]
    activation: Annotated[str, Wanted("sigmoid or softmax", ("sigmoid", "softmax").__contains__)] = "sigmoid"
    classes: Annotated[tuple[_Label, ...], _LABELS] = ()


@dataclass(frozen=True)
class Feature(Section):
    """Which output of a feature extractor is the vector, from 0, and what is taken of it where it is (n, tokens, d)."""

    output: Annotated[int, Wanted("the number of an output, from 0", lambda number: number >= 0)] = 0
    pool: Annotated[str, Wanted("none, first or mean", ("none", "first", "mean").__contains__)] = "none"


@dataclass(frozen=True)
class FileRecord(Section):
    """What a file of the model must be."""

    size: Annotated[int, Wanted("a whole number", lambda size: size >= 0)]
    sha256: Annotated[str, Wanted("64 hex digits", re.compile("[0-9a-f]{64}").fullmatch, str.lower)]


Files = dict[Annotated[str, _FILE], FileRecord]


@dataclass(frozen=True)
class _Figure(Section):
    what: Annotated[str, _TEXT]
    value: Annotated[str | int | float | bool, Wanted("a number or a text")]
    command: Annotated[str, _TEXT] = ""


_FIGURES = Made(list[_Figure], lambda rows: tuple(map(vars, rows)))


@dataclass(frozen=True)
class _Files(Section):
    program: Annotated[str | None, _FILE] = None
    params: Annotated[str | None, _FILE] = None

    def paths(self, engine: str, prefix: str = "") -> tuple[Path, Path | None]:
        """Paddle's programs are of two files, others perhaps of one."""
        if self.program is None or (engine == "paddle" and self.params is None):
            raise UnwantedError(f"{{}} is missing; wanted {FILE}", prefix + ("params" if self.program else "program"))
        return Path(self.program), None if self.params is None else Path(self.params)


@dataclass(frozen=True)
class _Raw(_Files):
    agreement: Annotated[float | None, _SHARE] = None


@dataclass(frozen=True)
class _Part(_Files):
    """The whole program and, of a detector, the raw one; one of the two is enough."""

    raw: Annotated[_Raw | None, Made(_Raw)] = None
    cosine: Annotated[float | None, _SHARE] = None
    agreement: Annotated[float | None, _SHARE] = None

    def made(self, engine: str, precision: str, prefix: str) -> Iterator[Program]:
        if self.raw is None or (self.program, self.params, self.cosine, self.agreement) != (None, None, None, None):
            files = self.paths(engine, prefix)
            yield Program(engine, precision, *files, cosine=self.cosine, agreement=self.agreement)
        if self.raw is not None:
            files = self.raw.paths(engine, f"{prefix}raw.")
            yield Program(engine, precision, *files, raw=True, agreement=self.raw.agreement)


def _flat(engines: Mapping[str, Mapping[str, _Part]]) -> tuple[Program, ...]:
    return tuple(
        program
        for engine, precisions in engines.items()
        for precision, part in precisions.items()
        for program in part.made(engine, precision, f"{engine}.{precision}.")
    )


@dataclass(frozen=True, kw_only=True)
class ModelCard(_Files):
    """The contents of a model.yaml; file names are relative to its folder and inside it.

    `program`, `params` and `raw` mean Paddle's in fp32, and stand in `programs` too. `preprocess`, or `transform_ops`
    in PaddleClas's words, lack where the configuration says it, or PaddleClas's default holds; `task` perhaps for a
    model without a model.yaml. `head` and `feature` read the outputs of networks from elsewhere; `batch` 1: one image a
    run.
    """

    task: Annotated[str | None, Wanted("detection or recognition", (DETECTION, RECOGNITION).__contains__)] = None
    name: Annotated[str, Wanted("a name", str.strip)]
    version: Annotated[str, Wanted("a number or a text", read=_version)] = ""
    architecture: Annotated[str, _TEXT] = ""
    raw: Annotated[_Files | None, Made(_Files)] = None
    programs: Annotated[tuple[Program, ...], Made(dict[_Label, dict[_Label, _Part]], _flat)] = ()
    vectors: Annotated[str | None, _TEXT] = None
    nms: Annotated[Nms | None, Made(Nms)] = None
    dimension: Annotated[int | None, Wanted("the length of a vector, such as 512", lambda length: length > 0)] = None
    labels: Annotated[tuple[_Label, ...], _LABELS] = ()
    head: Annotated[Head | None, Made(Head)] = None
    feature: Annotated[Feature | None, Made(Feature)] = None
    batch: Annotated[int | None, Wanted("1, for a network that takes one image a run", lambda count: count == 1)] = None
    preprocess: Annotated[Preprocess | None, Made(Preprocess)] = None
    transform_ops: Annotated[tuple[dict[str, Any], ...], _OPERATORS] = field(default=(), hash=False)
    files: Annotated[Mapping[str, FileRecord], Made(Files)] = field(default_factory=dict, hash=False)
    licence: Annotated[str, _TEXT] = ""
    provenance: Annotated[str, _TEXT] = ""
    measured: Annotated[tuple[Mapping[str, Any], ...], _FIGURES] = field(default=(), hash=False)

    @classmethod
    def keys(cls, content: dict[Any, Any]) -> dict[str, bool]:
        task = content.get("task", RECOGNITION)
        if task not in (DETECTION, RECOGNITION):
            return dict.fromkeys(content, False)  # what is wrong is then `task`, and told of before the others
        needed, others = (
            ("labels", "dimension vectors feature batch") if task == DETECTION else ("dimension", "labels nms raw head")
        )
        must = ("task", "name", needed)
        return {each.name: each.name in must for each in fields(cls) if each.name not in others.split()}

    def __post_init__(self) -> None:
        own: tuple[Program, ...] = ()
        if not self.programs or any((self.program, self.params, self.raw)):
            own = (Program("paddle", "fp32", *self.paths("paddle")),)
        if self.raw is not None:
            own += (Program("paddle", "fp32", *self.raw.paths("paddle", "raw."), raw=True),)
        object.__setattr__(self, "programs", tuple(dict.fromkeys(own + self.programs)))  # in a copy, too, each once
        if self.task != DETECTION and any(program.raw for program in self.programs):
            raise UnwantedError("{} names raw programs, which only a detector has; take them out", "programs")
        if self.preprocess and self.transform_ops:
            raise UnwantedError("{} stands beside preprocess, which says the same; keep one", "transform_ops")
        if self.head and (unknown := [each for each in self.head.classes if each not in self.labels]):
            raise UnwantedError(f"{{}} has {unknown[0]!r}, which is not among labels", "head.classes")


def read_model_yaml(path: Path) -> ModelCard:
    """Read and check a model.yaml."""
    card: ModelCard = read_as(ModelCard, read_mapping(path), path)
    return card
