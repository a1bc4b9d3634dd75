"""model.yaml, read into a typed record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu.errors import ModelError
from shitu.models import checked
from shitu.models.checked import FILE, Section, read_yaml_mapping
from shitu.models.known import DETECTION, RECOGNITION

MODEL_YAML = "model.yaml"
INTERPOLATIONS = ("nearest", "bilinear", "area", "bicubic", "cubic", "lanczos")


@dataclass(frozen=True)
class Preprocess:
    """What the model was trained with: (pixel * scale - mean) / std on RGB; `size` is (height, width)."""

    size: tuple[int, int]
    interpolation: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    keep_ratio: bool = False


@dataclass(frozen=True)
class Program:
    """The network as one engine reads it; the paths are within the model's folder.

    `params`: None where the weights are in the program. `raw`: a detector's, ending before its NMS. `cosine`: the
    smallest that was measured between its vectors and those that `vectors` in the card names; None: not measured.
    """

    engine: str
    precision: str
    program: Path
    params: Path | None = None
    raw: bool = False
    cosine: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.program,) if self.params is None else (self.program, self.params)


@dataclass(frozen=True)
class Nms:
    """How the boxes of a raw program are suppressed, in the words of Paddle's multiclass_nms3; -1: no limit."""

    score_threshold: float
    nms_threshold: float
    nms_top_k: int = -1
    keep_top_k: int = -1


@dataclass(frozen=True)
class FileRecord:
    """What a file of the model must be."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ModelCard:
    """The contents of a model.yaml; file names are relative to its folder and inside it."""

    name: str
    version: str
    task: str
    architecture: str
    programs: tuple[Program, ...]
    vectors: str | None
    nms: Nms | None
    dimension: int | None
    labels: tuple[str, ...]
    preprocess: Preprocess
    files: Mapping[str, FileRecord]
    licence: str
    provenance: str
    measured: tuple[Mapping[str, Any], ...]


def read_model_yaml(path: Path) -> ModelCard:
    """Read and check a model.yaml."""
    section = Section(path, "", read_yaml_mapping(path))
    task = section.take("task", checked.one_of(DETECTION, RECOGNITION), "detection or recognition")
    detection = task == DETECTION
    length = "the length of a vector, such as 512"
    card = ModelCard(
        name=section.take("name", checked.text, "a name"),
        version=section.take("version", checked.version, "a number or a text", ""),
        task=task,
        architecture=section.take("architecture", checked.text, "a text", ""),
        programs=_programs(section, detection),
        vectors=None if detection else section.take("vectors", checked.text, "a text", None),
        nms=_nms(section.section("nms")) if detection and "nms" in section.content else None,
        dimension=None if detection else section.take("dimension", checked.count, length),
        labels=section.take("labels", checked.labels, "a list of texts, such as [foreground]") if detection else (),
        preprocess=_preprocess(section.section("preprocess")),
        files=_files(section.section("files")) if "files" in section.content else {},
        licence=section.take("licence", checked.text, "a text", ""),
        provenance=section.take("provenance", checked.text, "a text", ""),
        measured=_measured(section),
    )
    section.known += ["files", "raw", "programs", "nms"]
    section.close()
    return card


def _programs(section: Section, detection: bool) -> tuple[Program, ...]:
    """Those of `programs: {ENGINE: {PRECISION: ...}}`; `program`, `params` and `raw` beside it mean Paddle's fp32."""
    found: list[Program] = []
    if "programs" not in section.content or "program" in section.content:
        found += _variants(section, "paddle", "fp32", detection)
    if "programs" in section.content:
        engines = section.section("programs")
        for engine in list(engines.content):
            precisions = engines.section(engine)
            for precision in list(precisions.content):
                part = precisions.section(precision)
                found += _variants(part, str(engine), str(precision), detection)
                part.close()
    if not found:
        raise ModelError(f"{section.path}: programs names no program; wanted ENGINE: {{PRECISION: {{program: FILE}}}}")
    return tuple(found)


def _variants(section: Section, engine: str, precision: str, detection: bool) -> list[Program]:
    """The whole program and, of a detector, the raw one; one of the two is enough, except where Paddle's stands."""
    raw = section.section("raw") if detection and "raw" in section.content else None
    found = []
    if raw is None or "program" in section.content or not section.prefix:
        cosine = section.take("cosine", checked.cosine, "a number from 0 to 1", None) if section.prefix else None
        found.append(Program(engine, precision, *_files_of(section, engine), cosine=cosine))
    if raw is not None:
        found.append(Program(engine, precision, *_files_of(raw, engine), raw=True))
        raw.close()
    return found


def _files_of(section: Section, engine: str) -> tuple[Path, Path | None]:
    program = section.take("program", checked.file_name, FILE)
    params = section.take("params", checked.file_name, FILE, *(() if engine == "paddle" else (None,)))
    return Path(program), None if params is None else Path(params)


def _nms(section: Section) -> Nms:
    share, limit = "a number from 0 to 1", "a whole number, or -1 for no limit"
    nms = Nms(
        score_threshold=section.take("score_threshold", checked.cosine, share),
        nms_threshold=section.take("nms_threshold", checked.cosine, share),
        nms_top_k=section.take("nms_top_k", checked.limit, limit, -1),
        keep_top_k=section.take("keep_top_k", checked.limit, limit, -1),
    )
    section.close()
    return nms


def _preprocess(section: Section) -> Preprocess:
    three = "three numbers, for R, G and B"
    known = ", ".join(INTERPOLATIONS)
    preprocess = Preprocess(
        size=section.take("size", checked.size, "[height, width], two whole numbers above 0"),
        interpolation=section.take("interpolation", checked.one_of(*INTERPOLATIONS), f"one of {known}"),
        scale=section.take("scale", checked.number, "a number"),
        mean=section.take("mean", checked.three_numbers, three),
        std=section.take("std", checked.three_divisors, f"{three}, none of them 0"),
        keep_ratio=section.take("keep_ratio", checked.truth, "true or false", False),
    )
    section.close()
    return preprocess


def _files(section: Section) -> dict[str, FileRecord]:
    records = {}
    for name in list(section.content):
        if not isinstance(name, str) or not checked.is_inside(name):
            raise ModelError(f"{section.path}: files names {checked.shown(name)}; wanted {FILE}")
        records[name] = file_record(section.path, section.prefix, name, section.content[name])
    return records


def file_record(path: Path, prefix: str, name: str, content: Any) -> FileRecord:
    """The checked `{size, sha256}` of one file."""
    part = Section(path, f"{prefix}{name}.", content)
    record = FileRecord(
        part.take("size", checked.size_in_bytes, "a whole number"), part.take("sha256", checked.sha256, "64 hex digits")
    )
    part.close()
    return record


def _measured(section: Section) -> tuple[Mapping[str, Any], ...]:
    rows = section.take("measured", checked.listed, "a list of {what, value, command}", [])
    found = []
    for number, row in enumerate(rows):
        part = Section(section.path, f"measured[{number}].", row)
        what = part.take("what", checked.text, "a text")
        value = part.take("value", checked.scalar, "a number or a text")
        found.append({"what": what, "value": value, "command": part.take("command", checked.text, "a text", "")})
        part.close()
    return tuple(found)
