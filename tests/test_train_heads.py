"""Necks and heads against numpy twins, paddleclas's gears, and central differences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest

from shitu.errors import ConfigError
from shitu.training.base import toolkits
from shitu.training.rec import schema_arch
from shitu.training.rec.heads import build_head, build_neck, param_attr
from tests.numeric_gradient import check_gradient

N, D, C = 6, 5, 7
LABELS = np.array([0, 6, 3, 3, 1, 5])

MARGIN_HEADS: list[schema_arch.Head] = [
    schema_arch.ArcMargin(embedding_size=D, margin=0.2, scale=30.0),
    schema_arch.ArcMargin(embedding_size=D, margin=2.0),  # angle + margin often passes 180 degrees
    schema_arch.ArcMargin(embedding_size=D, easy_margin=True),
    schema_arch.CosMargin(embedding_size=D),
    schema_arch.CircleMargin(embedding_size=D),
]


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(N, D))


@pytest.fixture(params=MARGIN_HEADS, ids=lambda head: f"{type(head).__name__}-{head.margin}")
def section(request: pytest.FixtureRequest) -> Any:
    paddle.seed(3)
    return request.param


def cosines(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (weight / np.linalg.norm(weight, axis=0))


def logit_twin(section: Any, cosine: float, true: bool) -> float:
    """One logit by the papers' formulas."""
    m = section.margin
    if isinstance(section, schema_arch.CosMargin):
        return float(section.scale * (cosine - m * true))
    if isinstance(section, schema_arch.CircleMargin):
        weight, centre = (max(1 + m - cosine, 0), 1 - m) if true else (max(cosine + m, 0), m)
        return float(section.scale * weight * (cosine - centre))
    angle = np.arccos(cosine)
    if not true or (section.easy_margin and cosine <= 0):
        return float(section.scale * cosine)
    if section.easy_margin or angle + m < np.pi:
        return float(section.scale * np.cos(angle + m))
    return float(section.scale * (cosine - m * np.sin(m)))


def test_margin_heads_equal_their_formulas(section: Any, features: np.ndarray) -> None:
    head = build_head(section, C)
    logits = head(paddle.to_tensor(features, "float32"), paddle.to_tensor(LABELS)).numpy()
    cosine = cosines(features, head.weight.numpy())
    expected = [[logit_twin(section, cosine[i, j], LABELS[i] == j) for j in range(C)] for i in range(N)]
    # the 1e-6 below PaddleClas's root moves a sine by up to 1e-3 where it is 0; here none is
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3)


def test_margin_heads_equal_paddleclas(section: Any, features: np.ndarray) -> None:
    keys = {key: value for key, value in vars(section).items() if key not in ("embedding_size", "class_num")}
    module = toolkits.paddleclas(f"ppcls.arch.gears.{type(section).__name__.lower()}")
    theirs = getattr(module, type(section).__name__)(D, C, **keys)
    ours = build_head(section, C)
    assert {key: each.shape for key, each in ours.state_dict().items()} == {"weight": [D, C]}
    ours.set_state_dict(theirs.state_dict())
    images, labels = paddle.to_tensor(features, "float32"), paddle.to_tensor(LABELS)
    np.testing.assert_allclose(
        ours(images, labels).numpy(), theirs(images, labels.unsqueeze(1)).numpy(), rtol=1e-5, atol=1e-5
    )
    ours.eval()
    theirs.eval()
    np.testing.assert_allclose(ours(images, labels).numpy(), theirs(images, labels).numpy(), rtol=1e-5, atol=1e-6)


