"""Batches of images for training and evaluation, made ahead in worker processes.

What a batch holds depends on (seed, epoch, stream, batch index, position) only, so neither on the number of workers nor
on where an epoch begins. A bad image is replaced by another of its class, in an evaluation left out; either is counted.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from shitu.errors import ConfigError, ImageError
from shitu.images.read import Picture
from shitu.training.base.loader import Loader, Maker, Task, tasks_of
from shitu.training.base.task import Batches
from shitu.training.base.worker_pool import Slot, array_in
from shitu.training.rec.image_list import ImageList
from shitu.training.rec.transforms import Transform


@dataclass(frozen=True)
class Batch:
    """Tensors on paddle's current device; as a worker makes it, arrays in their place.

    A replaced image's `index` and label are its replacement's.
    """

    images: Any  # (n, 3, height, width) float32
    labels: Any  # (n,) int64
    index: NDArray[np.int64]  # (n,) which entry of the list each row shows
    replaced: int = 0


class _Loader(Loader[Batch]):
    def on_device(self, made: Batch) -> Batch | None:
        if not len(made.index):
            return None
        # to_tensor copies, from shared memory straight to the device
        return replace(made, images=paddle.to_tensor(made.images), labels=paddle.to_tensor(made.labels))


class TrainLoader(_Loader):
    """One step is one batch of each of `streams`. Raises ConfigError where images come out in different sizes."""

    def __init__(
        self, images: ImageList, sampler: Batches, transform: Transform, *, seed: int, streams: Sequence[int],
        workers: int, use_shared_memory: bool = True,
    ) -> None:  # fmt: skip
        maker = BatchMaker(images, transform, seed=seed, replace=True)
        bad_are = "replaced by others of the same class"
        super().__init__(maker, workers, use_shared_memory=use_shared_memory, bad_are=bad_are)
        self.sampler, self.streams, self.transform = sampler, tuple(streams), transform

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Step by step, and in a step stream by stream; closing the iterator ends its workers.

        Raises ImageError where no image of a class can be read, EngineError where a worker dies.
        """
        return self.batches(tasks_of(self.sampler, epoch, self.streams, start_step))


class EvalLoader(_Loader):
    """The images of `indices` in their order, each once; iterate as often as wanted. Bad ones are left out."""

    def __init__(
        self, images: ImageList, transform: Transform, indices: np.ndarray, batch_size: int, workers: int
    ) -> None:
        maker = BatchMaker(images, transform, seed=0, replace=False)
        super().__init__(maker, workers, use_shared_memory=True, bad_are="left out")
        self.indices, self.batch_size = np.asarray(indices, np.int64), batch_size

    def __len__(self) -> int:
        return ceil(len(self.indices) / self.batch_size)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches of `batch_size`, smaller where images are left out and at the end. Raises EngineError."""
        starts = range(0, len(self.indices), self.batch_size)
        return self.batches(
            Task(self.indices[start : start + self.batch_size], (0, 0, start // self.batch_size)) for start in starts
        )


class BatchMaker(Maker[Batch]):
    """Raises ConfigError where the transform makes images of different sizes."""

    def __init__(self, images: ImageList, transform: Transform, *, seed: int, replace: bool) -> None:
        if transform.size is None:
            raise ConfigError(
                "transform_ops makes images of different sizes, which no batch can hold; end with ResizeImage to one "
                "size, CropImage or RandCropImage"
            )
        self.images, self.transform, self.seed, self.replace = images, transform, seed, replace
        self.shape = (3, *transform.size)
        self._known_bad: dict[int, str] = {}  # to this process; saves reading a bad image again

    def make(self, task: Task, slot: Slot, bad: dict[str, str]) -> Batch:
        out = array_in(slot, (len(task.indices), *self.shape))
        shown: list[int] = []
        replaced = 0
        for position, wanted in enumerate(task.indices.tolist()):
            seed = [self.seed, *task.key, position]
            index, picture = wanted, self._read(wanted, bad)
            if picture is None and self.replace:
                index, picture = self._another(wanted, task.indices, np.random.default_rng([*seed, 1]), bad)
                replaced += 1
            if picture is not None:
                out[len(shown)] = self.transform(picture, np.random.default_rng(seed))
                shown.append(index)
        index = np.array(shown, np.int64)
        return Batch(out[: len(shown)], self.images.labels[index], index, replaced)

    def _read(self, index: int, bad: dict[str, str]) -> Picture | None:
        path = self.images.path(index)
        if index not in self._known_bad:
            try:
                return self.images.read(index)
            except ImageError as error:
                self._known_bad[index] = str(error).removeprefix(f"{path}: ")
        bad[path] = self._known_bad[index]
        return None

    def _another(
        self, index: int, batch: NDArray[np.int64], rng: np.random.Generator, bad: dict[str, str]
    ) -> tuple[int, Picture]:
        """Another image of the same class, if possible one that the batch does not hold yet."""
        of_class = np.flatnonzero(self.images.labels == self.images.labels[index])
        order = rng.permutation(of_class)
        in_batch = np.isin(order, batch)
        for other in (*order[~in_batch].tolist(), *order[in_batch].tolist()):
            picture = self._read(other, bad)
            if picture is not None:
                return other, picture
        files = [f"{self.images.path(each)} ({self._known_bad[each]})" for each in of_class[:3].tolist()]
        more = f" and {len(of_class) - 3} more" if len(of_class) > 3 else ""
        raise ImageError(
            f"label {self.images.original_labels[self.images.labels[index]]}: none of its {len(of_class)} images can "
            f"be read: {', '.join(files)}{more}; mend them, or take the class out of the list"
        )
