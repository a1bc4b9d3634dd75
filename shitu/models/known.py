"""The models that PaddleClas and PaddleX publish for PP-ShiTu: names, addresses, published sizes.

The addresses were taken from their documentation, named with each group below. The documentation gives no
checksum, and no exact size of an archive; what a download brought is therefore recorded at the first time and checked
from then on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shitu.models.model_yaml import DETECTION, RECOGNITION

_FOLDER = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/rec/models/inference"
# PaddleX unpacks its archives to folders of the models' names; they hold an inference.json and an inference.yml.
_PADDLEX = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model/paddle3.0.0"
# PaddleClas is under this licence; the archives themselves hold none.
_LICENCE = "Apache-2.0 (PaddleClas)"


@dataclass(frozen=True)
class KnownModel:
    """A published model. `url` is None where no address was found: it can be named and placed, not downloaded."""

    name: str
    task: str
    description: str
    url: str | None
    published_mb: float | None = None
    params_bytes: int | None = None
    dimension: int | None = None
    licence: str = _LICENCE

    @property
    def archive(self) -> str:
        """What the archive is called, and what unpacking by hand leaves."""
        return (self.url or self.name).rpartition("/")[2].removesuffix(".tar")


def _official(name: str, task: str, description: str, folder: str = _FOLDER, **more: Any) -> KnownModel:
    """A model whose archive is named as the model is."""
    return KnownModel(name, task, description, f"{folder}/{name}.tar", **more)


def _paddlex(name: str, task: str, description: str, **more: Any) -> KnownModel:
    licence = "Apache-2.0 (PaddleX)"
    return KnownModel(name, task, description, f"{_PADDLEX}/{name}_infer.tar", licence=licence, **more)


KNOWN_MODELS = (
    # docs/zh_CN/models/PP-ShiTu/README.md, 5.1.2 (addresses) and 1 (sizes); size of the detector:
    # docs/zh_CN/training/PP-ShiTu/mainbody_detection.md. Its 407 tensors make a .pdiparams of exactly 26542897 bytes.
    _official(
        "picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer",
        DETECTION,
        "mainbody detector of PP-ShiTu V1 and V2, PicoDet",
        published_mb=30.1,
        params_bytes=26_542_897,
    ),
    _official(
        "general_PPLCNetV2_base_pretrained_v1.0_infer",
        RECOGNITION,
        "general recogniser of PP-ShiTuV2",
        f"{_FOLDER}/PP-ShiTuV2",
        published_mb=19,
        dimension=512,
    ),
    # docs/zh_CN/quick_start/quick_start_recognition.md, 2.2 (release/2.4)
    _official(
        "general_PPLCNet_x2_5_lite_v1.0_infer",
        RECOGNITION,
        "general recogniser of PP-ShiTuV1",
        published_mb=34,
        dimension=512,
    ),
    _official(
        "general_PPLCNet_x2_5_lite_binary_v1.0_infer", RECOGNITION, "general recogniser for binary codes", dimension=512
    ),
    # the same document, 5; size: docs/zh_CN/image_recognition_pipeline/mainbody_detection.md
    _official(
        "ppyolov2_r50vd_dcn_mainbody_v1.0_infer",
        DETECTION,
        "mainbody detector for servers, PP-YOLOv2",
        published_mb=210.5,
    ),
    _official("logo_rec_ResNet50_Logo3K_v1.0_infer", RECOGNITION, "logos", dimension=512),
    _official("product_ResNet50_vd_aliproduct_v1.0_infer", RECOGNITION, "products", dimension=512),
    _official("vehicle_cls_ResNet50_CompCars_v1.0_infer", RECOGNITION, "car models", dimension=512),
    _official("cartoon_rec_ResNet50_iCartoon_v1.0_infer", RECOGNITION, "cartoon faces", dimension=2048),
    # PaddleX 3.4.3: addresses inference/utils/official_models.py; sizes docs/module_usage/tutorials/cv_modules/
    # mainbody_detection.md and image_feature.md
    _paddlex("PP-ShiTuV2_det", DETECTION, "mainbody detector of PaddleX's PP-ShiTuV2", published_mb=27.54),
    _paddlex("PP-ShiTuV2_rec", RECOGNITION, "recogniser of PaddleX's PP-ShiTuV2", published_mb=16.3, dimension=512),
    _paddlex("PP-ShiTuV2_rec_CLIP_vit_base", RECOGNITION, "the same on CLIP ViT-B/16", published_mb=306.6),
    _paddlex("PP-ShiTuV2_rec_CLIP_vit_large", RECOGNITION, "the same on CLIP ViT-L/14", published_mb=1050),
)


def known_model(name: str) -> KnownModel | None:
    """The published model of this name, or of an archive of this name."""
    return next((model for model in KNOWN_MODELS if name in (model.name, model.archive)), None)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return close[0] if close else None
