"""PaddleX's model folders: inference.yml is what their images go through, and what their classes are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from shitu.config import load_config
from shitu.errors import ConfigError, ModelError
from shitu.images.read import Picture, read_image
from shitu.models import open_model
from shitu.models.known import KNOWN_MODELS, known_model
from shitu.recognise.from_config import DetPredictor, RecPredictor
from tests.conftest import DEMO, ROOT

RECOGNISER, DETECTOR = ROOT / "models/efficientnet_lite0_512", ROOT / "models/picodet_lcnet_x1_0_mainbody"
Ops = list[dict[str, Any]]
# As PaddleX's exports write it, but other numbers: nothing here is PaddleClas's default, nor the model's own.
REC_OPS: Ops = [
    {"ResizeImage": {"resize_short": 256, "return_numpy": False, "interpolation": "bicubic", "backend": "pil"}},
    {"CropImage": {"size": 224}},
    {"NormalizeImage": {"scale": 0.01, "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1], "order": "", "channel_num": 3}},
    {"ToCHWImage": None},
]
DET_OPS: Ops = [
    {"type": "Resize", "target_size": [320, 320], "interp": 1, "keep_ratio": False},
    {
        "type": "NormalizeImage",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.3, 0.2, 0.2],
        "is_scale": True,
        "norm_type": "mean_std",
    },
    {"type": "Permute"},
]


def rec_yml(ops: Any = None, **more: Any) -> dict[str, Any]:
    said = {
        "Global": {"model_name": "PP-ShiTuV2_rec"},
        "PreProcess": {"transform_ops": REC_OPS if ops is None else ops},
    }
    return {**said, "PostProcess": {"NormalizeFeatures": None}, "Hpi": {"backend_configs": {}}, **more}


def det_yml(ops: Any = None, **more: Any) -> dict[str, Any]:
    said = {"mode": "paddle", "draw_threshold": 0.5, "metric": "COCO", "arch": "GFL", "use_dynamic_shape": False}
    named = {"Global": {"model_name": "PP-ShiTuV2_det"}, "label_list": ["主体"]}
    return {**said, **named, "Preprocess": DET_OPS if ops is None else ops, **more}


def paddlex(where: Path, model: Path, said: object) -> Path:
    """A bundled program (a PIR .json) in a folder as PaddleX has it."""
    where.mkdir()
    for name in ("inference.json", "inference.pdiparams"):
        shutil.copy(model / name, where / name)
    (where / "inference.yml").write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")
    return where


@pytest.fixture(scope="module")
def photos() -> list[Picture]:
    return [read_image(path) for path in sorted((DEMO / "photos").glob("*.jpg"))[:3]]


def extractor(folder: Path, ops: Ops | None = None) -> RecPredictor:
    over = ["Global.engine=paddle", f"Global.rec_inference_model_dir={folder}"]
    return RecPredictor(
        load_config(None, [*over, *([f"RecPreProcess.transform_ops={json.dumps(ops)}"] if ops else [])])
    )


def detector(folder: Path, *over: str) -> DetPredictor:
    said = ["Global.engine=paddle", f"Global.det_inference_model_dir={folder}", "Global.threshold=0.1"]
    return DetPredictor(load_config(None, [*said, *over]))


def test_a_recogniser_s_preprocessing_is_read(tmp_path: Path, photos: list[Picture]) -> None:
    """The vectors are those that the same operators make in RecPreProcess, for a folder that says nothing."""
    folder, bare = paddlex(tmp_path / "x", RECOGNISER, rec_yml()), paddlex(tmp_path / "bare", RECOGNISER, {})
    (bare / "inference.yml").unlink()
    found, wanted = extractor(folder), extractor(bare, REC_OPS)
    np.testing.assert_array_equal(found.predict(photos), wanted.predict(photos))
    assert np.abs(found.predict(photos) - extractor(bare).predict(photos)).max() > 0.01
    assert found.fingerprint == wanted.fingerprint
    assert open_model(str(folder), task="recognition").name == "PP-ShiTuV2_rec"


def test_the_order_of_the_channels_is_read(tmp_path: Path, photos: list[Picture]) -> None:
    """BGR: as if R and B of the photos, and of mean and std, were exchanged."""
    folder = paddlex(
        tmp_path / "x", RECOGNISER, rec_yml([{"DecodeImage": {"to_rgb": False, "channel_first": False}}, *REC_OPS])
    )
    straight = paddlex(tmp_path / "rgb", RECOGNISER, rec_yml([{"DecodeImage": {"to_rgb": True}}, *REC_OPS]))
    turned = [np.ascontiguousarray(photo[:, :, ::-1]) for photo in photos]
    np.testing.assert_array_equal(extractor(folder).predict(photos), extractor(straight).predict(turned))
    assert extractor(folder).fingerprint != extractor(straight).fingerprint


def test_a_detector_s_preprocessing_and_labels_are_read(tmp_path: Path, photos: list[Picture]) -> None:
    folder, bare = paddlex(tmp_path / "x", DETECTOR, det_yml()), paddlex(tmp_path / "bare", DETECTOR, {})
    (bare / "inference.yml").unlink()
    ops = [
        {"DetResize": {"target_size": [320, 320], "interp": 1, "keep_ratio": False}},
        {"DetNormalizeImage": {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.2], "is_scale": True}},
        {"DetPermute": {}},
    ]
    found = detector(folder).predict(photos)
    wanted = detector(bare, f"DetPreProcess.transform_ops={json.dumps(ops)}", "Global.label_list=[主体]").predict(
        photos
    )
    assert found == wanted
    assert {each.label for one in found for each in one} == {"主体"}
    assert {each.label for one in detector(folder, "Global.label_list=[thing]").predict(photos) for each in one} == {
        "thing"
    }


def test_a_config_that_says_otherwise_is_refused(tmp_path: Path) -> None:
    folder = paddlex(tmp_path / "x", RECOGNISER, rec_yml())
    with pytest.raises(ConfigError, match=r"preprocess in .*inference\.yml disagree: .*-o RecPreProcess=null"):
        extractor(
            folder, [{"ResizeImage": {"size": [224, 224]}}, {"NormalizeImage": {"order": "hwc"}}, {"ToCHWImage": None}]
        )


BAD: list[tuple[object, str]] = [
    (
        rec_yml([{"Mosaic": None}]),
        "PreProcess.transform_ops: unknown operator 'Mosaic'; known: DecodeImage, ResizeImage",
    ),
    (rec_yml([{"ResizeImage": {"sizes": 3}}, {"ToCHWImage": None}]), "ResizeImage has no option 'sizes'"),
    (rec_yml([["ResizeImage"]]), "PreProcess.transform_ops has ['ResizeImage']; wanted an operator"),
    (rec_yml({}), "PreProcess.transform_ops is {}; wanted a list"),
    (rec_yml(PostProcess={"Topk": {"topk": 5}}), "PostProcess is Topk: a classifier; wanted a feature extractor"),
    (
        det_yml([{"type": "WarpAffine", "input_h": 512}]),
        "Preprocess: unknown operator 'WarpAffine'; known: Resize, Norm",
    ),
    (det_yml([{"type": "Pad"}]), "Preprocess: unknown operator 'Pad'; known: Resize"),
    (det_yml([{"target_size": [1, 1]}]), "wanted an operator with its `type`"),
    (det_yml([{"type": "NormalizeImage", "norm_type": "sigmoid"}]), "NormalizeImage.norm_type is 'sigmoid'"),
    (det_yml(label_list=None), "label_list is None; wanted a list"),
    (det_yml(label_list=[["a"]]), "label_list has ['a']; wanted texts"),
    (det_yml([{**DET_OPS[0], "target_size": [100000, 100000]}, DET_OPS[2]]), "DetResize.target_size: [100000, 100000]"),
    (rec_yml([{"ResizeImage": {"resize_short": 99999}}, *REC_OPS[1:]]), "resize_short 99999; wanted 8192 at most"),
    ({"Global": {"model_name": "x"}}, "has neither Preprocess (a detector) nor PreProcess"),
    ([1], "holds [1]; wanted a mapping"),
]


@pytest.mark.parametrize(("said", "words"), BAD, ids=range(len(BAD)))
def test_what_is_not_understood_is_named(tmp_path: Path, said: object, words: str) -> None:
    detects = isinstance(said, dict) and "Preprocess" in said
    folder = paddlex(tmp_path / "x", DETECTOR if detects else RECOGNISER, said)
    with pytest.raises((ModelError, ConfigError)) as caught:
        detector(folder) if detects else extractor(folder)
    assert words in str(caught.value)
    assert "inference.yml" in str(caught.value)


def test_an_operator_of_norm_type_none_scales_alone(tmp_path: Path, photos: list[Picture]) -> None:
    ops = [DET_OPS[0], {"type": "NormalizeImage", "norm_type": "none", "is_scale": True}, DET_OPS[2]]
    prepare = detector(paddlex(tmp_path / "x", DETECTOR, det_yml(ops))).preprocess
    assert np.allclose(prepare.table, np.arange(256) / 255)


@pytest.mark.parametrize(("model", "said"), [(RECOGNISER, rec_yml()), (DETECTOR, det_yml())], ids=["rec", "det"])
def test_a_conversion_keeps_what_it_says(
    tmp_path: Path, photos: list[Picture], model: Path, said: dict[str, Any]
) -> None:
    """Also as a copy; the model.yaml that it writes is then read in place of inference.yml."""
    from shitu.convert.folder import convert_model, in_copy

    pytest.importorskip("paddle2onnx")
    made = tmp_path / "made"
    in_copy(str(paddlex(tmp_path / "x", model, said)), made, convert_model)
    if model == RECOGNISER:
        before, after = extractor(tmp_path / "x"), extractor(made)
        assert after.preprocess.describe() == before.preprocess.describe()
    else:
        found = detector(made, "Global.engine=onnxruntime")
        assert (found.model.name, found.labels) == ("PP-ShiTuV2_det", ("主体",))
        assert found.preprocess.describe() == detector(tmp_path / "x").preprocess.describe()


def test_paddlex_s_names_are_known() -> None:
    """Archives are called NAME_infer, PaddleX's folders NAME."""
    names = {"PP-ShiTuV2_det", "PP-ShiTuV2_rec", "PP-ShiTuV2_rec_CLIP_vit_base", "PP-ShiTuV2_rec_CLIP_vit_large"}
    assert {each.name for each in KNOWN_MODELS} >= names
    for name in names:
        known = known_model(name)
        assert known is not None
        assert known is known_model(f"{name}_infer")
        assert known.url is not None
        assert known.url.endswith(f"/paddle3.0.0/{name}_infer.tar")
