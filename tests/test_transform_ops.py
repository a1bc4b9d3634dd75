"""What bad `transform_ops` are told, and what happens when a model.yaml says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.config.schema import DetPreProcess, RecPreProcess
from shitu.errors import ConfigError
from shitu.models import ModelCard, ModelFolder
from shitu.models.model_yaml import Preprocess
from shitu.recognise.from_config import preprocessor_for
from shitu.recognise.transform_ops import PADDLECLAS_DETECTION, PADDLECLAS_RECOGNITION, agree, compile_ops

Ops = list[dict[str, Any]]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMALISE = {"NormalizeImage": {"scale": "1.0/255.0", "mean": MEAN, "std": STD, "order": "hwc"}}
DET_NORMALISE = {"DetNormalizeImage": {"is_scale": True, "mean": MEAN, "std": STD}}
REC, DET = "RecPreProcess.transform_ops", "DetPreProcess.transform_ops"
CHW: dict[str, Any] = {"ToCHWImage": None}


@pytest.mark.parametrize(
    ("where", "ops", "words"),
    [
        (REC, [{"ResizeImge": {"size": 224}}, CHW], "unknown operator ResizeImge; did you mean ResizeImage?"),
        (REC, [{"ToCHW": None}], "did you mean ToCHWImage?"),
        (REC, [{"Mosaic": None}], "known: ResizeImage, CropImage, DetResize"),
        (REC, [{"ResizeImage": 224}, CHW], "ResizeImage wants options as `key: value`, not 224"),
        (REC, [{"ResizeImage": {"sise": 224}}, CHW], "ResizeImage has no option 'sise'; it has backend"),
        (REC, [{"ResizeImage": {}}, CHW], "ResizeImage.size (or resize_short): None; wanted one or two whole numbers"),
        (REC, [{"ResizeImage": {"size": 0}}, CHW], "ResizeImage.size (or resize_short): 0; wanted"),
        (REC, [{"ResizeImage": {"size": True}}, CHW], "ResizeImage.size (or resize_short): True; wanted"),
        (REC, [{"ResizeImage": {"size": [224, 224, 3]}}, CHW], "[224, 224, 3]; wanted one or two whole numbers"),
        (REC, [{"ResizeImage": {"size": "22"}}, CHW], "'22'; wanted one or two whole numbers"),
        (REC, [{"ResizeImage": {"size": [224.0, 224]}}, CHW], "[224.0, 224]; wanted one or two whole numbers"),
        (REC, [{"ResizeImage": {"resize_short": "big"}}, CHW], "ResizeImage.resize_short: 'big'; wanted a whole"),
        (REC, [{"ResizeImage": {"size": 9, "interpolation": "cubic "}}, CHW], "interpolation 'cubic '; wanted"),
        (REC, [{"ResizeImage": {"size": 9, "backend": "skimage"}}, CHW], "wanted backend cv2 or pil"),
        (REC, [{"ResizeImage": {"size": 9, "interpolation": "area", "backend": "pil"}}, CHW], "one of nearest, bilin"),
        (REC, [{"CropImage": {"size": [0, 5]}}, CHW], "CropImage.size: [0, 5]; wanted"),
        (REC, [{"CropImage": {"sizes": 5}}, CHW], "CropImage has no option 'sizes'; it has size"),
        (REC, [NORMALISE], "no ToCHWImage; the network wants (3, height, width): add `- ToCHWImage:`"),
        (DET, [DET_NORMALISE], "no DetPermute; the network wants (3, height, width): add `- DetPermute:`"),
        (REC, [NORMALISE, CHW, {"ResizeImage": {"size": 9}}], "ResizeImage stands after normalising or permuting"),
        (REC, [CHW, {"CropImage": {"size": 9}}], "CropImage stands after normalising or permuting"),
        (REC, [CHW, NORMALISE], "NormalizeImage with order 'hwc' stands before ToCHWImage"),
        (REC, [{"NormalizeImage": {}}, CHW], "NormalizeImage with order 'chw' stands after ToCHWImage"),
        (REC, [NORMALISE, NORMALISE, CHW], "NormalizeImage stands there twice"),
        (REC, [NORMALISE, CHW, CHW], "ToCHWImage stands there twice"),
        (DET, [{"DetPermute": {}}, DET_NORMALISE], "DetNormalizeImage stands before DetPermute"),
        (DET, [{"DetPadStride": {"stride": 32}}, DET_NORMALISE, {"DetPermute": {}}], "DetPadStride stands after DetPe"),
        (DET, [{"DetPermute": {}}, {"DetPadStride": {"stride": "x"}}], "DetPadStride.stride: 'x'; wanted a whole"),
        (DET, [{"DetPermute": {"to_bgr": True}}], "DetPermute has no option 'to_bgr'; it has none"),
        (DET, [{"DetResize": {"interp": 2}}, {"DetPermute": {}}], "DetResize.target_size: None; wanted"),
        (DET, [{"DetResize": {"target_size": 9, "interp": 5}}, {"DetPermute": {}}], "interp 5; wanted an OpenCV code"),
        (DET, [{"DetResize": {"target_size": 9, "interp": [2]}}, {"DetPermute": {}}], "interp [2]; wanted"),
        (REC, [{"NormalizeImage": {"scale": "exit()", "order": ""}}, CHW], "'exit()'; wanted a number or a fraction"),
        (REC, [{"NormalizeImage": {"scale": "1/0", "order": ""}}, CHW], "'1/0'; wanted a number or a fraction"),
        (REC, [{"NormalizeImage": {"scale": True, "order": ""}}, CHW], "True; wanted a number or a fraction"),
        (REC, [{"NormalizeImage": {"mean": 0.5, "order": ""}}, CHW], "wants three means and three non-zero stds"),
        (REC, [{"NormalizeImage": {"mean": ["a"] * 3, "order": ""}}, CHW], "wants three means and three non-zero stds"),
        (REC, [{"NormalizeImage": {"std": [1, 0, 1], "order": ""}}, CHW], "wants three means and three non-zero stds"),
        (REC, [{"NormalizeImage": {"std": [1, 1], "order": ""}}, CHW], "wants three means and three non-zero stds"),
        (REC, [{"NormalizeImage": {"order": "", "output_fp16": True}}, CHW], "output_fp16 or channel_num other than 3"),
        (REC, [{"NormalizeImage": {"order": "", "channel_num": 4}}, CHW], "output_fp16 or channel_num other than 3"),
        (REC, [{"NormalizeImage": {"order": "nchw"}}, CHW], "NormalizeImage.order 'nchw'; wanted hwc or chw"),
    ],
)
def test_bad_operators(where: str, ops: Ops, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_ops(ops, where)
    assert words in str(caught.value)
    assert str(caught.value).startswith(where)


NAMES = {"name": "m", "program": "inference.json", "params": "inference.pdiparams"}


def model(**changes: Any) -> ModelFolder:
    """A recogniser whose model.yaml states 224 x 224, bilinear and the ImageNet means."""
    stated: dict[str, Any] = {
        "size": (224, 224),
        "interpolation": "bilinear",
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    task = changes.pop("task", "recognition")
    preprocess = Preprocess(**{**stated, **changes})
    return ModelFolder(Path("somewhere"), ModelCard(**NAMES, task=task, preprocess=preprocess))


def recognition(ops: Ops | None) -> RecPreProcess:
    return RecPreProcess(transform_ops=tuple(ops) if ops else None)


def test_model_yaml_and_config_agree() -> None:
    """The three ways in which PaddleClas's configs write the same thing."""
    stated = preprocessor_for(model(), recognition(None))
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    for scale in (0.00392157, "1.0/255.0", None):
        normalise = {"NormalizeImage": {"scale": scale, "order": ""}}
        asked = preprocessor_for(model(), recognition([{"ResizeImage": {"size": 224}}, normalise, CHW]))
        np.testing.assert_allclose(asked(image), stated(image), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (224, 225)},
        {"size": (320, 320)},
        {"interpolation": "cubic"},
        {"scale": 1.0},
        {"mean": (0.5, 0.5, 0.5)},
        {"mean": (0.406, 0.456, 0.485)},
        {"std": (0.5, 0.5, 0.5)},
    ],
)
def test_model_yaml_and_config_disagree(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        preprocessor_for(model(**changes), recognition(list(PADDLECLAS_RECOGNITION)))
    assert "RecPreProcess.transform_ops in the config and preprocess in" in str(caught.value)
    assert "model.yaml disagree" in str(caught.value)
    assert "To use the model's own: -o RecPreProcess=null" in str(caught.value)


def test_detector_yaml_and_config() -> None:
    section = DetPreProcess(transform_ops=tuple(PADDLECLAS_DETECTION))
    agreeing = model(task="detection", size=(640, 640), interpolation="cubic")
    assert preprocessor_for(agreeing, section).scale_factor(320, 160) == (2.0, 4.0)
    for changes in ({"size": (320, 320)}, {"interpolation": "bilinear"}, {"keep_ratio": True}):
        other = model(**{"task": "detection", "size": (640, 640), "interpolation": "cubic", **changes})
        with pytest.raises(ConfigError, match="-o DetPreProcess=null"):
            preprocessor_for(other, section)


def test_a_model_without_a_yaml_takes_paddleclas_s_default() -> None:
    bare = ModelFolder(Path("m"), ModelCard(**NAMES))
    preprocess = preprocessor_for(bare, recognition(None))
    assert agree(preprocess, compile_ops(PADDLECLAS_RECOGNITION, REC))
    assert preprocess(np.zeros((9, 9, 3), np.uint8)).shape == (3, 224, 224)
