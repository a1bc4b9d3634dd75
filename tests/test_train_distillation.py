"""Distillation losses against numbers worked out by hand, PaddleClas's formula in numpy, and central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from shitu.errors import ConfigError
from shitu.training.rec.losses import build_losses
from shitu.training.rec.schema_loss import DistillationDistanceLoss, DistillationDMLLoss, DistillationGTCELoss, Loss
from tests.numeric_gradient import check_gradient

PAIR = (("Student", "Teacher"),)
LABELS = np.array([2, 0, 1, 1])


def outputs(key: str, **models: Any) -> dict[str, dict[str, paddle.Tensor]]:
    return {name: {key: paddle.to_tensor(np.asarray(each, np.float64))} for name, each in models.items()}


def value(section: Loss, given: Any) -> float:
    return float(build_losses((section,))(given, paddle.to_tensor(LABELS))["loss"])


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.normal(scale=2, size=(4, 3)), rng.normal(scale=2, size=(4, 3))


def dml_twin(a: np.ndarray, b: np.ndarray, act: str) -> float:
    """PaddleClas's dmlloss.py as it reads: mean over the elements of class_num * (KL + KL) / 2, with its 1e-12."""
    if act == "softmax":
        p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (a, b))
    else:
        p, q = (1 / (1 + np.exp(-x)) for x in (a, b))
    elements = q * np.log((q + 1e-12) / (p + 1e-12)) + p * np.log((p + 1e-12) / (q + 1e-12))
    return float((a.shape[1] * elements / 2).mean())


def test_dml_by_hand() -> None:
    """Rows (3/4, 1/4) against (1/4, 3/4): (3/4 - 1/4) * ln 3 * 2 / 2 = ln(3) / 2; equal rows: 0; mean ln(3) / 4."""
    a = np.log([[3.0, 1.0], [5.0, 5.0]])
    b = np.log([[1.0, 3.0], [2.0, 2.0]])
    section = DistillationDMLLoss(model_name_pairs=PAIR)
    assert value(section, outputs("logits", Student=a, Teacher=b)) == pytest.approx(np.log(3) / 4)


@pytest.mark.parametrize("act", ["softmax", "sigmoid"])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_dml_equals_paddleclas_formula(act: Any, scale: float, two: tuple[np.ndarray, np.ndarray]) -> None:
    """Also with logits so far apart that probabilities fall below 1e-12, as with ArcMargin."""
    a, b = two[0] * scale, two[1] * scale
    section = DistillationDMLLoss(model_name_pairs=PAIR, act=act)
    expected = dml_twin(a, b, act)
    assert value(section, outputs("logits", Student=a, Teacher=b)) == pytest.approx(expected, rel=1e-9)
    assert value(section, outputs("logits", Student=b, Teacher=a)) == pytest.approx(expected, rel=1e-9)
    singles = {
        name: {"logits": each["logits"].astype("float32")}
        for name, each in outputs("logits", Student=a, Teacher=b).items()
    }
    assert value(section, singles) == pytest.approx(expected, rel=1e-4)


def test_dml_of_impossible_classes_is_finite() -> None:
    x = paddle.to_tensor([[1000.0, -1000.0]], stop_gradient=False)
    given = {"Student": {"logits": x}, "Teacher": {"logits": -x.detach()}}
    loss = build_losses((DistillationDMLLoss(model_name_pairs=PAIR),))(given, None)["loss"]
    loss.backward()
    assert float(loss) == pytest.approx(12 * np.log(10), rel=1e-5)
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("l2", (0.25 + 0 + 9 + 1) / 4), ("l1", (0.5 + 0 + 3 + 1) / 4), ("smooth_l1", (0.125 + 0 + 2.5 + 0.5) / 4)],
)
def test_distance_by_hand(mode: Any, expected: float) -> None:
    given = outputs("backbone", Student=[[1.5, 2], [3, 4]], Teacher=[[1, 2], [0, 5]])
    section = DistillationDistanceLoss(mode=mode, model_name_pairs=PAIR)
    assert value(section, given) == pytest.approx(expected)


