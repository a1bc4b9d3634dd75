"""A model folder gets an int8 program beside its fp32 one: calibrated, measured, layers left in fp32 if need be."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shitu.config.schema import DetPreProcess, RecPreProcess
from shitu.convert.quantize_boxes import BEST, TWIN, labelled_boxes
from shitu.convert.quantize_images import FEW, Photo, listed_photos, read_photos, spread
from shitu.convert.quantize_judge import DetectorJudge, Judge, RecogniserJudge, Verdict
from shitu.convert.quantize_onnx import Feeds, LayerError, Quantiser, quantiser_library
from shitu.cores import available_cores
from shitu.engines.base import EngineOptions, Session
from shitu.engines.choose import ENGINES
from shitu.engines.onnxruntime import ONNX
from shitu.engines.openvino import OPENVINO
from shitu.errors import EngineError, ModelError, UsageError
from shitu.files import replace_file
from shitu.images.read import Picture
from shitu.models import ModelFolder, Program
from shitu.models.folder import enough, find_folder, open_folder
from shitu.models.model_yaml import DETECTION, MODEL_YAML
from shitu.models.write import INT8, INT8_OPENVINO, describe_programs
from shitu.recognise.decode import decode_for
from shitu.recognise.from_config import preprocessor_for

log = logging.getLogger("shitu")
MEASURED_AT_MOST = 200  # photos without labels by which fp32 and int8 are compared
GROUPS = 24  # of neighbouring layers
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is asked for. `images`, `query`, `gallery`: for `listed_photos`, but a detector's `query` is a COCO file.

    `max_drop`: points of Recall@1 or AP that may be lost on labelled photos; None: half a point where there are any.
    `groups`: of neighbouring layers, which are tried in fp32 together. `engine`: onnxruntime, whose program OpenVINO
    runs, too, or openvino, where a hard swish between layers costs nothing.
    """

    images: str
    image_root: str | None = None
    method: str = "kl"
    count: int = 64
    max_drop: float | None = None
    query: str | None = None
    gallery: str | None = None
    groups: int = GROUPS
    engine: str = "onnxruntime"
    command: str = ""


@dataclass(frozen=True)
class Report:
    """What was done. `left_out`: layers in fp32; `reached`: whether all that was asked for is kept."""

    model: str
    method: str
    calibrated_on: int
    measured_on: int
    unreadable: list[str]
    layers: list[LayerError]
    left_out: list[str]
    agreement: float
    reached: bool
    drop: float | None
    figures: dict[str, tuple[float, float]]
    bytes_fp32: int
    bytes_int8: int
    tried: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def quantize_model(where: str, plan: Plan, tell: Tell = lambda _: None) -> Report:
    """Write inference_int8.onnx into this model folder, and what was measured of it into its model.yaml.

    Raises ModelError, EngineError (no fp32 program for ONNX, no library), UsageError and ConfigError (no photo).
    """
    model = open_folder(find_folder(where))
    program = _source(model)
    quantiser_library()
    with tempfile.TemporaryDirectory() as folder:
        work = _Work(model, program, plan, Path(folder), tell)
        report, made = work.search()
        own = plan.engine == OPENVINO
        target = model.path / (INT8_OPENVINO if own else INT8)
        replace_file(target, lambda file: file.write(made.read_bytes()))
    detector = model.card.task == DETECTION
    stated = replace(program, engine=OPENVINO if own else ONNX, precision="int8", program=target, params=None)
    stated = replace(stated, agreement=report.agreement) if detector else replace(stated, cosine=report.agreement)
    describe_programs(model, [stated], measured=_measured(report, plan, detector=detector))
    return report


def _source(model: ModelFolder) -> Program:
    program = model.find(ONNX) or model.find(ONNX, raw=True)
    if program is None:
        only = ", which is int8 already" if model.find(ONNX, "int8") or model.find(ONNX, "int8", raw=True) else ""
        raise EngineError(
            f"{model.path} has no program `onnx: fp32`, from which int8 is made{only}; make one of Paddle's: "
            f"shitu models convert {model.path}"
        )
    if not (model.path / MODEL_YAML).is_file():
        raise ModelError(f"{model.path} has no model.yaml to write into; make it: shitu models convert {model.path}")
    return program


