"""A detector's outputs -> rows (n, 6) float32: class, score, x1, y1, x2, y2.

In the photo's pixels, which Paddle's programs know of; in those of the network's input with a `head` in the card.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import EngineError, ModelError
from shitu.models import ModelFolder, Program

Floats = NDArray[np.float32]
BEFORE_NMS = ("yolo8", "yolo5", "yolox", "picodet")  # the heads whose boxes still overlap
Decode = Callable[[Sequence[NDArray[Any]]], Floats]


def decode_for(model: ModelFolder, program: Program, least: float = 0.0) -> Decode:
    """How the outputs of `program` become rows. Raises ModelError where a raw program's card states no `nms`.

    `least`: rows of a lower score are not wanted; our NMS then leaves them out at once. They suppress none above them.
    """
    head, nms = model.card.head, model.card.nms
    if head is None and not program.raw:
        return lambda outputs: checked_rows(outputs, str(model.path))
    if nms is None and (head is None or head.kind in BEFORE_NMS):
        raise ModelError(
            f"{program.program} ends before its NMS, and {model.path / 'model.yaml'} has no `nms`; add "
            "`nms: {score_threshold: 0.025, nms_threshold: 0.6, nms_top_k: 1000, keep_top_k: 100}` or what it was "
            "trained for"
        )
    if nms is not None and least > nms.score_threshold:  # which is exclusive
        nms = replace(nms, score_threshold=float(np.nextafter(np.float32(least), np.float32(0))))
    if head is not None:
        from shitu.recognise.heads import head_decoder

        return head_decoder(model, nms, least)
    assert nms is not None
    from shitu.recognise.nms import suppressed_rows

    return lambda outputs: suppressed_rows(outputs, nms, str(model.path))


def checked_rows(outputs: Sequence[NDArray[Any]], where: str) -> Floats:
    """What a program with its NMS inside returns first. `where` names the model in errors (EngineError)."""
    rows = outputs[0]
    if rows.size < 6:  # no object: programs return [0, 6] or a single -1
        return np.empty((0, 6), np.float32)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise EngineError(
            f"{where}: its first output has shape {list(rows.shape)}; wanted [N, 6] (class, score, x1, y1, x2, y2). "
            "Export the detector with its NMS, or name this program as `raw` in model.yaml"
        )
    return rows
