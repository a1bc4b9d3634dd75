"""Cross-entropy and the weighted sum of losses, against numpy twins and central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from shitu.errors import ConfigError
from shitu.training.rec.losses import build_losses, cross_entropy
from shitu.training.rec.schema_loss import (
    CELoss,
    DistillationDMLLoss,
    TripletAngularMarginLoss,
    TripletAngularMarginLoss_XBM,
)
from tests.loss_twins import V2, batch, cross_entropy_twin, triplet_twin
from tests.numeric_gradient import check_gradient

# --- cross-entropy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [None, 0.0, 0.1, 0.9])
@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (8, 40)])
def test_cross_entropy_equals_soft_labels(epsilon: float | None, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(scale=3, size=shape), rng.integers(0, shape[1], shape[0])
    expected = cross_entropy_twin(logits, labels, epsilon or 0.0)
    total = build_losses((CELoss(epsilon=epsilon),))
    outputs = {"logits": paddle.to_tensor(logits, "float32"), "features": None}
    assert float(total(outputs, paddle.to_tensor(labels))["CELoss"]) == pytest.approx(expected, rel=1e-5)
    check_gradient(lambda x: cross_entropy(x, paddle.to_tensor(labels), epsilon or 0.0), logits)


def test_cross_entropy_of_logits_as_large_as_margin_heads_make_them() -> None:
    logits, labels = paddle.to_tensor([[80.0, -80.0, 0.0]]), paddle.to_tensor([1])
    assert float(cross_entropy(logits, labels)) == pytest.approx(160)
    sure = float(cross_entropy(logits, paddle.to_tensor([0])))
    assert 0 <= sure < 1e-30
    assert float(cross_entropy(logits, labels, 0.3)) == pytest.approx(0.7 * 160 + 0.1 * (0 + 160 + 80))


# --- the sum ---------------------------------------------------------------------------------------------------


def test_losses_are_weighted_named_and_summed() -> None:
    features, labels = batch(3)
    outputs = {"features": paddle.to_tensor(features), "backbone": paddle.to_tensor(features[:, ::-1] ** 2)}
    outputs["logits"] = paddle.to_tensor(features)
    sections = (
        CELoss(weight=2.0),
        TripletAngularMarginLoss_XBM(weight=0.5, xbm_size=5),
        TripletAngularMarginLoss(weight=3.0, feature_from="backbone"),
        CELoss(weight=0.25, epsilon=0.5),
        CELoss(weight=0.0),
    )
    losses = build_losses(sections)(outputs, paddle.to_tensor(labels))
    one = (features, labels)
    two = (features[:, ::-1] ** 2, labels)
    expected = {
        "CELoss": 2 * cross_entropy_twin(features, labels, 0.0),
        "TripletAngularMarginLoss_XBM": 0.5 * triplet_twin(sections[1], one, one),
        "TripletAngularMarginLoss": 3 * triplet_twin(sections[2], two, two),
        "CELoss_1": 0.25 * cross_entropy_twin(features, labels, 0.5),
        "CELoss_2": 0.0,
    }
    expected["loss"] = sum(expected.values())
    assert list(losses) == list(expected)
    assert {name: float(each) for name, each in losses.items()} == pytest.approx(expected, rel=1e-4)
    assert all(each.shape == [] for each in losses.values())


@pytest.mark.filterwarnings("ignore:amp_guard")  # on the CPU autocast does nothing, and this tests the cast alone
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_outputs_give_float32_losses(dtype: str) -> None:
    features, labels = batch(3)
    halves = paddle.to_tensor(features).astype(dtype)
    full = halves.astype("float32")
    total = build_losses((CELoss(epsilon=0.1), TripletAngularMarginLoss(**V2)))
    expected = total({"features": full, "logits": full}, paddle.to_tensor(labels))
    halves.stop_gradient = False
    with paddle.amp.auto_cast(level="O1", dtype=dtype):
        losses = total({"features": halves, "logits": halves}, paddle.to_tensor(labels))
    losses["loss"].backward()
    assert {name: float(each) for name, each in losses.items()} == {
        name: float(each) for name, each in expected.items()
    }
    assert {each.dtype for each in losses.values()} == {paddle.float32}
    assert halves.grad.dtype == halves.dtype


def test_a_loss_without_memory_has_no_state() -> None:
    assert not build_losses((CELoss(), TripletAngularMarginLoss())).state_dict()


TWO = {name: {"logits": paddle.ones([2, 3])} for name in ("Teacher", "Student")}
REFUSED = [
    ((), {}, "Loss.Train lists no loss"),
    (
        (CELoss(),),
        {"backbone": 1, "features": 1, "logits": None},
        "CELoss needs .*logits, but .* gives backbone, features; add Arch.H",
    ),
    ((TripletAngularMarginLoss(),), {"backbone": 1}, "TripletAngularMarginLoss needs the output features"),
    ((CELoss(),), TWO, r"CELoss is for one network, .*several \(Teacher, Student\); use DistillationGTCELoss"),
    ((DistillationDMLLoss(model_name_pairs=(("A", "B"),)),), {"logits": 1}, "needs Arch.name: DistillationModel"),
]


@pytest.mark.parametrize(("sections", "outputs", "message"), REFUSED, ids=[each[2][:20] for each in REFUSED])
def test_refused(sections: Any, outputs: dict[str, Any], message: str) -> None:
    outputs = {key: paddle.ones([2, 3]) if each == 1 else each for key, each in outputs.items()}
    with pytest.raises(ConfigError, match=message):
        build_losses(sections)(outputs, paddle.to_tensor([0, 1]))
