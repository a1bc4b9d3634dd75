"""Unit vectors -> packed bits, for dist_type hamming."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import ConfigError

log = logging.getLogger("shitu")
FEW_BITS = 0.05  # a code that tells things apart has about half of its bits set


class Packer:
    """`pack_bits`, with one warning where `round` leaves codes that hardly differ."""

    def __init__(self, method: str) -> None:
        self._method, self._warned = method, False

    def __call__(self, features: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        codes = pack_bits(features, self._method)
        if self._method == "round" and len(codes) and not self._warned:
            share = float(np.unpackbits(codes, axis=1).mean())
            if share < FEW_BITS:
                self._warned = True
                log.warning(
                    "RecPostProcess.Binarize.method is round, PaddleClas's default, which sets %.1f %% of the bits of "
                    "these vectors, so that their codes hardly differ; add -o RecPostProcess.Binarize.method=sign and "
                    "build the gallery anew",
                    100 * share,
                )
        return codes


def pack_bits(features: NDArray[np.floating[Any]], method: str = "sign") -> NDArray[np.uint8]:
    """(n, d) float -> (n, d / 8) uint8, most significant bit first.

    PaddleClas's Binarize: `sign` gives 1 for positive; `round` gives round(x + 1) - 1. At exactly 0, PaddleClas's
    sign yields (0 + 1) / 2 = 0.5, cut to 0: the same.
    """
    if features.shape[1] % 8:
        raise ConfigError(
            f"binary vectors need a dimension that is a multiple of 8, not {features.shape[1]}; use IP or L2"
        )
    bits = features > 0 if method == "sign" else np.round(features + 1) >= 2
    return np.packbits(bits, axis=1)
