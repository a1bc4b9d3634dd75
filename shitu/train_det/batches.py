"""Annotated images -> batches for the network, made ahead in processes; each is a function of its number alone."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import paddle
from numpy.typing import NDArray

from shitu.errors import ConfigError, ImageError, ShituError
from shitu.images import read_image
from shitu.train_det.ahead import Arrays, made_ahead
from shitu.train_det.coco_data import DetData
from shitu.train_det.schema import Reader
from shitu.train_det.transforms import Sample, compile_reader, run

_log = logging.getLogger("shitu")

_TRIES = 20  # images in a row that cannot be used, before it is no longer an accident
_BATCH_SEED = 1 << 20  # above every position in a batch
_REPORTED = 20  # bad images named one by one


@dataclass(frozen=True)
class Task:
    """One batch: the images, and what its random numbers hang on: (epoch, stream, batch index)."""

    indices: NDArray[np.int64]
    key: tuple[int, int, int]


@dataclass(frozen=True)
class DetBatch:
    """`images` (n, 3, h, w) float32; of each image `boxes` (k, 4) float32 in its pixels, `classes` (k, 1) int32."""

    images: paddle.Tensor
    boxes: list[paddle.Tensor]
    classes: list[paddle.Tensor]
    indices: NDArray[np.int64]  # (n,): which images of the data
    scales: NDArray[np.float32]  # (n, 2): the network's pixels per image pixel, vertical and horizontal
    bad: dict[str, str]  # path -> reason, of images that could not be used: replaced in training, else blank


@dataclass(frozen=True)
class Order:
    """Which images go into which batch: a pure function of (seed, epoch, stream, index).

    Each epoch is a permutation of all images, dealt out to the streams batch by batch; what is left is dropped.
    """

    count: int
    batch_size: int
    streams: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.count < self.batch_size * self.streams:
            total = f"{self.streams} x {self.batch_size}" if self.streams > 1 else f"{self.batch_size}"
            raise ConfigError(
                f"{self.count} images do not fill one batch of {total}; set a smaller -o TrainReader.batch_size=N"
            )

    def __len__(self) -> int:
        return self.count // (self.batch_size * self.streams)

    def batch(self, epoch: int, stream: int, index: int) -> NDArray[np.int64]:
        order = _permutation(self.seed, epoch, self.count) if self.shuffle else np.arange(self.count)
        first = (index * self.streams + stream) * self.batch_size
        return order[first : first + self.batch_size]


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


class DetLoader:
    """Batches of a dataset through the operators of a reader; `replace` says what becomes of bad images."""

    def __init__(self, data: DetData, reader: Reader, where: str, *, seed: int, workers: int, replace: bool) -> None:
        self.maker = _Maker(data, reader, where, seed, replace)
        self.workers, self.reader = workers, reader
        self.bad: dict[str, str] = {}  # path -> reason, of all so far

    def epoch(self, order: Order, epoch: int, stream: int, start_step: int = 0) -> Iterator[DetBatch]:
        """The batches of one stream of one epoch from `start_step` on."""
        steps = range(start_step, len(order))
        return self._made([Task(order.batch(epoch, stream, step), (epoch, stream, step)) for step in steps])

    def in_order(self) -> Iterator[DetBatch]:
        """All images; the last batch may be smaller."""
        count, size = len(self.maker.data), self.reader.batch_size
        firsts = range(0, count, size)
        return self._made([Task(np.arange(first, min(first + size, count)), (0, 0, first)) for first in firsts])

    def _made(self, tasks: list[Task]) -> Iterator[DetBatch]:
        height, width = self.maker.largest
        size = self.reader.batch_size * 12 * height * width if self.reader.use_shared_memory else None
        with closing(made_ahead(self.maker, tasks, self.workers, size)) as results:
            for arrays in results:
                batch = _batch(arrays)
                self._note(batch.bad)
                yield batch

    def _note(self, bad: dict[str, str]) -> None:
        for path, reason in bad.items():
            if path not in self.bad and len(self.bad) < _REPORTED:
                what = "replaced by another image" if self.maker.replace else "counted as without a find"
                _log.warning("%s; %s", reason, what)
            self.bad[path] = reason


class _Maker:
    """What a worker does: a list of arrays per task, since those pass through shared memory."""

    def __init__(self, data: DetData, reader: Reader, where: str, seed: int, replace: bool) -> None:
        self.data, self.seed, self.replace = data, seed, replace
        self.of_sample, self.of_batch, self.largest = compile_reader(reader, where)

    def __call__(self, task: Task) -> Arrays:
        bad: dict[str, str] = {}
        try:
            return (*self._make(task, bad), _as_bytes({"bad": bad}))
        except ShituError as error:  # raised in a worker, it would reach nobody as what it is
            return (*[np.zeros(1, np.float32)] * 6, _as_bytes({"bad": bad, "error": str(error)}))

    def _make(self, task: Task, bad: dict[str, str]) -> list[NDArray[Any]]:
        seeds = (self.seed, *task.key)
        samples = [self._sample(index, (*seeds, number), bad) for number, index in enumerate(task.indices.tolist())]
        samples = run(self.of_batch, samples, *seeds, _BATCH_SEED)
        boxes = [np.asarray(each["gt_bbox"], np.float32).reshape(-1, 4) for each in samples]
        classes = [np.asarray(each["gt_class"], np.int32).reshape(-1, 1) for each in samples]
        # a row more than there are boxes: an array of nothing does not pass through shared memory
        return [
            np.stack([each["image"] for each in samples]).astype(np.float32, copy=False),
            np.concatenate([*boxes, np.zeros((1, 4), np.float32)]),
            np.concatenate([*classes, np.zeros((1, 1), np.int32)]),
            np.array([len(each) for each in boxes], np.int64),
            np.array([each["index"] for each in samples], np.int64),
            np.stack([each["scale_factor"] for each in samples]).astype(np.float32),
        ]

    def _sample(self, index: int, seeds: tuple[int, ...], bad: dict[str, str]) -> Sample:
        others, reason = np.random.default_rng(seeds), ""
        for _ in range(_TRIES):
            try:
                return self._transformed(index, self._image(index), seeds)
            except (ImageError, ValueError, cv2.error) as error:  # what ppdet's operators raise on odd sizes
                path = self.data.paths[index]
                reason = str(error) if isinstance(error, ImageError) else f"{path}: an operator failed on it ({error})"
                bad[path] = reason
            if not self.replace:
                return self._transformed(index, np.zeros((*self.data.sizes[index].tolist(), 3), np.uint8), seeds)
            index = int(others.integers(len(self.data)))
        raise ShituError(f"{_TRIES} images in a row cannot be used, at last {reason}; look at the data")

    def _image(self, index: int) -> NDArray[np.uint8]:
        image = read_image(self.data.paths[index])
        (height, width), wanted = image.shape[:2], self.data.sizes[index].tolist()
        if [height, width] != wanted:
            raise ImageError(
                f"{self.data.paths[index]}: is {width} x {height}, but its annotation says {wanted[1]} x {wanted[0]}: "
                "its boxes do not fit"
            )
        return image

    def _transformed(self, index: int, image: NDArray[np.uint8], seeds: tuple[int, ...]) -> Sample:
        (height, width), rows = image.shape[:2], self.data.boxes_of(index)
        classes = self.data.classes[rows].astype(np.int32)[:, None]
        sample: Sample = {
            "index": index,
            "image": image,
            "gt_bbox": self.data.xyxy[rows].copy(),
            "gt_class": classes,
            "is_crowd": np.zeros_like(classes),
            "h": float(height),
            "w": float(width),
            "im_shape": np.array([height, width], np.float32),
            "scale_factor": np.ones(2, np.float32),
        }
        made: Sample = run(self.of_sample, sample, *seeds)
        return made


def _as_bytes(report: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(report).encode(), np.uint8)


def _batch(arrays: Arrays) -> DetBatch:
    images, boxes, classes, counts, indices, scales, encoded = arrays
    report = json.loads(bytes(encoded))
    if "error" in report:
        raise ShituError(report["error"])
    ends = np.cumsum(counts)
    spans = [slice(int(end - count), int(end)) for end, count in zip(ends, counts, strict=True)]
    return DetBatch(
        images=paddle.to_tensor(images),
        boxes=[paddle.to_tensor(boxes[span]) for span in spans],
        classes=[paddle.to_tensor(classes[span]) for span in spans],
        indices=indices,
        scales=scales,
        bad=report["bad"],
    )
