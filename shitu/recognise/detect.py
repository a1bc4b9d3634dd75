"""Images -> the objects in them: the mainbody detector alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shitu.config import Config
from shitu.engines.base import Streams
from shitu.engines.paddle import open_session, options_from
from shitu.errors import ConfigError, EngineError
from shitu.images.boxes import clip_boxes
from shitu.images.read import Picture
from shitu.models import ModelFolder, open_model
from shitu.recognise.preprocess import Preprocessor, Tensor
from shitu.recognise.transform_ops import PADDLECLAS_DETECTION, preprocessor_for
from shitu.results import Box, Detection

KNOWN_INPUTS = ("image", "im_shape", "scale_factor")


class DetPredictor:
    """The detector of `Global.det_inference_model_dir`, with `Global.threshold` and `Global.max_det_results`."""

    def __init__(self, config: Config) -> None:
        where = config.Global.det_inference_model_dir
        if not where:
            raise ConfigError(
                "Global.det_inference_model_dir is empty; give a model folder or a name from `shitu models list`, "
                "such as -o Global.det_inference_model_dir=picodet_lcnet_x1_0_mainbody"
            )
        self.model: ModelFolder = open_model(where, task="detection")
        self.threshold: float = config.Global.threshold
        self.max_results: int = config.Global.max_det_results
        self.labels: tuple[str, ...] = tuple(config.Global.label_list)
        self.preprocess: Preprocessor = preprocessor_for(self.model, config.DetPreProcess, PADDLECLAS_DETECTION)
        session = open_session(self.model.program, self.model.params, options_from(config.Global))
        unknown = set(session.input_names) - set(KNOWN_INPUTS)
        if unknown or "image" not in session.input_names:
            raise ConfigError(
                f"{self.model.path} is not a detector: its inputs are {', '.join(session.input_names)}, wanted "
                f"some of {', '.join(KNOWN_INPUTS)}. Is it a feature extractor, given as det_inference_model_dir?"
            )
        self._streams = Streams(session, 1)  # one at a time, whoever calls: it has all the cores

    def predict(self, images: Sequence[Picture]) -> list[list[Detection]]:
        """(h, w, 3) uint8 RGB images -> the objects of each, best first, boxes clipped to the image.

        Image by image: the network has all the cores for itself, and a batch of 640 px images leaves the cache.
        """
        return [self._predict_one(image) for image in images]

    def bodies(self, image: Picture, *, largest_only: bool) -> list[Box]:
        """What to index of a gallery image: its objects, or the largest; the whole image where none is found."""
        boxes = [detection.bbox for detection in self._predict_one(image)]
        if largest_only and boxes:
            boxes = [max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))]
        return boxes or [(0, 0, image.shape[1], image.shape[0])]

    def _predict_one(self, image: Picture) -> list[Detection]:
        height, width = image.shape[:2]
        tensor = self.preprocess(image)
        factors = self.preprocess.scale_factor(height, width)
        feeds = {
            "image": tensor[None],
            "im_shape": np.array([self.preprocess.resized(height, width)], np.float32),
            "scale_factor": np.array([factors], np.float32),
        }
        (rows,) = self._streams.map(lambda session, each: session.run(each)[0], [feeds])
        return self._select(self._checked(rows), width, height)

    def _checked(self, rows: NDArray[np.float32]) -> Tensor:
        if rows.size < 6:  # no object: programs return [0, 6] or a single -1
            return np.empty((0, 6), np.float32)
        if rows.ndim != 2 or rows.shape[1] != 6:
            raise EngineError(
                f"{self.model.path}: its first output has shape {list(rows.shape)}; wanted [N, 6] (class, score, x1, "
                "y1, x2, y2). Export the detector with its NMS"
            )
        return rows

    def _select(self, rows: Tensor, width: int, height: int) -> list[Detection]:
        """The best `max_results`, of those the ones that reach the threshold: PaddleClas's order of the two."""
        order = np.argsort(-rows[:, 1], kind="stable")[: self.max_results]
        rows = rows[order]
        rows = rows[rows[:, 1] >= self.threshold]
        boxes, keep = clip_boxes(rows[:, 2:6], width, height)
        detections = []
        for (left, top, right, bottom), row in zip(boxes[keep].tolist(), rows[keep], strict=True):
            number = int(row[0])
            label = self.labels[number] if number < len(self.labels) else str(number)
            detections.append(Detection((left, top, right, bottom), float(row[1]), number, label))
        return detections
