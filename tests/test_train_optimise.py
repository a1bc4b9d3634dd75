"""Who decays, who moves, and a state that survives a new process's parameter names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.checkpoints import optimizer_state, set_optimizer_state
from shitu.training.base.ema import MovingAverage
from shitu.training.base.log import Meter
from shitu.training.base.processes import average_gradients
from shitu.training.rec.losses import build_losses
from shitu.training.rec.plan import build_optimizer
from shitu.training.rec.schema import TrainConfig, load_train_config
from shitu.training.rec.schema_loss import CenterLoss
from shitu.training.rec.schema_optimizer import L2, SGD, Adam, AdamW, Momentum, Optimizer

NOTHING = nn.Layer()
OPTIMIZERS = [SGD(), Momentum(), Momentum(use_nesterov=True), Adam(), AdamW()]


def small_network() -> nn.Sequential:
    paddle.seed(1)
    return nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def one_step(network: nn.Layer, optimizer: paddle.optimizer.Optimizer, number: int) -> None:
    x = np.random.default_rng(number).normal(size=(6, 3, 8, 8)).astype("float32")
    network(paddle.to_tensor(x)).square().mean().backward()
    optimizer.set_lr(0.1)
    optimizer.step()
    optimizer.clear_grad()


def values(network: nn.Layer) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    "section",
    [
        Momentum(regularizer=L2(coeff=0.5), decay_bn_and_bias=False),
        SGD(regularizer=L2(coeff=0.5), one_dim_param_no_weight_decay=True),
        AdamW(weight_decay=0.5, no_weight_decay_name="bias 1.weight"),
    ],
)
def test_norms_and_biases_do_not_decay_where_asked(section: Optimizer) -> None:
    network = small_network()
    optimizer = build_optimizer(section, network, NOTHING)
    before = values(network)
    for parameter in network.parameters():
        parameter.grad = paddle.zeros_like(parameter)
    optimizer.set_lr(0.1)
    optimizer.step()
    after = values(network)
    for name in ("0.weight", "3.weight"):  # w - lr * 0.5 * w
        np.testing.assert_allclose(after[name], before[name] * 0.95, rtol=1e-5)
    for name in ("0.bias", "1.weight", "1.bias", "3.bias"):
        np.testing.assert_array_equal(after[name], before[name])


def test_all_decays_but_what_a_network_exempts_itself() -> None:
    network = small_network()
    network[0].bias.regularizer = paddle.regularizer.L2Decay(0.0)  # as PaddleClas's backbones do
    network[0].bias.set_value(np.ones(4, "float32"))
    optimizer = build_optimizer(Momentum(regularizer=L2(coeff=0.5)), network, NOTHING)
    for parameter in network.parameters():
        parameter.grad = paddle.zeros_like(parameter)
    optimizer.set_lr(0.1)
    optimizer.step()
    np.testing.assert_allclose(network[1].weight.numpy(), np.full(4, 0.95), rtol=1e-5)
    np.testing.assert_array_equal(network[0].bias.numpy(), np.ones(4))


def test_momentum_by_hand() -> None:
    network = nn.Linear(1, 1, bias_attr=False)
    network.weight.set_value(np.array([[2.0]], "float32"))
    optimizer = build_optimizer(Momentum(momentum=0.9, regularizer=L2(coeff=0.1)), network, NOTHING)
    weight, velocity = 2.0, 0.0
    for gradient in (1.0, -0.5, 3.0):
        network.weight.grad = paddle.to_tensor([[gradient]])
        optimizer.set_lr(0.1)
        optimizer.step()
        velocity = 0.9 * velocity + gradient + 0.1 * weight
        weight -= 0.1 * velocity
    assert float(network.weight) == pytest.approx(weight, rel=1e-6)


def test_gradients_are_clipped_by_their_common_norm() -> None:
    network = nn.Linear(2, 1, bias_attr=False)
    before = network.weight.numpy().copy()
    optimizer = build_optimizer(SGD(clip_global_norm=1.0), network, NOTHING)
    network.weight.grad = paddle.to_tensor([[3.0], [4.0]])
    optimizer.set_lr(1.0)
    optimizer.step()
    np.testing.assert_allclose(before - network.weight.numpy(), [[0.6], [0.8]], rtol=1e-5)


def test_all_frozen_is_an_error() -> None:
    network = small_network()
    for parameter in network.parameters():
        parameter.stop_gradient = True
    with pytest.raises(ConfigError, match="nothing is left to train"):
        build_optimizer(Momentum(), network, NOTHING)


@pytest.mark.parametrize("section", OPTIMIZERS, ids=lambda section: type(section).__name__)
def test_a_state_carries_over_to_new_names(section: Optimizer) -> None:
    network = small_network()
    optimizer = build_optimizer(section, network, NOTHING)
    for number in range(3):
        one_step(network, optimizer, number)
    state, weights = optimizer_state(optimizer, network), values(network)
    one_step(network, optimizer, 3)
    other = small_network()  # in this process its parameters have other names than the first one's
    other.set_state_dict({name: paddle.to_tensor(value) for name, value in weights.items()})
    resumed = build_optimizer(section, other, NOTHING)
    set_optimizer_state(resumed, other, state)
    one_step(other, resumed, 3)
    for name, value in values(network).items():
        np.testing.assert_array_equal(values(other)[name], value, err_msg=name)


def test_moving_average() -> None:
    network = small_network()
    ema = MovingAverage(network, 0.75)
    wanted = values(network)
    optimizer = build_optimizer(Momentum(), network, NOTHING)
    for number in range(4):
        one_step(network, optimizer, number)
        ema.update()
        now = values(network)
        wanted = {name: 0.75 * value + 0.25 * now[name] for name, value in wanted.items()}
    with ema.in_place():
        for name, value in values(network).items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-5, atol=1e-7)
    for name, value in values(network).items():
        np.testing.assert_array_equal(value, now[name])
    other = MovingAverage(small_network(), 0.75)
    other.set_state(ema.state(), ema.position())
    for name, value in other.state().items():
        np.testing.assert_array_equal(value, ema.state()[name])


def test_meter_weighs_by_images() -> None:
    meter = Meter()
    meter.add({"loss": paddle.to_tensor(1.0)}, 3)
    meter.add({"loss": paddle.to_tensor(5.0)}, 1)
    assert meter.means(1) == {"loss": 2.0}
    assert meter.take(1) == {"loss": 2.0}
    assert meter.take(1) == {}


def test_gradients_of_two_dtypes_are_averaged_each_with_its_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AMP O2 has them on several GPUs: float16 layers, and between them float32 norms. Another process's
    gradients are stood in for by three times this one's, so that the mean is twice; who has none counts as zero.
    """
    sent: list[tuple[str, int]] = []

    def with_another(bucket: paddle.Tensor, group: object = None) -> None:
        sent.append((str(bucket.dtype).rpartition(".")[2], bucket.size))
        bucket.set_value(bucket * 4)

    monkeypatch.setattr("paddle.distributed.all_reduce", with_another)
    monkeypatch.setattr("paddle.distributed.get_world_size", lambda *_: 2)
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.LayerNorm(2))
    for number in (0, 2):
        network[number].to(dtype="float16")
    parameters = network.parameters()
    parameters[0].stop_gradient = True  # frozen
    for number, parameter in enumerate(parameters[2:]):
        parameter.grad = paddle.full_like(parameter, number + 1.0)
    average_gradients(parameters, 2)
    assert parameters[0].grad is None
    for number, parameter in enumerate(parameters[1:]):
        assert parameter.grad.dtype == parameter.dtype
        np.testing.assert_array_equal(parameter.grad.numpy(), np.full(parameter.shape, 2.0 * number))
    assert sorted(sent) == [("float16", 4 + 8 + 2), ("float32", 4 + 4 + 2 + 2)]


