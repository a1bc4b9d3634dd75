"""A model folder gets an ONNX program beside Paddle's, and the card that names both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from shitu.config.schema import DetPreProcess, RecPreProcess
from shitu.convert.agree import compare_boxes, compare_features, example_pictures
from shitu.convert.graph import decode_levels, load, share_weights
from shitu.engines.base import EngineOptions
from shitu.engines.choose import ENGINES
from shitu.engines.onnxruntime import ONNX
from shitu.errors import EngineError, ModelError
from shitu.files import replace_file
from shitu.models import ModelFolder, Program
from shitu.models.folder import find_folder, open_folder
from shitu.models.model_yaml import DETECTION, INFERENCE_YML, MODEL_YAML, RECOGNITION, Nms
from shitu.models.write import describe_programs, new_folder
from shitu.recognise.decode import decode_for
from shitu.recognise.from_config import preprocessor_for

FILE = "inference.onnx"
LABELS = ["foreground"]  # of the mainbody detectors, where a folder names none
Tell = Callable[[str], None]
T = TypeVar("T")


def convert_model(where: str, task: str | None = None, tell: Tell = lambda _: None) -> Path:
    """Write inference.onnx beside the program of Paddle's in this folder, and a model.yaml that names both.

    The weights stay in the .pdiparams, as far as it holds them. A detector's program ends before its NMS. Nothing is
    written unless ONNX Runtime's outputs are Paddle's, to the tolerances of `agree`. `task`: detection or recognition,
    where neither a model.yaml nor the program tells. Raises ModelError and EngineError.
    """
    model = open_folder(find_folder(where))
    task = model.card.task or task
    if task not in (DETECTION, RECOGNITION):
        raise ModelError(f"{model.path} does not say what it is for; name it: --task recognition, or --task detection")
    model = replace(model, card=replace(model.card, task=task))
    source = model.find("paddle") or model.find("paddle", raw=True)
    if source is None or source.params is None:
        raise ModelError(f"{model.path} has no program of Paddle's in fp32, which a conversion starts from")
    tell(f"converting {source.program}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / FILE
        told = _in_a_child(source, made)
        network = load(made)
        if told.get("levels"):
            decode_levels(network, told["levels"])
        left = share_weights(network, source.params)
        made.write_bytes(network.SerializeToString())
        (Path(folder) / source.params.name).symlink_to(source.params.resolve())
        program = Program(ONNX, "fp32", made, Path(folder) / source.params.name, raw=task == DETECTION)
        nms = model.card.nms or _nms(told.get("nms"))
        model = replace(model, card=replace(model.card, nms=nms))
        facts = check(model, source, program, tell)
        tell(f"{made.stat().st_size / 1e6:.1f} MB, {left / 1e6:.1f} MB of them weights that {source.params.name} lacks")
        replace_file(model.path / FILE, lambda file: file.write(made.read_bytes()))
    program = replace(program, program=model.path / FILE, params=source.params)
    describe_programs(model, [program], **facts)
    return model.path


def in_copy(where: str, out: Path | None, write: Callable[[str], T]) -> T:
    """`write` of a model's folder; where there is an `out`, of a copy of it, which appears there when all is done."""
    if out is None:
        return write(where)
    source = find_folder(where)
    if not any((source / name).is_file() for name in (MODEL_YAML, INFERENCE_YML)):
        raise ModelError(f"{source} has no model.yaml to take its name from; convert it in place, without --out")
    with new_folder(out, "--out") as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return write(str(folder))


def _nms(stated: dict[str, float] | None) -> Nms | None:
    return Nms(**{key: round(value, 6) for key, value in stated.items()}) if stated else None  # type: ignore[arg-type]


def _in_a_child(source: Program, made: Path) -> dict[str, Any]:
    """What `convert.child` says of the program."""
    report = made.with_suffix(".report")
    command = [sys.executable, "-m", "shitu.convert.child", source.program, source.files[-1], made, report]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    if done.returncode or not made.is_file() or not report.is_file():
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
        if "No module named 'paddle2onnx'" in done.stderr:
            raise EngineError("paddle2onnx is not installed; install it: pip install 'shitu[onnx]'")
        raise EngineError(
            f"{source.program} cannot be converted: {(said or ['no reason given'])[-1][:300]}; go on with "
            "Global.engine paddle, or export the model anew with `shitu export` or `shitu export-det`"
        )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def check(model: ModelFolder, source: Program, program: Program, tell: Tell) -> dict[str, Any]:
    """What the card must say and does not yet. Raises EngineError where the two programs disagree."""
    section = DetPreProcess() if model.card.task == DETECTION else RecPreProcess()
    prepare = preprocessor_for(model, section)
    options = EngineOptions(threads=2, precision=program.precision)
    sessions = ENGINES["paddle"].open(source, options), ENGINES["onnxruntime"].open(program, options)
    pictures = example_pictures()
    if model.card.task == RECOGNITION:
        tensors = np.stack([prepare(picture) for picture in pictures])
        theirs, ours = (session.run({session.input_names[0]: tensors})[0] for session in sessions)
        tell(f"largest difference of unit features: {compare_features(theirs, ours):.1e}")
        return {"dimension": int(ours.shape[1])}
    worst = 0.0
    decoders = [decode_for(model, each) for each in (source, program)]
    for picture in pictures:
        size = picture.shape[:2]
        feeds = {
            sessions[0].input_names[0] if model.card.head else "image": prepare(picture)[None],
            "scale_factor": np.array([prepare.scale_factor(*size)], np.float32),
            "im_shape": np.array([prepare.resized(*size)], np.float32),
        }
        rows = [
            decode(session.run({name: feeds[name] for name in session.input_names}))
            for session, decode in zip(sessions, decoders, strict=True)
        ]
        worst = max(worst, compare_boxes(*rows))
    tell(f"largest difference of boxes: {worst:.3f} px")
    return {"labels": list(model.card.labels) or LABELS, "nms": model.card.nms}
