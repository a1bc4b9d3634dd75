"""A detector's weights -> a model folder: two programs, with the NMS inside and ending before it, both checked.

The folder appears only after every check has passed.
"""

from __future__ import annotations

import contextlib
import filecmp
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn
from paddle.static import InputSpec

from shitu.config.schema import Global as InferenceGlobal
from shitu.digest import sha256_of
from shitu.engines.paddle import open_session
from shitu.errors import ConfigError, EngineError
from shitu.images.read import read_image
from shitu.models import Nms
from shitu.models.write import PARAMS, PROGRAM, RAW_PARAMS, RAW_PROGRAM, new_folder, write_model_yaml
from shitu.recognise.from_config import options_from
from shitu.recognise.nms import multiclass_nms
from shitu.recognise.preprocess import from_model_yaml
from shitu.resources import bundled
from shitu.training.base.export import add_onnx, fuse_batch_norms
from shitu.training.det.build import PicoDet, build_detector, load_trained
from shitu.training.det.schema import DetConfig

_log = logging.getLogger("shitu")
_INTERPOLATION = {0: "nearest", 1: "bilinear", 2: "cubic", 3: "area", 4: "lanczos"}  # cv2's numbers
_PHOTOS = 3  # to check on
_SCORES_WITHIN, _BOXES_WITHIN = 1e-4, 0.05  # pixels
_REPORT = "a fault of shitu's or Paddle's, please report it"

Array = NDArray[Any]


class Mainbody(nn.Layer):
    """From image and scale factor (y, x) to boxes in the photo's pixels, with or without the NMS."""

    def __init__(self, network: PicoDet, with_nms: bool) -> None:
        super().__init__()
        self.network, self.with_nms = network, with_nms

    def forward(self, image: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor]:
        scores, boxes = self.network(image)
        y, x = paddle.split(scale_factor, 2, axis=-1)
        boxes = boxes / paddle.concat([x, y, x, y], axis=-1).reshape([-1, 1, 4])
        return self.network.suppressed(boxes, scores) if self.with_nms else (boxes, scores)


def export_detector(config: DetConfig, folder: Path | None = None, *, onnx: bool | None = False) -> Path:
    """Write the model folder, by default `inference` in the run's folder. Returns it.

    onnx: as `add_onnx`. Raises ConfigError and ModelError on weights that do not fit, EngineError where a program is
    not the network, UsageError where the folder is no model's.
    """
    folder = (folder or config.run_dir / "inference").expanduser()
    _preprocess(config)
    network = build_detector(config)
    weights = load_trained(network, config.weights)
    network.eval()
    network.head.eval_size = list(config.size)  # the anchor points become constants of the program
    network.head.anchor_points, network.head.stride_tensor = network.head._generate_anchors()
    feeds = _samples(config)
    with paddle.no_grad():  # boxes (n, a, 4) and scores (n, c, a) of the dynamic graph, batch norms not yet fused
        boxes, scores = Mainbody(network, False)(*map(paddle.to_tensor, feeds))
    fuse_batch_norms(network)
    with new_folder(folder, "--output-dir") as new:
        for name, with_nms in ((PROGRAM, True), (RAW_PROGRAM, False)):
            _save_program(Mainbody(network, with_nms), config.size, (new / name).with_suffix(""))
        if filecmp.cmp(new / PARAMS, new / RAW_PARAMS, shallow=False):
            (new / RAW_PARAMS).unlink()
        nms = Nms(**{key: getattr(network.nms, key) for key in Nms.__dataclass_fields__})
        _check(new, (boxes.numpy(), scores.numpy()), feeds, nms)
        _describe(new, config, nms, weights, folder.name)
        add_onnx(new, onnx)
    return folder


def _samples(config: DetConfig) -> tuple[Array, Array]:
    """Photos of the demo as the network gets them: images (n, 3, h, w), scale factors (n, 2)."""
    preprocess = from_model_yaml(**_preprocess(config), detection=True)
    photos = [read_image(path) for path in sorted((bundled("demo") / "photos").glob("*.jpg"))[:_PHOTOS]]
    scales = [preprocess.scale_factor(*photo.shape[:2]) for photo in photos]
    return np.stack([preprocess(photo) for photo in photos]), np.array(scales, np.float32)


