"""Images -> the objects in them: the mainbody detector alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shitu.engines.base import Array, Session, Streams
from shitu.errors import ConfigError
from shitu.images.boxes import clip_boxes
from shitu.images.read import Picture, several
from shitu.models import ModelFolder
from shitu.recognise.decode import Decode
from shitu.recognise.preprocess import Preprocessor, Tensor
from shitu.results import Box, Detection

KNOWN_INPUTS = ("image", "im_shape", "scale_factor")


class Detector:
    """A model's session, with what comes before and after it. `labels[i]` is what class i is called.

    Of the `max_results` best objects those are told that reach `threshold`. Any number of threads may call at once, of
    which `streams` are served side by side.
    """

    def __init__(
        self, model: ModelFolder, session: Session, decode: Decode, preprocess: Preprocessor,
        *, threshold: float, max_results: int, labels: Sequence[str], streams: int = 1,
    ) -> None:  # fmt: skip
        names, foreign = session.input_names, model.card.head is not None
        unknown = set(names) - set(KNOWN_INPUTS)
        self._image = names[0] if foreign and len(names) == 1 else "image"
        if (unknown or "image" not in names) and self._image != names[0]:
            raise ConfigError(
                f"{model.path} is not a detector: its inputs are {', '.join(names)}, wanted "
                f"some of {', '.join(KNOWN_INPUTS)}. Is it a feature extractor, given as det_inference_model_dir?"
            )
        self.model, self.decode, self.preprocess = model, decode, preprocess
        self.threshold, self.max_results, self.labels = threshold, max_results, tuple(labels)
        self._streams = Streams(session, streams)
        self.at_once = streams

    def predict(self, images: Sequence[Picture]) -> list[list[Detection]]:
        """(h, w, 3) uint8 RGB images -> the objects of each, best first, boxes clipped to the image.

        Image by image: a batch of 640 px images leaves the cache. Raises UsageError for one image in place of several.
        """
        return [self._predict_one(image) for image in several(images)]

    def bodies(self, image: Picture, crop: str) -> list[Box]:
        """What to index of a gallery image: `all` its objects, the `largest`, or `both` the whole image and that one.

        The whole image where none is found.
        """
        whole: Box = (0, 0, image.shape[1], image.shape[0])
        boxes = [detection.bbox for detection in self._predict_one(image)]
        if crop != "all" and boxes:
            boxes = [max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))]
        if crop == "both":
            boxes = list(dict.fromkeys([whole, *boxes]))
        return boxes or [whole]

    def _predict_one(self, image: Picture) -> list[Detection]:
        height, width = image.shape[:2]
        tensor = self.preprocess(image)
        factors = self.preprocess.scale_factor(height, width)
        feeds = {
            self._image: tensor[None],
            "im_shape": np.array([self.preprocess.resized(height, width)], np.float32),
            "scale_factor": np.array([factors], np.float32),
        }
        (outputs,) = self._streams.map(_run, [feeds])
        rows = self.decode(outputs)
        if self.model.card.head:
            rows = np.concatenate([rows[:, :2], self.preprocess.back(rows[:, 2:], height, width)], axis=1)
        return self._select(rows, width, height)

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


def _run(session: Session, feeds: Mapping[str, Array]) -> list[Array]:
    return session.run({name: feeds[name] for name in session.input_names})
