"""Slim: pruning takes out what nobody hears any more, fake quantisation rounds as ONNX Runtime does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import paddle
import pytest
from onnx import TensorProto, helper

from shitu.errors import ConfigError
from shitu.training.rec.fake_quant import RoundedConv2D, add_rounding, rounded_input, rounded_weight
from shitu.training.rec.networks import RecModel, build_network
from shitu.training.rec.prune import find_bottlenecks, kept_channels, prune
from shitu.training.rec.schema import Prune, Quant, Slim, TrainConfig, load_train_config

ROOT = Path(__file__).resolve().parents[1]
SMALL = (3, 64, 64)


def configured(backbone: str = "EfficientNetLite0", **slim: Prune | Quant) -> TrainConfig:
    config = load_train_config(ROOT / "configs/train/EfficientNetLite0_finetune_cpu.yaml")
    backbone_section = replace(config.Arch.parts()[""].Backbone, name=backbone)
    settings = replace(config.Global, image_shape=SMALL)
    return replace(
        config, Global=settings, Arch=replace(config.Arch.without_heads(), Backbone=backbone_section), Slim=Slim(**slim)
    )


def network_of(config: TrainConfig) -> RecModel:
    paddle.seed(0)
    found = build_network(config.Arch, 1, image_shape=SMALL)
    assert isinstance(found, RecModel)
    return found


def run(network: RecModel, images: np.ndarray) -> np.ndarray:
    network.eval()
    with paddle.no_grad():
        return np.asarray(network.embed(paddle.to_tensor(images))["features"].numpy())


IMAGES = np.random.default_rng(0).normal(size=(2, *SMALL)).astype(np.float32)


@pytest.mark.parametrize("name", ["fpgm", "l1_norm"])
def test_a_pruned_network_is_smaller_and_still_one(name: str) -> None:
    config = configured(prune=Prune(name=name, pruned_ratio=0.5))  # type: ignore[arg-type]
    network = network_of(config)
    names, before = list(network.state_dict()), sum(each.size for each in network.parameters())
    prune(network, config)
    assert list(network.state_dict()) == names
    assert sum(each.size for each in network.parameters()) < 0.62 * before
    assert network.backbone.blocks[1].expand.conv.weight.shape == [48, 16, 1, 1]
    assert network.backbone.blocks[1].project.conv.weight.shape == [24, 48, 1, 1]
    assert run(network, IMAGES).shape == (2, 1280)
    network.train()
    network.embed(paddle.to_tensor(IMAGES))["features"].sum().backward()
    assert all(each.grad is not None for each in network.parameters() if not each.stop_gradient)


def test_channels_that_do_nothing_are_those_pruned() -> None:
    """Half of all filters zero, their norms too: without them the features are the same."""
    config = configured(prune=Prune(name="l1_norm", pruned_ratio=0.5))
    network = network_of(config)
    for block in network.backbone.blocks[1:]:
        width = block.expand.conv.weight.shape[0]
        alive = np.random.default_rng(width).permutation(width) < width // 2
        for layer in (block.expand.conv.weight, block.expand.bn.bias, block.depthwise.bn.bias):
            layer.set_value(layer.numpy() * alive.reshape(-1, *[1] * (layer.ndim - 1)).astype(np.float32))
    wanted = run(network, IMAGES)
    prune(network, config)
    np.testing.assert_allclose(run(network, IMAGES), wanted, atol=1e-5 * np.abs(wanted).max())


def test_which_filters() -> None:
    """On a line from 1 to 16 the smallest are the first eight, those in the middle of the others the middle eight."""
    filters = np.arange(1, 17, dtype=np.float32).reshape(16, 1, 1, 1)
    small = kept_channels(filters, Prune(name="l1_norm", pruned_ratio=0.5))
    assert small.tolist() == list(range(8, 16))
    near = kept_channels(filters, Prune(name="fpgm", pruned_ratio=0.5))
    assert near.tolist() == [0, 1, 2, 3, 12, 13, 14, 15]


def test_squeeze_and_excitation_is_followed() -> None:
    config = configured("MobileNetV3_small_x1_0", prune=Prune(pruned_ratio=0.5))
    network = network_of(config)
    blocks = find_bottlenecks(network.backbone, SMALL)
    assert [bool(each.gates) for each in blocks].count(True) >= 6
    before = sum(each.size for each in network.parameters())
    prune(network, config)
    assert sum(each.size for each in network.parameters()) < 0.9 * before
    assert np.isfinite(run(network, IMAGES)).all()


def test_a_network_without_such_blocks_is_refused() -> None:
    config = configured("ResNet18", prune=Prune())
    with pytest.raises(ConfigError, match=r"Slim\.prune: ResNet18 has no inverted bottleneck"):
        prune(network_of(config), config)


def test_rounding_is_onnx_runtimes() -> None:
    """QuantizeLinear and DequantizeLinear of the same step and zero."""
    x = np.random.default_rng(1).normal(size=200).astype(np.float32) * 3
    low, high = -2.0, 4.0
    step = (high - low) / 255
    zero = round(-low / step)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"]),
    ]
    constants = [
        helper.make_tensor("step", TensorProto.FLOAT, [], [step]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [zero]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [200]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = rounded_input(paddle.to_tensor(x), paddle.to_tensor(np.array([low, high], np.float32))).numpy()
    wanted = session.run(None, {"x": x})[0]
    assert (np.abs(found - wanted) < 1e-5).mean() > 0.98  # all but those in the middle of two steps
    np.testing.assert_allclose(found, wanted, atol=1.01 * step)


def test_weights_are_rounded_by_channel_and_learn_as_if_they_were_not() -> None:
    weight = paddle.to_tensor(np.array([[1.0, 0.5], [127.0, 0.4]], np.float32), stop_gradient=False)
    found = rounded_weight(weight, 0)
    np.testing.assert_allclose(found.numpy(), [[1.0, 64 / 127], [127.0, 0.0]], rtol=1e-6)
    (found * 3).sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), 3)


def test_rounding_keeps_names_and_learns_ranges() -> None:
    config = configured(quant=Quant())
    network = network_of(config)
    plain = run(network, IMAGES)
    names = set(network.state_dict())
    add_rounding(network, config, lambda: paddle.to_tensor(IMAGES))
    more = set(network.state_dict()) - names
    assert names < set(network.state_dict())
    assert {each.rpartition(".")[2] for each in more} == {"range"}
    assert type(network.backbone.stem.conv) is RoundedConv2D
    rounded = run(network, IMAGES)
    assert not np.array_equal(rounded, plain)
    cosine = (rounded * plain).sum(1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(plain, axis=1)
    assert cosine.min() > 0.9
    network.train()
    network.embed(paddle.to_tensor(IMAGES * 2))["features"].sum().backward()
    assert network.backbone.stem.conv.range.grad.abs().sum() > 0
    assert network.backbone.stem.conv.weight.grad is not None
