"""One batch to be made by a data worker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Task:
    """One batch: the entries of the list, and what its random numbers hang on: (epoch, stream, batch index)."""

    indices: NDArray[np.int64]
    key: tuple[int, int, int]
