"""Annotated images -> batches for the network, made ahead in processes; each is a function of its number alone."""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import paddle
from numpy.typing import NDArray

from shitu.errors import ConfigError, ImageError, ShituError
from shitu.images.read import read_image
from shitu.training.base.loader import OF_BATCH, Loader, Maker, Task, tasks_of
from shitu.training.base.task import Batches
from shitu.training.base.worker_pool import Slot, array_in
from shitu.training.det.coco_data import DetData
from shitu.training.det.schema import Reader
from shitu.training.det.transforms import Sample, compile_reader, run

_TRIES = 20  # images in a row that cannot be used, before it is no longer an accident


@dataclass(frozen=True)
class DetBatch:
    """Tensors on paddle's current device; as a worker makes it, arrays in their place."""

    images: Any  # (n, 3, h, w) float32
    boxes: list[Any]  # of each image (k, 4) float32 in its pixels
    classes: list[Any]  # of each image (k, 1) int32
    indices: NDArray[np.int64]  # (n,): which images of the data
    scales: NDArray[np.float32]  # (n, 2): the network's pixels per image pixel, vertical and horizontal


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


class DetLoader(Loader[DetBatch]):
    """Batches of a dataset through the operators of a reader; `replace` says what becomes of bad images."""

    def __init__(self, data: DetData, reader: Reader, where: str, *, seed: int, workers: int, replace: bool) -> None:
        bad_are = "replaced by another image" if replace else "counted as without a find"
        maker = _Maker(data, reader, where, seed, replace)
        super().__init__(maker, workers, use_shared_memory=reader.use_shared_memory, bad_are=bad_are)
        self.count, self.batch_size = len(data), reader.batch_size

    def epoch(self, order: Batches, epoch: int, stream: int, start_step: int = 0) -> Generator[DetBatch, None, None]:
        """The batches of one stream of one epoch from `start_step` on."""
        return self.batches(tasks_of(order, epoch, [stream], start_step))

    def in_order(self, share: range | None = None) -> Generator[DetBatch, None, None]:
        """All images, or a share of them; the last batch may be smaller."""
        size, wanted = self.batch_size, np.arange(self.count) if share is None else np.array(share, np.int64)
        firsts = range(0, len(wanted), size)
        return self.batches(Task(wanted[first : first + size], (0, 0, first)) for first in firsts)

    def on_device(self, made: DetBatch) -> DetBatch:
        # to_tensor copies, from shared memory straight to the device
        boxes, classes = map(paddle.to_tensor, made.boxes), map(paddle.to_tensor, made.classes)
        return replace(made, images=paddle.to_tensor(made.images), boxes=list(boxes), classes=list(classes))


class _Maker(Maker[DetBatch]):
    def __init__(self, data: DetData, reader: Reader, where: str, seed: int, replace: bool) -> None:
        self.data, self.seed, self.replace = data, seed, replace
        self.of_sample, self.of_batch, largest = compile_reader(reader, where)
        self.shape = (3, *largest)

    def make(self, task: Task, slot: Slot, bad: dict[str, str]) -> DetBatch:
        seeds = (self.seed, *task.key)
        samples = [self._sample(index, (*seeds, number), bad) for number, index in enumerate(task.indices.tolist())]
        samples = run(self.of_batch, samples, *seeds, OF_BATCH)
        images = [each["image"] for each in samples]
        return DetBatch(
            images=np.stack(images, out=array_in(slot, (len(images), *images[0].shape))),
            boxes=[np.asarray(each["gt_bbox"], np.float32).reshape(-1, 4) for each in samples],
            classes=[np.asarray(each["gt_class"], np.int32).reshape(-1, 1) for each in samples],
            indices=np.array([each["index"] for each in samples], np.int64),
            scales=np.stack([each["scale_factor"] for each in samples]).astype(np.float32),
        )

    def _sample(self, index: int, seeds: tuple[int, ...], bad: dict[str, str]) -> Sample:
        others, reason = np.random.default_rng(seeds), ""
        for _ in range(_TRIES):
            try:
                return self._transformed(index, self._image(index), seeds)
            except (ImageError, ValueError, cv2.error) as error:  # what ppdet's operators raise on odd sizes
                path, told = self.data.paths[index], isinstance(error, ImageError)
                bad[path] = str(error).removeprefix(f"{path}: ") if told else f"an operator failed on it ({error})"
                reason = f"{path}: {bad[path]}"
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
                "its boxes do not fit; mend the annotation"
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