class _Work:
    """The photos read and the network prepared; then `search`."""

    def __init__(self, model: ModelFolder, program: Program, plan: Plan, folder: Path, tell: Tell) -> None:
        self._model, self._program, self._plan, self._folder, self._tell = model, program, plan, folder, tell
        self._detector = model.card.task == DETECTION
        fp32 = self._open(program)
        prepare = feeder(model, fp32.input_names)
        photos = listed_photos(plan.images, plan.image_root)
        chosen = spread(photos, plan.count)
        calibration, self._bad = read_photos(chosen, prepare)
        if not calibration:
            raise UsageError(f"{plan.images}: none of {len(chosen)} photos can be read ({self._bad[0]}); name others")
        if len(calibration) < FEW:
            log.warning(
                "%d photos to calibrate with; below %d the ranges depend on which ones they are: give more, such as "
                "those of the gallery", len(calibration), FEW,
            )  # fmt: skip
        self.calibrated_on = len(calibration)
        tell(f"{len(calibration)} photos to calibrate with, {len(self._bad)} that cannot be read")
        used = {photo.path for photo in chosen}
        rest = [photo for photo in photos if photo.path not in used]
        self._judge = self._judge_of(rest or chosen, fp32, prepare)
        feeds = [feed for _, feed in calibration]
        self._quantiser = Quantiser(
            program, folder, feeds, plan.method, detector=self._detector, fused=plan.engine == OPENVINO
        )
        if swish := self._quantiser.swish if plan.engine != OPENVINO else 0:
            log.warning(
                "%d hard swishes stay in fp32, between conversions: it may be no faster; with --engine openvino they "
                "are part of the layers", swish,
            )  # fmt: skip

    def _judge_of(self, rest: Sequence[Photo], fp32: Session, prepare: Callable[[Picture], Feeds]) -> Judge:
        plan, queries = self._plan, None
        if self._detector:
            truth = labelled_boxes(Path(plan.query), plan.image_root) if plan.query else None
            photos = [Photo(path) for path in truth] if truth else spread(rest, MEASURED_AT_MOST)
        elif plan.query:
            asking = listed_photos(plan.query, plan.image_root)
            shelf = listed_photos(plan.gallery, plan.image_root) if plan.gallery else []
            photos = [*asking, *shelf]
            queries = [True] * len(asking) + [False] * len(shelf) if shelf else None
        else:
            photos = list(rest) if any(photo.label for photo in rest) else spread(rest, MEASURED_AT_MOST)
        if plan.max_drop is not None and self._detector and not plan.query:
            raise UsageError(
                "--max-drop counts points of AP, which want boxes; give --query FILE.json of COCO's, or leave it out"
            )
        read, bad = read_photos(photos, prepare)
        self._bad += [each for each in bad if each not in self._bad]
        if not read:
            raise UsageError(f"none of {len(photos)} photos to measure with can be read ({bad[0]}); name others")
        self.measured_on = len(read)
        feeds = [feed for _, feed in read]
        if self._detector:
            boxes = [truth[photo.path] for photo, _ in read] if truth else None
            return DetectorJudge(feeds, fp32, decode_for(self._model, self._program), boxes)
        asks = dict(zip((id(each) for each in photos), queries, strict=True)) if queries else None
        kept = [asks[id(photo)] for photo, _ in read] if asks else None
        judge = RecogniserJudge(feeds, fp32, [photo.label for photo, _ in read], kept)
        if plan.max_drop is not None or plan.query:
            judge.check_asked(plan.query or plan.images)
        return judge

    def search(self) -> tuple[Report, Path]:
        """All layers in int8; where that loses too much, groups of layers in fp32, those that cost most first."""
        best = self._try([])
        layers = self._quantiser.errors(best[1])
        tried = [best]
        if not self._good(best[0]):
            groups = [list(each) for each in np.array_split(self._quantiser.layers, self._plan.groups) if len(each)]
            worst = sorted(groups, key=self._error_of, reverse=True)
            for count in range(1, len(groups)):
                tried.append(self._try([name for group in worst[:count] for name in group]))
                if self._good(tried[-1][0]):
                    break
            best = tried[-1] if self._good(tried[-1][0]) else max(tried, key=lambda each: each[0].agreement)
        verdict, made, left_out = best
        report = Report(
            str(self._model.path), self._plan.method, self.calibrated_on, self.measured_on, self._bad, layers, left_out,
            verdict.agreement, self._good(verdict), verdict.drop, verdict.figures,
            sum(file.stat().st_size for file in self._program.files), made.stat().st_size,
            [{"left_out": each[2], "agreement": each[0].agreement, "drop": each[0].drop} for each in tried],
        )  # fmt: skip
        return report, made

    def _good(self, verdict: Verdict) -> bool:
        allowed = 0.5 if self._plan.max_drop is None else self._plan.max_drop
        kept = verdict.drop is None or verdict.drop <= allowed + 1e-9
        return kept and enough(verdict.agreement, self._model.card.task)

    def _try(self, left_out: list[str]) -> tuple[Verdict, Path, list[str]]:
        made = self._folder / f"int8 without {len(left_out)}.onnx"
        self._quantiser.quantise(made, left_out)
        verdict = self._judge.judge(self._int8(made))
        drop = "" if verdict.drop is None else f", {verdict.drop:.2f} points lost"
        layers = len(self._quantiser.layers)
        self._tell(f"{len(left_out)} of {layers} layers in fp32: agreement {verdict.agreement:.4f}{drop}")
        return verdict, made, left_out

    def _error_of(self, group: list[str]) -> float:
        """What it costs to have these layers alone in int8."""
        made = self._folder / "one group.onnx"
        self._quantiser.quantise(made, [name for name in self._quantiser.layers if name not in group])
        return self._judge.error(self._int8(made))

    def _int8(self, made: Path) -> Session:
        return self._open(replace(self._program, precision="int8", program=made, params=None), self._plan.engine)

    def _open(self, program: Program, engine: str = "onnxruntime") -> Session:
        return ENGINES[engine].open(program, EngineOptions(threads=available_cores()))


