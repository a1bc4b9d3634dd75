"""The losses between images against numpy twins and central differences, in the shape that PaddleClas can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from shitu.training.rec import schema_loss
from shitu.training.rec.losses import build_losses
from shitu.training.rec.schema_loss import CenterLoss, ContrastiveLoss_XBM, Loss
from tests import pair_loss_twins as twins
from tests.loss_twins import batch
from tests.numeric_gradient import check_gradient

CASES: list[tuple[str, twins.Twin, dict[str, Any]]] = [
    ("SupConLoss", twins.supcon, {}),
    ("SupConLoss", twins.supcon, {"temperature": 0.5, "base_temperature": 0.1}),
    ("TripletLossV2", twins.triplet, {}),
    ("TripletLossV2", twins.triplet, {"margin": 2.0, "normalize_feature": False}),
    ("PairwiseCosface", twins.cosface, {"margin": 0.1, "gamma": 4.0}),
    ("PairwiseCosface", twins.cosface, {}),
    ("ContrastiveLoss", twins.contrastive, {"margin": 0.1}),
    ("EmlLoss", twins.eml, {}),
    ("TriHardLoss", twins.trihard, {"margin": 0.7}),
    ("MSMLoss", twins.msm, {}),
    ("DSHSDLoss", twins.dshsd, {"alpha": 0.3}),
    ("LCDSHLoss", twins.lcdsh, {}),
    ("DCHLoss", twins.dch, {}),
]


def loss_of(section: Loss, features: Any, labels: np.ndarray, logits: np.ndarray | None = None) -> paddle.Tensor:
    outputs = {"features": features}
    if logits is not None:
        outputs["logits"] = paddle.to_tensor(logits)
    return build_losses((section,))(outputs, paddle.to_tensor(labels))["loss"]


@pytest.mark.parametrize(("name", "twin", "options"), CASES)
@pytest.mark.parametrize("images", [2, 3])
def test_value_and_gradient(name: str, twin: twins.Twin, options: dict[str, Any], images: int) -> None:
    features, labels = batch(4, (images,) * 4)
    x = features.astype(np.float64)
    section = getattr(schema_loss, name)(**options)
    logits = np.random.default_rng(1).normal(size=(len(x), 4)) if name == "DSHSDLoss" else None
    expected = twin(x, labels, **options, **({} if logits is None else {"logits": logits}))
    assert float(loss_of(section, paddle.to_tensor(x), labels, logits)) == pytest.approx(expected, rel=1e-6)
    check_gradient(lambda each: loss_of(section, each, labels, logits), x)
    single = loss_of(section, paddle.to_tensor(features), labels, None if logits is None else logits.astype("float32"))
    assert float(single) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", [name for name, _, _ in CASES if name != "DSHSDLoss"])
def test_rows_without_positive_or_negative_give_numbers(name: str) -> None:
    features, labels = batch(4, (1, 1, 2))
    for rows in (labels, np.zeros_like(labels)):
        x = paddle.to_tensor(features, stop_gradient=False)
        value = loss_of(getattr(schema_loss, name)(), x, rows)
        value.backward()
        assert np.isfinite(float(value))
        assert np.isfinite(x.grad.numpy()).all()


def test_centers_are_learned() -> None:
    features, labels = batch(4, (2, 3, 1))
    losses = build_losses((CenterLoss(num_classes=5, feat_dim=6, weight=0.5),))
    (centers,) = losses.parameters()
    assert centers.shape == [5, 6]
    apart = features - centers.numpy()[labels]
    value = losses({"features": paddle.to_tensor(features)}, paddle.to_tensor(labels))["loss"]
    assert float(value) == pytest.approx(0.5 * float((apart**2).sum(1).mean()), rel=1e-5)
    value.backward()
    expected = np.zeros((5, 6))
    np.add.at(expected, labels, -apart / len(labels))
    np.testing.assert_allclose(centers.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_contrastive_against_a_memory() -> None:
    """The first batch is not remembered, so the second is compared with itself twice."""
    first, second = (batch(seed, (2, 2, 2)) for seed in (1, 2))
    losses = build_losses((ContrastiveLoss_XBM(start_iter=1, xbm_size=100, xbm_weight=0.5),))
    values = [float(losses({"features": paddle.to_tensor(x)}, paddle.to_tensor(y))["loss"]) for x, y in (first, second)]
    one, two = (twins.contrastive(x.astype(np.float64), y) for x, y in (first, second))
    assert values == pytest.approx([one, 1.5 * two], rel=1e-4)