def of_list(folder: Path, first: str, *others: str) -> TrainConfig:
    path = folder / "config.yaml"
    path.write_text("Optimizer:\n" + "".join(f"  - {each}\n" for each in (first, *others)), encoding="utf-8")
    return load_train_config(path)


ADAM = "{Adam: {scope: RecModel, lr: {name: Constant, learning_rate: 0.5}}}"
CENTERS = "{SGD: {scope: CenterLoss, lr: {name: Constant, learning_rate: 1000.0}}}"


def test_a_loss_learns_at_its_own_rate(tmp_path: Path) -> None:
    """PaddleClas's list of optimizers: Adam for the network, SGD for the centres at 1000 times the loss's weight."""
    section = of_list(tmp_path, ADAM, CENTERS).Optimizer
    network, losses = nn.Linear(3, 2), build_losses((CenterLoss(num_classes=4, feat_dim=2, weight=0.0005),))
    optimizer = build_optimizer(section, network, losses)
    (centers,), before, weight = losses.parameters(), losses.parameters()[0].numpy(), network.weight.numpy()
    assert len(optimizer._parameter_list) == 3
    features, labels = network(paddle.ones([2, 3])), np.array([1, 3])
    losses({"features": features}, paddle.to_tensor(labels))["loss"].backward()
    optimizer.set_lr(0.01)
    optimizer.step()
    moved = np.zeros((4, 2), np.float32)
    moved[labels] = 1000 * 0.0005 * (features.numpy() - before[labels])
    np.testing.assert_allclose(centers.numpy(), before + moved, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.abs(network.weight.numpy() - weight), 0.01, rtol=1e-2)
    optimizer.clear_grad()
    assert not centers.grad.numpy().any()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((CENTERS,), r"Optimizer\.scope is 'CenterLoss'.*one of all, RecModel is wanted"),
        (
            (ADAM, CENTERS.replace("CenterLoss", "RecModel")),
            r"scope is 'RecModel'.*a loss is wanted, such as CenterLoss",
        ),
        ((ADAM, ADAM), r"unknown name Adam: one of SGD is wanted"),
        ((ADAM, CENTERS.replace("Constant", "Cosine")), r"lr is 'Cosine'.*Constant without warm-up is wanted"),
        ((ADAM.replace("Constant", "Constnt"),), r"Optimizer\.lr.*unknown name Constnt: did you mean Constant"),
        (("3",), r"Optimizer is \[3\].*a section with a name is wanted"),
    ],
)
def test_lists_that_do_not_fit(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of_list(tmp_path, *rows)


def test_a_scope_that_no_loss_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the scope CenterLoss is no loss"):
        build_optimizer(of_list(tmp_path, ADAM, CENTERS).Optimizer, nn.Linear(3, 2), NOTHING)