def _save_program(layer: nn.Layer, size: tuple[int, int], prefix: Path) -> None:
    specs = [InputSpec([-1, 3, *size], "float32", "image"), InputSpec([-1, 2], "float32", "scale_factor")]
    with contextlib.redirect_stdout(io.StringIO()):
        program = paddle.jit.to_static(layer, input_spec=specs, full_graph=True)
        paddle.jit.save(program, str(prefix))


def _check(new: Path, expected: tuple[Array, Array], feeds: tuple[Array, Array], limits: Nms) -> None:
    """Both programs, in the engine that predicts, against the network's own output. Raises EngineError."""
    options = options_from(InferenceGlobal(use_gpu=False))
    raw = open_session(new / RAW_PROGRAM, new / _raw_params(new), options)
    full = open_session(new / PROGRAM, new / PARAMS, options)
    named = dict(zip(("image", "scale_factor"), feeds, strict=True))
    boxes, scores = raw.run(named)[:2]
    rows, counts = full.run(named)[:2]
    by_numpy = [multiclass_nms(b, s, limits) for b, s in zip(boxes, scores, strict=True)]
    if [len(each) for each in by_numpy] != counts.tolist():
        raise EngineError(
            f"the program finds {counts.tolist()} boxes, an NMS in numpy {list(map(len, by_numpy))}: {_REPORT}"
        )
    wanted = np.concatenate(by_numpy)
    found = rows.reshape(-1, 6)
    differences = {
        "scores of the program without NMS and of the network": (scores, expected[1], _SCORES_WITHIN),
        "boxes of the program without NMS and of the network": (boxes, expected[0], _BOXES_WITHIN),
        "scores of the program with NMS and of an NMS in numpy": (found[:, 1], wanted[:, 1], _SCORES_WITHIN),
        "boxes of the program with NMS and of an NMS in numpy": (found[:, 2:], wanted[:, 2:], _BOXES_WITHIN),
    }
    for what, (one, other, within) in differences.items():
        difference = float(np.abs(one - other).max(initial=0))
        _log.info("%s: at most %.1e apart", what, difference)
        if not difference <= within:
            raise EngineError(
                f"{what} are {difference:.2g} apart, allowed is {within:g}; the folder was not written: {_REPORT}"
            )


def _preprocess(config: DetConfig) -> dict[str, Any]:
    """EvalReader's operators, of both its lists, in the words of model.yaml. Raises ConfigError."""
    lists = (*config.EvalReader.sample_transforms, *config.EvalReader.batch_transforms)
    operators = [(name, options or {}) for each in lists for name, options in each.items()]
    normalising = [options for name, options in operators if name == "NormalizeImage"]
    if len(normalising) != 1:
        raise ConfigError(
            f"EvalReader of {config.source} has {len(normalising)} NormalizeImage in its sample_transforms and "
            "batch_transforms; a model.yaml states one: leave one"
        )
    (normal,) = normalising
    only_scaled = normal.get("norm_type", "mean_std") == "none"
    resize = next(options for name, options in operators if name == "Resize")  # config.size has found it
    return {
        "size": list(config.size),
        "keep_ratio": False,
        "interpolation": _INTERPOLATION.get(resize.get("interp", 1), "bilinear"),
        "scale": 1 / 255 if normal.get("is_scale", True) else 1.0,
        "mean": [0.0] * 3 if only_scaled else list(normal.get("mean", [0.485, 0.456, 0.406])),
        "std": [1.0] * 3 if only_scaled else list(normal.get("std", [0.229, 0.224, 0.225])),
    }


def _raw_params(folder: Path) -> str:
    """The weights of the program without NMS, which are often the other's."""
    return RAW_PARAMS if (folder / RAW_PARAMS).exists() else PARAMS


def _describe(new: Path, config: DetConfig, nms: Nms, weights: Path, name: str) -> None:
    write_model_yaml(
        new,
        name=config.name if name == "inference" else name,
        task="detection",
        architecture=f"PicoDet, LCNet x{config.LCNet.scale:g}, {len(config.PicoHead.fpn_stride)} levels",
        raw={"program": RAW_PROGRAM, "params": _raw_params(new)},
        nms=dict(vars(nms)),
        labels=["foreground"] if config.num_classes == 1 else [f"class{each}" for each in range(config.num_classes)],
        preprocess=_preprocess(config),
        licence="not stated",
        provenance=f"Trained with shitu by {Path(config.source).name}; weights {weights.name}, SHA-256 "
        f"{sha256_of(weights)}; exported with paddlepaddle {paddle.version.full_version}.",
    )
