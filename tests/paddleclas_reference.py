"""Runs PaddleClas's own build_gallery and predict_system and writes down what they say. No test: run by tests.

python tests/paddleclas_reference.py JOB.json
JOB: {"recogniser", "detector" (or null), "photos": [path ...], "rows": {photo: [[class, score, x1, y1, x2, y2] ...]},
"galleries": {index method: folder}, "search_only": {name: folder}, "data_file", "image_root", "score_thres", "out"}.
`rows` stand in for the detector's output, since the official one can only be had with random weights.
Writes OUT/answers.json {"results": {gallery: {photo: [...]}}, "detections": {photo: rows}} and OUT/features.npy.
"""

from __future__ import annotations

import os

# A .pdmodel is only looked for by Config(folder, prefix) without the new IR; read when paddle is imported.
os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddleclas
from paddleclas.deploy.python.build_gallery import GalleryBuilder, split_datafile
from paddleclas.deploy.python.predict_det import DetPredictor
from paddleclas.deploy.python.predict_system import SystemPredictor
from paddleclas.deploy.utils.config import get_config

CONFIG = Path(paddleclas.__file__).parent / "deploy/configs/inference_general.yaml"


def configured(job: dict[str, Any], index_dir: str, index_method: str) -> Any:
    values = {
        "Global.use_gpu": False,
        "Global.cpu_num_threads": 2,
        "Global.det_inference_model_dir": "",
        "Global.rec_inference_model_dir": job["recogniser"],
        "IndexProcess.index_method": index_method,
        "IndexProcess.index_dir": index_dir,
        "IndexProcess.image_root": job["image_root"],
        "IndexProcess.data_file": job["data_file"],
        "IndexProcess.score_thres": job["score_thres"],
    }
    return get_config(str(CONFIG), overrides=[f"{key}={value}" for key, value in values.items()], show=False)


class FixedDetector:
    """PaddleClas's DetPredictor from its output on, with the job's rows as the output."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.rows: list[list[float]] = []

    def predict(self, _image: Any) -> Any:
        settings = self.config["Global"]
        rows = np.array(self.rows, np.float32)
        return DetPredictor.parse_det_results(self, rows, settings["threshold"], settings["label_list"])


def read(path: str) -> Any:
    return cv2.imread(path)[:, :, ::-1]


def plain(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "bbox": [int(v) for v in result["bbox"]],
        "label": result["rec_docs"],
        "score": float(result["rec_scores"]),
    }


def recognise(job: dict[str, Any], folder: str, method: str) -> dict[str, list[dict[str, Any]]]:
    config = configured(job, folder, method)
    system = SystemPredictor(config)
    system.det_predictor = FixedDetector(config)
    results = {}
    for photo in job["photos"]:
        system.det_predictor.rows = job["rows"][photo]
        results[photo] = [plain(result) for result in system.predict(read(photo))]
    return results


def detect(job: dict[str, Any]) -> dict[str, Any]:
    """The rows of the real detector; its parse_det_results is stepped over."""
    config = configured(job, "", "Flat")
    config["Global"]["det_inference_model_dir"] = job["detector"]
    detector = DetPredictor(config)
    detector.parse_det_results = lambda rows, *_: rows.tolist()
    return {photo: detector.predict(read(photo)) for photo in job["photos"]}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers: dict[str, Any] = {"results": {}, "detections": {}}
    features = None
    for method, folder in job["galleries"].items():
        builder = GalleryBuilder(configured(job, folder, method))
        answers["results"][method] = recognise(job, folder, method)
        if features is None:
            images, _ = split_datafile(job["data_file"], job["image_root"])
            features = np.concatenate([builder.rec_predictor.predict(read(path)) for path in images])
            np.save(Path(job["out"]) / "features.npy", features)
    for name, folder in job.get("search_only", {}).items():
        answers["results"][name] = recognise(job, folder, name)
    if job["detector"]:
        answers["detections"] = detect(job)
    (Path(job["out"]) / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