@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_gt_ce_is_the_sum_over_the_models(epsilon: float | None, two: tuple[np.ndarray, np.ndarray]) -> None:
    smooth = (1 - (epsilon or 0)) * np.eye(3)[LABELS] + (epsilon or 0) / 3
    each = [-(smooth * (x - np.log(np.exp(x).sum(1, keepdims=True)))).sum(1).mean() for x in two]
    given = outputs("logits", Student=two[0], Teacher=two[1])
    both = DistillationGTCELoss(model_names=("Student", "Teacher"), epsilon=epsilon)
    one = DistillationGTCELoss(model_names=("Teacher",), epsilon=epsilon)
    assert value(both, given) == pytest.approx(sum(each))
    assert value(one, given) == pytest.approx(each[1])


def test_several_pairs_are_summed_and_weighted(two: tuple[np.ndarray, np.ndarray]) -> None:
    given = outputs("logits", A=two[0], B=two[1], C=np.zeros((4, 3)))
    section = DistillationDMLLoss(model_name_pairs=(("A", "B"), ("A", "C")), weight=0.5)
    expected = 0.5 * (dml_twin(*two, "softmax") + dml_twin(two[0], np.zeros((4, 3)), "softmax"))
    assert value(section, given) == pytest.approx(expected)


SECTIONS: list[Loss] = [
    DistillationGTCELoss(model_names=("Student",), epsilon=0.1),
    DistillationDMLLoss(model_name_pairs=PAIR),
    DistillationDMLLoss(model_name_pairs=PAIR, act="sigmoid"),
    *(DistillationDistanceLoss(key="logits", mode=mode, model_name_pairs=PAIR) for mode in ("l2", "l1", "smooth_l1")),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: f"{type(each).__name__}")
def test_gradients_by_central_differences(section: Loss, two: tuple[np.ndarray, np.ndarray]) -> None:
    total, labels = build_losses((section,)), paddle.to_tensor(LABELS)
    teacher = {"logits": paddle.to_tensor(two[1])}
    gradient = check_gradient(lambda x: total({"Student": {"logits": x}, "Teacher": teacher}, labels)["loss"], two[0])
    assert np.abs(gradient).max() > 0.01


def test_both_models_learn() -> None:
    a, b = (paddle.to_tensor([[1.0, 0.0]]) * sign for sign in (1, -1))
    a.stop_gradient = b.stop_gradient = False
    given = {"Student": {"logits": a}, "Teacher": {"logits": b}}
    build_losses((DistillationDMLLoss(model_name_pairs=PAIR),))(given, None)["loss"].backward()
    np.testing.assert_allclose(a.grad.numpy(), -b.grad.numpy())
    assert np.abs(a.grad.numpy()).max() > 0.1


UNKNOWN = (("Student", "Docent"),)
REFUSED: list[tuple[Loss, str]] = [
    (
        DistillationGTCELoss(model_names=("Pupil",)),
        "GTCELoss names the model Pupil, but the models are Student, Teacher",
    ),
    (DistillationDMLLoss(model_name_pairs=UNKNOWN), "DMLLoss names the model Docent, but the models are Student, Teac"),
    (DistillationDistanceLoss(key="logits", model_name_pairs=UNKNOWN), "DistanceLoss names the model Docent"),
    (DistillationDistanceLoss(model_name_pairs=PAIR), "DistanceLoss for Student needs the output backbone, .* logits"),
    (DistillationDMLLoss(model_name_pairs=PAIR), r"equal shapes, but Student has \[4, 3\], Teacher \[4, 2\]"),
    (DistillationGTCELoss(), "DistillationGTCELoss.model_names is empty"),
    (DistillationDMLLoss(), "DistillationDMLLoss.model_name_pairs is empty"),
    (DistillationDistanceLoss(), "DistillationDistanceLoss.model_name_pairs is empty"),
]


@pytest.mark.parametrize(("section", "message"), REFUSED, ids=[each[1][:30] for each in REFUSED])
def test_refused(section: Loss, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        value(section, outputs("logits", Student=np.ones((4, 3)), Teacher=np.ones((4, 2))))
