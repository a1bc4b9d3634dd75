"""What becomes of a detector's outputs: Paddle's NMS and ours are one, on random boxes and on photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from numpy.typing import NDArray

from shitu.config import load_config
from shitu.engines.base import EngineOptions
from shitu.engines.paddle import Paddle
from shitu.errors import EngineError, ModelError
from shitu.images.read import read_image
from shitu.models import Nms, Program, open_model
from shitu.recognise.decode import checked_rows, decode_for
from shitu.recognise.detect import Detector
from shitu.recognise.from_config import DetPredictor
from shitu.recognise.nms import multiclass_nms, suppressed_rows
from tests.conftest import DEMO, SHARED

CASES = 1000
PHOTOS = sorted((DEMO / "photos").glob("*.jpg")) + sorted((SHARED / "data/drinks").rglob("*.jp*g"))[:10]


def by_paddle(boxes: NDArray[np.float32], scores: NDArray[np.float32], nms: Nms) -> NDArray[np.float32]:
    """The operator itself; what it returns for no row is one row of -1 or none."""
    rows, _, count = paddle._C_ops.multiclass_nms3(
        paddle.to_tensor(boxes[None]), paddle.to_tensor(scores[None]), None,
        nms.score_threshold, nms.nms_top_k, nms.keep_top_k, nms.nms_threshold, True, 1.0, -1,
    )  # fmt: skip
    found: NDArray[np.float32] = rows.numpy().reshape(-1, 6)[: int(count[0])]
    return found


def random_case(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], Nms]:
    """Clusters, as a detector's; some whole-numbered (equal overlaps), of no area, inverted; scores that tie."""
    count, classes = int(rng.integers(1, 120)), int(rng.integers(1, 4))
    centres = rng.uniform(0, 300, (max(1, count // 8), 2))[rng.integers(0, max(1, count // 8), count)]
    centres = centres + rng.normal(0, 8, (count, 2))
    sides = rng.uniform(0, 120, (count, 2)) * (rng.random((count, 1)) > 0.05)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    if rng.random() < 0.3:
        boxes = np.round(boxes / 20) * 20
    inverted = rng.random(count) < 0.02
    boxes[inverted] = boxes[inverted][:, [2, 3, 0, 1]]
    scores = rng.random((classes, count))
    if rng.random() < 0.3:
        scores = np.round(scores, 1)
    nms = Nms(
        score_threshold=float(rng.choice([0.0, 0.025, 0.3, 0.95])),
        nms_threshold=float(rng.choice([0.0, 0.3, 0.5, 0.6, 1.0])),
        nms_top_k=int(rng.choice([-1, 5, 40, 1000])),
        keep_top_k=int(rng.choice([-1, 1, 10, 100])),
    )
    return boxes.astype(np.float32), scores.astype(np.float32), nms


def test_our_nms_is_paddle_s_on_a_thousand_cases() -> None:
    rng, rows = np.random.default_rng(7), 0
    for number in range(CASES):
        boxes, scores, nms = random_case(rng)
        wanted, found = by_paddle(boxes, scores, nms), multiclass_nms(boxes, scores, nms)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted, err_msg=f"case {number}: {nms}")
        rows += len(wanted)
    assert rows > 10 * CASES


@pytest.fixture(scope="module")
def both() -> tuple[Detector, Detector]:
    """The bundled detector by its program with the NMS inside, and by the one that ends before it; every box."""
    config = load_config(None, ["Global.engine=paddle", "Global.threshold=0", "Global.max_det_results=1000"])
    whole = DetPredictor(config)
    raw = whole.model.find("paddle", raw=True)
    assert raw is not None
    session = Paddle().open(raw, EngineOptions(threads=2))
    decode = decode_for(whole.model, raw)
    return whole, Detector(
        whole.model, session, decode, whole.preprocess, threshold=0, max_results=1000, labels=whole.labels
    )


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_both_programs_find_the_same_in_a_photo(photo: Path, both: tuple[Detector, Detector]) -> None:
    seen: list[list[Any]] = []
    for detector in both:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(detector, "_select", lambda rows, *_: seen.append(rows) or [])
            detector.predict([read_image(photo)])
    assert len(seen[0]) == len(seen[1]) > 0
    np.testing.assert_allclose(seen[1], seen[0], atol=0.05, rtol=0)
    np.testing.assert_allclose(np.array(seen[1])[:, 1], np.array(seen[0])[:, 1], atol=1e-5)


@pytest.mark.parametrize("least", [0.0, 0.02, 0.1, 0.3, 0.5])
def test_what_is_not_wanted_is_left_out_and_nothing_else(least: float, both: tuple[Detector, Detector]) -> None:
    """Also a row whose score is the least itself."""
    model = both[1].model
    raw = model.find("paddle", raw=True)
    assert raw is not None
    rng = np.random.default_rng(3)
    for _ in range(50):
        corner, size = rng.uniform(0, 200, (300, 2)), rng.uniform(5, 120, (300, 2))
        boxes = np.concatenate([corner, corner + size], 1).astype(np.float32)[None]
        scores = rng.choice(np.float32([0.01, 0.02, 0.1, 0.3, 0.4, 0.5, 0.9]), (1, 1, 300))
        wanted = decode_for(model, raw)([boxes, scores])
        found = decode_for(model, raw, least)([boxes, scores])
        np.testing.assert_array_equal(found, wanted[wanted[:, 1] >= np.float32(least)])


@pytest.mark.parametrize("shape", [(0, 6), (1, 1), (1,), (0,)])
def test_no_object(shape: tuple[int, ...]) -> None:
    assert checked_rows([np.full(shape, -1, np.float32)], "m").shape == (0, 6)
    assert suppressed_rows([np.zeros((1, 0, 4)), np.zeros((1, 2, 0))], Nms(0.1, 0.5), "m").shape == (0, 6)


def test_outputs_of_the_other_kind_are_told() -> None:
    with pytest.raises(EngineError, match=r"shape \[1, 8500, 4\]; wanted \[N, 6\].* as `raw`"):
        checked_rows([np.zeros((1, 8500, 4), np.float32)], "m")
    for shapes in ([(7, 6), (1,)], [(7, 6)], [(1, 9, 4), (1, 1, 8)], [(2, 9, 4), (2, 1, 9)]):
        with pytest.raises(EngineError, match=r"wanted boxes \[1, A, 4\] and scores \[1, C, A\]"):
            suppressed_rows([np.zeros(shape, np.float32) for shape in shapes], Nms(0.1, 0.5), "m")


def test_a_raw_program_wants_to_know_its_nms() -> None:
    model = open_model("picodet_lcnet_x1_0_mainbody", task="detection")
    model = replace(model, card=replace(model.card, nms=None))
    with pytest.raises(ModelError, match=r"ends before its NMS, and .* has no `nms`; add"):
        decode_for(model, Program("toy", "fp32", Path("raw.onnx"), raw=True))
