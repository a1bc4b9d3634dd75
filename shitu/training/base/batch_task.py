"""One batch to be made by a data worker, and the random streams of a run by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What is random is drawn by generators that are seeded with where it is drawn: an image's augmentation with (seed,
# epoch, stream, batch index, position). Every other stream has a word of its own, which for those of five numbers is
# above every position; numpy fills up shorter ones with zeros, so theirs is none that could end in 0.
_ABOVE_POSITIONS = 1 << 20
OF_BATCH = _ABOVE_POSITIONS  # (seed, epoch, stream, batch index, OF_BATCH): a detector's operators on a whole batch
PK = _ABOVE_POSITIONS + 2  # (seed, epoch, stream, batch index, PK)
PERMUTATION = 1  # (seed, epoch, PERMUTATION); a detector's has no word: (seed, epoch)
IDENTITY = 3  # (seed, epoch, round, IDENTITY)
EMPTY_IMAGES = 4  # (seed, EMPTY_IMAGES, EMPTY_IMAGES): which images without boxes a detector is trained on


@dataclass(frozen=True)
class Task:
    """One batch: the entries of the list, and what its random numbers hang on: (epoch, stream, batch index)."""

    indices: NDArray[np.int64]
    key: tuple[int, int, int]
