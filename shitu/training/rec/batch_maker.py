"""What a loader's worker does: read the images of one batch, replace bad ones, transform, stack. Numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ConfigError, ImageError, ShituError
from shitu.images.read import Picture, read_image
from shitu.training.base.batch_task import Task
from shitu.training.base.worker_pool import Slot, array_in

if TYPE_CHECKING:
    from shitu.training.rec.image_list import ImageList
    from shitu.training.rec.transforms import Transform


@dataclass(frozen=True)
class Made:
    """One batch in numpy, or the error that kept it from being made."""

    images: NDArray[np.float32]  # (n, 3, height, width)
    index: NDArray[np.int64]  # (n,) which entry of the list each row shows
    bad: dict[str, str]  # path -> reason
    replaced: int = 0
    error: ShituError | None = None


class BatchMaker:
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

    def bytes_of(self, task: Task) -> int:
        """What the task's images take."""
        return 4 * len(task.indices) * prod(self.shape)

    def __call__(self, task: Task, slot: Slot) -> Made:
        """The images go into the slot."""
        bad: dict[str, str] = {}
        out = array_in(slot, (len(task.indices), *self.shape))
        try:
            return self._make(task, out, bad)
        except ShituError as error:
            return Made(out[:0], np.empty(0, np.int64), bad, error=error)

    def _make(self, task: Task, out: NDArray[np.float32], bad: dict[str, str]) -> Made:
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
        return Made(out[: len(shown)], np.array(shown, np.int64), bad, replaced)

    def _read(self, index: int, bad: dict[str, str]) -> Picture | None:
        path = self.images.path(index)
        if index not in self._known_bad:
            try:
                return read_image(path)
            except ImageError as error:
                self._known_bad[index] = str(error).removeprefix(f"{path}: ")
        bad[path] = self._known_bad[index]
        return None

    def _another(
        self, index: int, batch: NDArray[np.int64], rng: np.random.Generator, bad: dict[str, str]
    ) -> tuple[int, Picture]:
        """Another image of the same class, if possible one that the batch does not hold yet."""
        of_class = np.flatnonzero(self.images.labels == self.images.labels[index])
        for other in _in_random_order(of_class, batch, rng):
            picture = self._read(other, bad)
            if picture is not None:
                return other, picture
        files = [f"{self.images.path(each)} ({self._known_bad[each]})" for each in of_class[:3].tolist()]
        more = f" and {len(of_class) - 3} more" if len(of_class) > 3 else ""
        raise ImageError(
            f"label {self.images.original_labels[self.images.labels[index]]}: none of its {len(of_class)} images can "
            f"be read: {', '.join(files)}{more}; mend them, or take the class out of the list"
        )


def _in_random_order(of_class: NDArray[np.int64], batch: NDArray[np.int64], rng: np.random.Generator) -> Iterator[int]:
    order = rng.permutation(of_class)
    in_batch = np.isin(order, batch)
    yield from order[~in_batch].tolist()
    yield from order[in_batch].tolist()