def feeder(model: ModelFolder, inputs: Sequence[str]) -> Callable[[Picture], Feeds]:
    """Picture -> the network's inputs by the model's own preprocessing. Raises EngineError on inputs of other names."""
    detector = model.card.task == DETECTION
    prepare = preprocessor_for(model, DetPreProcess() if detector else RecPreProcess())
    if not detector and len(inputs) != 1:
        raise EngineError(f"{model.path} has the inputs {', '.join(inputs)}, a recogniser one; is `task` detection?")

    def feeds(picture: Picture) -> Feeds:
        tensor, size = prepare(picture)[None], picture.shape[:2]
        if not detector:
            return {inputs[0]: tensor}
        return {
            inputs[0] if len(inputs) == 1 else "image": tensor,
            "scale_factor": np.array([prepare.scale_factor(*size)], np.float32),
            "im_shape": np.array([prepare.resized(*size)], np.float32),
        }

    return feeds


def _measured(report: Report, plan: Plan, *, detector: bool) -> list[dict[str, Any]]:
    """Rows for the card."""
    what = f"int8 ({report.method}, {report.calibrated_on} photos)"
    name = f"share of boxes with a twin of IoU {TWIN}" if detector else "smallest cosine to the fp32 vectors"
    rows: list[tuple[str, float]] = [(f"{what}: {name}, {report.measured_on} photos", round(report.agreement, 4))]
    for figure, (fp32, int8) in report.figures.items():
        told = figure.replace("ten", str(BEST))
        rows += [(f"{what}: {told}", round(int8, 4)), (f"{what}: {told}, fp32 beside it", round(fp32, 4))]
    rows.append((f"{what}: layers left in fp32, of {len(report.layers)}", len(report.left_out)))
    rows.append((f"{what}: bytes of the program, of fp32 {report.bytes_fp32}", report.bytes_int8))
    return [{"what": text, "value": value, "command": plan.command} for text, value in rows]


def write_report(report: Report, path: Path) -> None:
    """As JSON."""
    replace_file(path, lambda file: file.write((json.dumps(report.to_dict(), indent=1) + "\n").encode()))
