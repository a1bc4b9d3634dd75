"""inference.yml, by which PaddleX describes a model: its name, its images' preprocessing, the names of its classes.

Written by PaddleDetection and PaddleClas when they export for PaddleX; PaddleX 3.4.3 reads it in
`inference/models/object_detection/predictor.py` and `image_feature/predictor.py`. Keys not named here (`Hpi`, `mode`,
`arch`, `metric`, `NMS` ...) say nothing that the program does not contain; `draw_threshold` is `Global.threshold` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shitu.errors import ModelError
from shitu.models.checked import read_mapping, shown
from shitu.models.model_yaml import DETECTION, RECOGNITION

# Of detectors: PaddleX's name -> that of PaddleClas's det_preprocess
_DETECTION = {
    "Resize": "DetResize",
    "NormalizeImage": "DetNormalizeImage",
    "Permute": "DetPermute",
    "PadStride": "DetPadStride",
}
_RECOGNITION = ("DecodeImage", "ResizeImage", "CropImage", "NormalizeImage", "ToCHWImage")
_VECTORS = "NormalizeFeatures"  # the one PostProcess of feature extractors


def read_inference_yml(path: Path) -> dict[str, Any]:
    """`name`, `task`, `transform_ops` in PaddleClas's words, `labels`: what the file says of them.

    Raises ModelError where the file is no such description, of a model of another kind, or has an unknown operator.
    """
    content = read_mapping(path)
    said: dict[str, Any] = {}
    named = content.get("Global")
    if isinstance(named, Mapping) and isinstance(named.get("model_name"), str) and named["model_name"].strip():
        said["name"] = named["model_name"].strip()
    if "Preprocess" in content:
        ops = [_of_detector(each, path) for each in _list(content["Preprocess"], path, "Preprocess")]
        labels = _list(content.get("label_list"), path, "label_list")
        if wrong := [each for each in labels if not isinstance(each, str | int | float)]:
            raise ModelError(f"{path}: label_list has {shown(wrong[0])}; wanted texts")
        return {**said, "task": DETECTION, "transform_ops": tuple(ops), "labels": tuple(map(str, labels))}
    if not isinstance(content.get("PreProcess"), Mapping):
        raise ModelError(
            f"{path}: has neither Preprocess (a detector) nor PreProcess (a feature extractor); is it PaddleX's? Write "
            "a model.yaml beside it (docs/models.md), which is read in its stead"
        )
    post = content.get("PostProcess")
    if isinstance(post, Mapping) and post and _VECTORS not in post:
        kinds = ", ".join(map(str, post))
        raise ModelError(f"{path}: PostProcess is {kinds[:100]}: a classifier; wanted a feature extractor ({_VECTORS})")
    where = "PreProcess.transform_ops"
    ops = [_of_extractor(each, path) for each in _list(content["PreProcess"].get("transform_ops"), path, where)]
    return {**said, "task": RECOGNITION, "transform_ops": tuple(ops)}


def _list(value: Any, path: Path, key: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ModelError(f"{path}: {key} is {shown(value)}; wanted a list")
    return value


def _of_detector(operator: Any, path: Path) -> dict[str, Any]:
    if not isinstance(operator, Mapping) or not isinstance(operator.get("type"), str):
        raise ModelError(f"{path}: Preprocess has {shown(operator)}; wanted an operator with its `type`")
    options = dict(operator)
    kind = options.pop("type")
    if kind not in _DETECTION:
        raise _unknown(kind, tuple(_DETECTION), path, "Preprocess")
    if kind == "NormalizeImage":
        norm = options.pop("norm_type", None)
        if norm not in (None, "none", "mean_std"):
            raise ModelError(f"{path}: Preprocess: NormalizeImage.norm_type is {shown(norm)}; wanted mean_std or none")
        if norm == "none":
            options.update(mean=[0.0] * 3, std=[1.0] * 3)
    if kind == "Resize":
        options.setdefault("keep_ratio", False)  # PaddleX's default; PaddleClas's is True
    return {_DETECTION[kind]: options}


def _of_extractor(operator: Any, path: Path) -> dict[str, Any]:
    where = "PreProcess.transform_ops"
    if not isinstance(operator, Mapping) or len(operator) != 1:
        raise ModelError(f"{path}: {where} has {shown(operator)}; wanted an operator with its options")
    ((kind, options),) = operator.items()
    if kind not in _RECOGNITION:
        raise _unknown(kind, _RECOGNITION, path, where)
    if kind == "NormalizeImage" and isinstance(options, Mapping):
        options = {"order": "", **options}  # PaddleX's default; PaddleClas's is chw
    return {kind: options}


def _unknown(kind: Any, known: tuple[str, ...], path: Path, where: str) -> ModelError:
    return ModelError(
        f"{path}: {where}: unknown operator {shown(kind)}; known: {', '.join(known)}. Write what the images go through "
        "into a model.yaml beside it (docs/models.md), which is read in its stead"
    )