def test_margin_heads_give_bare_cosines_in_eval_mode_and_without_labels(section: Any, features: np.ndarray) -> None:
    head = build_head(section, C)
    x, expected = paddle.to_tensor(features, "float32"), cosines(features, head.weight.numpy())
    np.testing.assert_allclose(head(x).numpy(), expected, atol=1e-6)
    head.eval()
    np.testing.assert_allclose(head(x, paddle.to_tensor(LABELS)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("section", MARGIN_HEADS[:4], indirect=True, ids=lambda head: f"{type(head).__name__}")
def test_gradients_of_margin_heads_by_central_differences(section: Any, features: np.ndarray) -> None:
    head = build_head(section, C)
    head.to(dtype="float64")
    labels = paddle.to_tensor(LABELS)
    mix = paddle.to_tensor(np.random.default_rng(1).normal(size=(N, C)))
    assert np.abs(check_gradient(lambda x: (head(x, labels) * mix).mean(), features)).max() > 0.01
    x = paddle.to_tensor(features)

    def by_weight(weight: paddle.Tensor) -> paddle.Tensor:
        del head.weight
        head.weight = weight
        return (head(x, labels) * mix).mean()

    assert np.abs(check_gradient(by_weight, head.weight.numpy())).max() > 0.01


def test_gradient_of_circle_margin_takes_its_weights_for_constants(features: np.ndarray) -> None:
    section = schema_arch.CircleMargin(embedding_size=D)
    head = build_head(section, C)
    cosine = paddle.to_tensor(cosines(features, head.weight.numpy()), stop_gradient=False)
    head.with_margin(cosine, paddle.to_tensor(LABELS).unsqueeze(1)).sum().backward()
    true = np.arange(C) == LABELS[:, None]
    expected = np.where(true, np.maximum(1.25 - cosine.numpy(), 0), np.maximum(cosine.numpy() + 0.25, 0))
    np.testing.assert_allclose(cosine.grad.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_vectors_at_the_edges_give_finite_gradients(section: Any, sign: int) -> None:
    """A zero vector, one that is a class's weight or its opposite, and a zero weight."""
    head = build_head(section, C)
    weight = head.weight.numpy()
    weight[:, 5] = 0
    head.weight.set_value(weight)
    x = np.zeros((3, D), np.float32)
    x[1] = sign * weight[:, 1]
    x[2] = 1e4
    x = paddle.to_tensor(x, stop_gradient=False)
    logits = head(x, paddle.to_tensor([0, 1, 5]))
    logits.sum().backward()
    assert np.isfinite(logits.numpy()).all()
    assert np.abs(x.grad.numpy()).max() < 1e6
    assert np.abs(head.weight.grad.numpy()).max() < 1e6


def test_a_cosine_that_rounding_put_beyond_one_is_no_nan() -> None:
    """What TF32 makes of equal vectors; PaddleClas's root becomes NaN."""
    cosine = paddle.to_tensor([[1.001, -1.001]], stop_gradient=False)
    logits = build_head(schema_arch.ArcMargin(embedding_size=D), 2).with_margin(cosine, paddle.to_tensor([[0]]))
    logits.sum().backward()
    assert np.isfinite(logits.numpy()).all()
    assert np.isfinite(cosine.grad.numpy()).all()


@pytest.mark.filterwarnings("ignore:amp_guard")  # on the CPU autocast does nothing, and this tests the cast alone
def test_margin_heads_compute_in_float32_under_autocast(section: Any, features: np.ndarray) -> None:
    head = build_head(section, C)
    halves = paddle.to_tensor(features, "bfloat16")
    labels = paddle.to_tensor(LABELS)
    expected = head(halves.astype("float32"), labels).numpy()
    with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        logits = head(halves, labels)
    assert logits.dtype == paddle.float32
    np.testing.assert_array_equal(logits.numpy(), expected)


def test_one_image_and_one_class(section: Any) -> None:
    head = build_head(section, 1)
    assert head(paddle.ones([1, D]), paddle.to_tensor([0])).shape == [1, 1]


def test_fc_equals_paddleclas_and_a_matrix_product(features: np.ndarray) -> None:
    theirs = toolkits.paddleclas("ppcls.arch.gears.fc").FC(D, C)
    ours = build_head(schema_arch.FC(embedding_size=D), C)
    assert {key: each.shape for key, each in ours.state_dict().items()} == {"fc.weight": [D, C], "fc.bias": [C]}
    ours.set_state_dict(theirs.state_dict())
    x = paddle.to_tensor(features, "float32")
    logits = ours(x, paddle.to_tensor(LABELS)).numpy()
    np.testing.assert_allclose(logits, theirs(x).numpy(), atol=1e-6)
    np.testing.assert_allclose(logits, features @ ours.fc.weight.numpy() + ours.fc.bias.numpy(), atol=1e-5)


def test_the_v2_head_begins_with_small_weights_and_no_bias() -> None:
    weight = schema_arch.ParamAttr(schema_arch.Normal(0.0, 0.001))
    bias = schema_arch.ParamAttr(present=False)
    head = build_head(schema_arch.FC(embedding_size=256, weight_attr=weight, bias_attr=bias), 400)
    assert list(head.state_dict()) == ["fc.weight"]
    values = head.fc.weight.numpy()
    assert abs(values.mean()) < 2e-5
    assert values.std() == pytest.approx(0.001, rel=0.02)


def test_class_num_none_takes_the_lists_classes_and_more_are_allowed() -> None:
    assert build_head(schema_arch.ArcMargin(embedding_size=D), 4).weight.shape == [D, 4]
    assert build_head(schema_arch.ArcMargin(embedding_size=D, class_num=9), 4).weight.shape == [D, 9]
    assert build_head(schema_arch.FC(embedding_size=D, class_num=9), 4).fc.weight.shape == [D, 9]


@pytest.mark.parametrize("kind", [schema_arch.FC, schema_arch.ArcMargin, schema_arch.CosMargin])
def test_a_head_with_too_few_outputs_is_refused(kind: Callable[..., schema_arch.Head]) -> None:
    with pytest.raises(ConfigError, match=r"fewer outputs .*class_num is 3, the train list has 4 classes; write"):
        build_head(kind(embedding_size=D, class_num=3), 4)


# --- necks and parameters --------------------------------------------------------------------------------------


def test_bn_neck_equals_its_formula_and_paddleclas(features: np.ndarray) -> None:
    theirs = toolkits.paddleclas("ppcls.arch.gears.bnneck").BNNeck(D)
    ours = build_neck(schema_arch.BNNeck(num_features=D))
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    x = paddle.to_tensor(features, "float32")
    expected = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
    np.testing.assert_allclose(ours(x).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(theirs(x).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(ours.feat_bn._mean.numpy(), 0.1 * features.mean(0), atol=1e-6)
    ours.eval()
    theirs.eval()
    np.testing.assert_allclose(ours(x.reshape([N, D, 1, 1])).numpy(), theirs(x).numpy(), atol=1e-6)


Optimize = Callable[[list[Any]], paddle.optimizer.Optimizer]
OPTIMIZERS: dict[str, Optimize] = {
    "momentum": lambda each: paddle.optimizer.Momentum(0.1, parameters=each, weight_decay=0.1),
    "groups": lambda each: paddle.optimizer.Momentum(0.1, parameters=[{"params": each, "weight_decay": 0.1}]),
    "adamw": lambda each: paddle.optimizer.AdamW(0.1, parameters=each, weight_decay=0.1),
    "sgd": lambda each: paddle.optimizer.SGD(0.1, parameters=each, grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0)),
}


@pytest.mark.parametrize("optimize", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("rate", [0.0, 1e-20])
def test_a_frozen_bias_stays_exactly_zero_and_the_scale_learns(
    rate: float, optimize: Optimize, features: np.ndarray
) -> None:
    bias = schema_arch.ParamAttr(schema_arch.Constant(0.0), learning_rate=rate)
    neck = build_neck(schema_arch.BNNeck(num_features=D, bias_attr=bias))
    optimizer = optimize(neck.parameters())
    for step in range(3):
        (neck(paddle.to_tensor(features, "float32")) ** 3).sum().backward()
        if step == 0:
            normal = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
            np.testing.assert_allclose(neck.feat_bn.weight.grad.numpy(), 3 * (normal**3).sum(0), rtol=1e-4, atol=1e-4)
        optimizer.step()
        optimizer.clear_grad()
    np.testing.assert_array_equal(neck.feat_bn.bias.numpy(), np.zeros(D))
    assert (neck.feat_bn.weight.numpy() != 1).all()


FROZEN_BIAS = schema_arch.BNNeck(num_features=D, bias_attr=schema_arch.ParamAttr(learning_rate=1e-20))


def test_the_bias_stays_frozen_in_a_synchronised_norm_and_the_neck_can_be_copied() -> None:
    neck = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(build_neck(FROZEN_BIAS))
    assert isinstance(neck.feat_bn, paddle.nn.SyncBatchNorm)
    neck.feat_bn.bias.backward()  # its own gradient would be 1; the layer itself runs on GPUs only
    np.testing.assert_array_equal(neck.feat_bn.bias.grad.numpy(), np.zeros(D))
    assert sorted(copy.deepcopy(neck).state_dict()) == sorted(neck.state_dict())


def test_the_bias_is_frozen_where_the_config_says_so_and_else_learns_as_in_paddleclas() -> None:
    frozen = build_neck(FROZEN_BIAS).feat_bn.bias
    frozen.backward()
    np.testing.assert_array_equal(frozen.grad.numpy(), np.zeros(D))
    silent = build_neck(schema_arch.BNNeck(num_features=D)).feat_bn.bias
    silent.backward()
    np.testing.assert_array_equal(silent.grad.numpy(), np.ones(D))
    learning = schema_arch.BNNeck(num_features=D, bias_attr=schema_arch.ParamAttr(learning_rate=0.5))
    bias = build_neck(learning).feat_bn.bias
    bias.backward()
    np.testing.assert_array_equal(bias.grad.numpy(), np.ones(D))
    assert bias.optimize_attr["learning_rate"] == 0.5
    without = build_neck(schema_arch.BNNeck(num_features=D, bias_attr=schema_arch.ParamAttr(present=False)))
    assert "feat_bn.bias" not in without.state_dict()
    assert without(paddle.ones([2, D])).shape == [2, D]
    bare = build_neck(schema_arch.BNNeck(num_features=D, weight_attr=schema_arch.ParamAttr()))
    assert bare.feat_bn.weight.numpy().tolist() == [1.0] * D


def test_fc_neck_has_paddleclas_names() -> None:
    neck = build_neck(schema_arch.FCNeck(embedding_size=8, class_num=D))
    assert {key: each.shape for key, each in neck.state_dict().items()} == {"fc.weight": [8, D], "fc.bias": [D]}


@pytest.mark.parametrize(
    ("initializer", "mean", "std"),
    [
        (schema_arch.Constant(0.5), 0.5, 0.0),
        (schema_arch.Normal(1.0, 0.1), 1.0, 0.1),
        (schema_arch.XavierNormal(), 0.0, (2 / 400) ** 0.5),
        (schema_arch.KaimingNormal(), 0.0, (2 / 200) ** 0.5),
    ],
    ids=lambda each: type(each).__name__,
)
def test_param_attr_begins_as_told(initializer: schema_arch.Initializer, mean: float, std: float) -> None:
    paddle.seed(1)
    attr = param_attr(schema_arch.ParamAttr(initializer, learning_rate=0.1))
    values = paddle.nn.Linear(200, 200, weight_attr=attr).weight.numpy()
    assert values.mean() == pytest.approx(mean, abs=2e-3)
    assert values.std() == pytest.approx(std, rel=0.02, abs=1e-7)


def test_fc_weights_begin_as_paddleclas_where_the_config_says_nothing() -> None:
    paddle.seed(1)
    values = build_head(schema_arch.FC(embedding_size=100), 300).fc.weight.numpy()
    assert values.std() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert np.abs(values).max() > 0.2  # a normal distribution; Xavier's uniform one ends at 0.12


def test_vehicle_neck_equals_paddleclas(features: np.ndarray) -> None:
    theirs = toolkits.paddleclas("ppcls.arch.gears.vehicle_neck").VehicleNeck(D, 5)
    ours = build_neck(schema_arch.VehicleNeck(in_channels=D, out_channels=5))
    ours.set_state_dict(theirs.state_dict())
    maps = paddle.to_tensor(features, "float32").reshape([N, D, 1, 1])
    np.testing.assert_allclose(ours(maps).numpy(), theirs(maps).numpy(), rtol=1e-6)
    assert ours(paddle.ones([2, D, 2, 3])).shape == [2, 30]


def test_tanh_neck() -> None:
    np.testing.assert_allclose(
        build_neck(schema_arch.Tanh())(paddle.to_tensor([0.5])).numpy(), np.tanh([0.5]), rtol=1e-6
    )


@pytest.mark.parametrize("kind", [schema_arch.KaimingNormal, schema_arch.KaimingUniform])
def test_kaiming_with_a_fan_in_of_its_own(kind: Any) -> None:
    """He et al. 2015: a standard deviation of sqrt(2 / fan_in)."""
    attr = schema_arch.ParamAttr(kind(fan_in=5000))
    head = build_head(schema_arch.FC(embedding_size=200, class_num=300, weight_attr=attr, bias_attr=attr), 4)
    assert float(head.fc.weight.numpy().std()) == pytest.approx(np.sqrt(2 / 5000), rel=0.05)
    assert float(head.fc.bias.numpy().std()) == pytest.approx(np.sqrt(2 / 5000), rel=0.2)
