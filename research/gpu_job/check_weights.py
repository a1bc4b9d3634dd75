"""The job's networks against the bundled programs, on real pictures of the demo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from research.detector.efficientnet_lite import EfficientNetLite0
from research.detector.loss import anchor_points, decode
from research.detector.network import PicoDet
from research.gpu_job.job.detector import start_from
from research.gpu_job.job.teacher import load_teacher
from research.gpu_job.pack_weights import Weights, as_half

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4


def tensors(weights: Weights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()}


def program(folder: Path, name: str, feeds: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of an exported program under Paddle Inference."""
    from paddle import inference

    config = inference.Config(str(folder / name), str(folder / "inference.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    for key, value in zip(predictor.get_input_names(), feeds, strict=True):
        predictor.get_input_handle(key).copy_from_cpu(np.ascontiguousarray(value, np.float32))
    predictor.run()
    return [predictor.get_output_handle(key).copy_to_cpu() for key in predictor.get_output_names()]


def pictures(side: int) -> torch.Tensor:
    """(n, 3, side, side) float, RGB, 0 to 255."""
    paths = sorted((ROOT / "demo" / "photos").iterdir())[:4]
    images = [cv2.resize(cv2.imread(str(path)), (side, side)) for path in paths]
    return torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2).float()


@torch.no_grad()
def differences(weights: dict[str, Weights], recogniser: Path, detector: Path) -> dict[str, float]:
    """Largest differences of features (length 1) and scores; SystemExit where a network is not the bundled one."""
    images = pictures(224)
    (wanted,) = program(recogniser, "inference.json", [((images - 127) / 128).numpy()])
    found = {}
    for what, form in (("recogniser", weights["teacher"]), ("recogniser, float16", as_half(weights["teacher"]))):
        rows = load_teacher(tensors(form))(images).numpy()
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, wanted)]
        found[what] = float(np.abs(unit[0] - unit[1]).max())
    images = pictures(320)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    inputs = (images - mean) / std
    boxes, scores = program(detector, "inference_raw.json", [inputs.numpy(), np.ones((len(images), 2))])
    network = PicoDet(EfficientNetLite0())
    start_from(network, tensors(weights["detector"]), inputs)
    logits, sides = network.eval()(inputs)
    found["detector, scores"] = float(np.abs(logits.sigmoid().numpy() - scores[:, 0]).max())
    found["detector, boxes in pixels of 320"] = float(np.abs(decode(sides, *anchor_points(320)).numpy() - boxes).max())
    for what, value in found.items():
        limit = {"recogniser, float16": 1e-3, "detector, boxes in pixels of 320": 0.05}.get(what, TOLERANCE)
        if not value <= limit:
            raise SystemExit(f"{what}: differs from the bundled model by {value:.1e}, wanted {limit} at most")
    return found
