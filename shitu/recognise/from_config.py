"""A config -> the predictors it describes: the one place that reads its sections for them."""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import replace
from functools import cache

from shitu.config import Config
from shitu.config.schema import DetPreProcess, Global, RecPreProcess
from shitu.cores import available_cores
from shitu.engines.base import EngineOptions
from shitu.engines.choose import open_model_session
from shitu.engines.paddle import has_gpu
from shitu.errors import ConfigError, GalleryError
from shitu.gallery import GalleryReader, open_reader
from shitu.measure import measure_of
from shitu.models import ModelFolder, open_model
from shitu.models.model_yaml import DETECTION, RECOGNITION
from shitu.recognise.decode import decode_for
from shitu.recognise.detect import Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.preprocess import Preprocessor
from shitu.recognise.stated import described_by, stated_preprocessor
from shitu.recognise.suppress import Suppression
from shitu.recognise.system import Recogniser

log = logging.getLogger("shitu")
Parts = tuple[Detector | None, Extractor]


class DetPredictor(Detector):
    """The detector of `Global.det_inference_model_dir`, with `Global.threshold` and `Global.max_det_results`.

    One image has all cores. many: for images by the folder or of many callers, each core has an image for itself; that
    is less work for all together, and longer for each.
    """

    def __init__(self, config: Config, *, many: bool = False) -> None:
        section = config.Global
        model = _model(section.det_inference_model_dir, DETECTION, "det", "picodet_efficientnet_lite0_mainbody")
        preprocess = preprocessor_for(model, config.DetPreProcess)
        options = options_from(section)
        streams = options.threads if many and not options.use_gpu else 1
        opened = open_model_session(model, replace(options, threads=options.threads // streams))
        self.engine, self.program = f"{opened.engine}, {opened.precision}", opened.program
        super().__init__(
            model,
            opened.session,
            decode_for(model, opened.program, section.threshold),
            preprocess,
            threshold=section.threshold,
            max_results=section.max_det_results,
            labels=_labels(model, section.label_list),
            streams=streams,
        )

    def at(self, threshold: float, max_results: int | None = None) -> DetPredictor:
        """The same, on the same sessions, with another threshold, and if wanted another number of results."""
        other = copy(self)
        other.threshold, other.decode = threshold, decode_for(self.model, self.program, threshold)
        other.max_results = self.max_results if max_results is None else max_results
        return other


class RecPredictor(Extractor):
    """The feature extractor of `Global.rec_inference_model_dir`, one session of one thread for each core."""

    def __init__(self, config: Config, *, many: bool = False) -> None:
        model = _model(config.Global.rec_inference_model_dir, RECOGNITION, "rec", "efficientnet_lite0_512")
        preprocess = preprocessor_for(model, config.RecPreProcess)
        if not preprocess.one_size:
            raise ConfigError(
                f"RecPreProcess.transform_ops leaves images at different sizes ({preprocess.describe()}), and the "
                "network takes one; add CropImage, or give ResizeImage a size in place of resize_short"
            )
        options = options_from(config.Global)
        streams = 1 if options.use_gpu else options.threads
        opened = open_model_session(model, replace(options, threads=options.threads // streams))
        self.engine = f"{opened.engine}, {opened.precision}"
        binarize = config.RecPostProcess.Binarize
        super().__init__(
            model,
            opened.program,
            opened.session,
            preprocess,
            streams=streams,
            shares=config.RecPreProcess.multi_crop,
            packed=measure_of(config.IndexProcess.dist_type).packed,
            binarize=binarize.method if binarize else "sign",
        )
        self.at_once = streams if many else 1


class SystemPredictor(Recogniser):
    """Detector (unless its folder is empty), feature extractor and gallery of one config, ready to recognise.

    many: for photos side by side, as `DetPredictor` says. parts: detector and extractor, where they are open already.
    Raises ConfigError, ModelError, EngineError or GalleryError (also when the gallery was made by another model).
    """

    def __init__(
        self,
        config: Config,
        gallery: GalleryReader | None = None,
        *,
        many: bool = False,
        parts: Parts | None = None,
    ) -> None:
        index, section = config.IndexProcess, config.Global
        gallery = open_gallery(config) if gallery is None else gallery  # an empty one is false
        det_predictor, rec_predictor = parts or _parts(config, many)
        if det_predictor is None and section.whole_image == "never":
            raise ConfigError(
                "Global.whole_image is `never` and Global.det_inference_model_dir is empty, so there is nothing to "
                "recognise; set whole_image to always, or give a detector"
            )
        suppression = Suppression(
            index.dist_type,
            index.score_thres,
            index.hamming_radius,
            section.rec_nms_thresold,
            section.rec_nms_within_labels,
        )
        super().__init__(
            det_predictor,
            rec_predictor,
            gallery,
            suppression,
            whole_image=section.whole_image,
            return_k=index.return_k,
            vote_k=index.vote_k,
        )
        self.at_once = rec_predictor.at_once


def _parts(config: Config, many: bool) -> Parts:
    det = DetPredictor(config, many=many) if config.Global.det_inference_model_dir else None
    return det, RecPredictor(config, many=many)


def open_gallery(config: Config) -> GalleryReader:
    """The gallery of `IndexProcess.index_dir`. Raises GalleryError."""
    index = config.IndexProcess
    if not index.index_dir:
        raise GalleryError(
            "IndexProcess.index_dir is empty; build a gallery first: shitu build-gallery PHOTOS -g FOLDER"
        )
    return open_reader(index.index_dir, efSearch=index.efSearch, nprobe=index.nprobe, delimiter=index.delimiter)


def _model(where: str | None, task: str, kind: str, example: str) -> ModelFolder:
    key = f"Global.{kind}_inference_model_dir"
    if not where:
        raise ConfigError(
            f"{key} is empty; give a model folder or a name from `shitu models list`, such as -o {key}={example}, or "
            "lay the config over the bundled one, which has one: `base: general` as its first line"
        )
    return open_model(where, task=task)


def _labels(model: ModelFolder, configured: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a detector's classes: a config's own, else its card's; the key's default says nothing."""
    return model.card.labels if model.card.labels and configured == Global().label_list else configured


def preprocessor_for(model: ModelFolder, section: DetPreProcess | RecPreProcess) -> Preprocessor:
    """What the model's images go through: the config's transform_ops, else model.yaml's, else PaddleClas's default.

    Raises ConfigError when config and model.yaml both speak and disagree.
    """
    name, stated = type(section).__name__, stated_preprocessor(model)
    if stated and not section.transform_ops:
        return stated
    from shitu.recognise.transform_ops import DEFAULTS, agree, compile_ops

    if not section.transform_ops:
        return compile_ops(DEFAULTS[name], name)
    asked = compile_ops(section.transform_ops, f"{name}.transform_ops")
    if stated and not agree(asked, stated):
        raise ConfigError(
            f"{name}.transform_ops in the config and preprocess in {described_by(model)} disagree: "
            f"{asked.describe()} against {stated.describe()}. To use the model's own: -o {name}=null"
        )
    return asked


def options_from(section: Global) -> EngineOptions:
    """The `Global` section, with what this machine lacks left out, each with one warning."""
    for key in ("use_npu", "use_xpu", "use_mlu", "use_tensorrt", "use_fp16"):
        if getattr(section, key):
            _warn_once(f"Global.{key}: not available here; going on without")
    use_gpu = section.use_gpu and has_gpu()
    if section.use_gpu and not use_gpu:
        _warn_once("Global.use_gpu: no GPU build of paddlepaddle or no GPU here; going on with the CPU")
    return EngineOptions(
        engine=_engine(section, use_gpu),
        precision="int8" if section.use_int8 else section.precision,
        threads=min(section.cpu_num_threads, available_cores()),
        use_mkldnn=section.enable_mkldnn,
        ir_optim=section.ir_optim,
        use_gpu=use_gpu,
        gpu_mem=section.gpu_mem,
        profile=section.enable_profile,
    )


def _engine(section: Global, use_gpu: bool) -> str:
    """PaddleClas's use_onnx and use_int8 name engines, too; a GPU is Paddle's alone."""
    if section.use_onnx and section.engine == "paddle":
        return "onnxruntime"
    if section.use_int8 and section.engine == "paddle":
        return "auto"
    return "paddle" if use_gpu and section.engine == "auto" else section.engine


@cache
def _warn_once(message: str) -> None:
    log.warning(message)
