"""The networks in shitu/train: sizes known from the original package, and folding that changes nothing."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu.train.efficientnet_lite import EfficientNetLite, EfficientNetLiteEmbedding
from shitu.train.fuse import fuse_batch_norms


# parameters of efficientnet-lite-pytorch 0.1.0 without its classifier, and the width of its features
@pytest.mark.parametrize(("variant", "parameters"), [("lite0", 3_371_008), ("lite1", 4_135_680), ("lite2", 4_811_072)])
def test_as_large_as_the_original(variant: str, parameters: int) -> None:
    network = EfficientNetLite(variant)
    assert sum(int(np.prod(parameter.shape)) for parameter in network.parameters() if parameter.trainable) == parameters


def randomised(network: nn.Layer) -> nn.Layer:
    """Batch norms as after training: none is the identity."""
    rng = np.random.default_rng(0)
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            for tensor, low, high in ((layer.weight, 0.5, 1.5), (layer.bias, -0.5, 0.5)):
                tensor.set_value(rng.uniform(low, high, tensor.shape).astype("float32"))
            layer._mean.set_value(rng.uniform(-0.5, 0.5, layer._mean.shape).astype("float32"))
            layer._variance.set_value(rng.uniform(0.5, 1.5, layer._variance.shape).astype("float32"))
    return network


def test_folding_changes_no_output() -> None:
    network = randomised(EfficientNetLiteEmbedding())
    network.eval()
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype("float32"))
    before = network(x).numpy()
    norms = sum(isinstance(layer, nn.BatchNorm2D) for layer in network.sublayers())
    assert fuse_batch_norms(network) == norms
    assert not any(isinstance(layer, nn.BatchNorm2D) for layer in network.sublayers())
    np.testing.assert_allclose(network(x).numpy(), before, rtol=1e-3, atol=1e-4 * np.abs(before).max())


def test_a_convolution_with_a_bias_keeps_it() -> None:
    network = randomised(nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4)))
    network[0].bias.set_value(np.arange(4, dtype="float32"))
    network.eval()
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype("float32"))
    before = network(x).numpy()
    fuse_batch_norms(network)
    np.testing.assert_allclose(network(x).numpy(), before, atol=1e-5)
