"""The pool by itself: whatever a worker makes comes out as it would without workers, by slot or by pipe."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.errors import ImageError
from shitu.training.base.worker_pool import Slot, array_in, made_ahead


@dataclass(frozen=True)
class Made:
    images: NDArray[np.float32]
    parts: list[NDArray[np.float32]]
    others: list[NDArray[np.generic]]
    error: Exception


def make(side: int, slot: Slot) -> Made:
    """Images of `side` in the slot, some of them once more; beside them, arrays of other kinds and an error."""
    images = array_in(slot, (4, side, side))
    images[:] = np.random.default_rng(side).random(images.shape)
    # of other numbers, of nothing, of text, in another order
    others = [np.arange(side) * 0.5, np.empty((0, 4), np.float32), np.array(["图"]), images[:, ::2].copy().T]
    return Made(images, [images[1:3], images[:0], images[:, 1]], others, ImageError(f"图 {side}: too small"))


def four_squares(side: int) -> int:
    return 4 * 4 * side * side


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("bytes_of", [four_squares, None, lambda _: 200])
def test_what_a_worker_makes_comes_out_as_it_is(workers: int, bytes_of: Callable[[int], int] | None) -> None:
    """The sizes grow beyond those of the first tasks, and so beyond the slots."""
    sides = [3, 5, 4, 2, 5, 3, 4, 9, 2, 12, 3]
    count = 0
    for side, made in zip(sides, made_ahead(make, sides, workers, bytes_of=bytes_of), strict=True):
        wanted = make(side, np.empty(0, np.uint8))
        for one, other in zip(
            (made.images, *made.parts, *made.others), (wanted.images, *wanted.parts, *wanted.others), strict=True
        ):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
        assert (type(made.error), str(made.error)) == (ImageError, f"图 {side}: too small")
        count += 1
    assert count == len(sides)
    assert not multiprocessing.active_children()


def test_an_array_in_a_slot_is_handed_over_without_a_copy() -> None:
    first, second, third = (made.images for made in made_ahead(make, [3] * 3, 1, bytes_of=four_squares))
    assert np.shares_memory(first, third)
    assert not np.shares_memory(first, second)


def test_no_tasks_need_no_workers() -> None:
    assert list(made_ahead(make, [], 2, bytes_of=four_squares)) == []
