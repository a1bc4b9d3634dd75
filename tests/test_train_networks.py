"""The networks in shitu/training/rec: sizes known from the originals, names and outputs of PaddleClas's own RecModel,
freezing that holds, and folding that changes nothing."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.export import fuse_batch_norms
from shitu.training.base.toolkits import paddleclas
from shitu.training.rec.efficientnet_lite import EfficientNetLite
from shitu.training.rec.networks import RecModel, build_network, freeze, set_train_mode
from shitu.training.rec.schema_arch import (
    FC,
    ArcMargin,
    Backbone,
    BNNeck,
    CircleMargin,
    Constant,
    FCNeck,
    NamedModel,
    ParamAttr,
)
from shitu.training.rec.schema_arch import BackboneStopLayer as Stop
from shitu.training.rec.schema_arch import DistillationModel as DistillationSection
from shitu.training.rec.schema_arch import RecModel as Section
from shitu.training.rec.summary import describe


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
    network = randomised(EfficientNetLite())
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


# --- the network of a configuration --------------------------------------------------------------------------------

FLATTEN = Stop("flatten")
FROZEN = ParamAttr(Constant(0.0), learning_rate=1e-20)
V2 = Section(
    Backbone=Backbone(name="PPLCNetV2_base_ShiTu", class_expand=512),
    BackboneStopLayer=FLATTEN,
    Neck=BNNeck(num_features=512, bias_attr=FROZEN),
    Head=FC(embedding_size=512, bias_attr=ParamAttr(present=False)),
)
V1 = Section(
    Backbone=Backbone(name="PPLCNet_x2_5"),
    BackboneStopLayer=FLATTEN,
    Neck=FCNeck(embedding_size=1280, class_num=512),
    Head=ArcMargin(embedding_size=512, margin=0.2, scale=30.0),
)
SMALL = Section(
    Backbone=Backbone(name="PPLCNet_x0_25", class_expand=320),
    BackboneStopLayer=FLATTEN,
    Neck=BNNeck(num_features=320),
    Head=FC(embedding_size=320),
)
# the same as PaddleClas's own configurations have them
V2_PADDLECLAS: dict[str, Any] = {
    "Backbone": {"name": "PPLCNetV2_base_ShiTu", "pretrained": False, "class_expand": 512},
    "BackboneStopLayer": {"name": "flatten"},
    "Neck": {
        "name": "BNNeck",
        "num_features": 512,
        "weight_attr": {"initializer": {"name": "Constant", "value": 1.0}},
        "bias_attr": {"initializer": {"name": "Constant", "value": 0.0}, "learning_rate": 1.0e-20},
    },
    "Head": {
        "name": "FC",
        "embedding_size": 512,
        "class_num": 9,
        "weight_attr": {"initializer": {"name": "Normal", "std": 0.001}},
        "bias_attr": False,
    },
}
V1_PADDLECLAS: dict[str, Any] = {
    "Backbone": {"name": "PPLCNet_x2_5", "pretrained": False},
    "BackboneStopLayer": {"name": "flatten"},
    "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 512},
    "Head": {"name": "ArcMargin", "embedding_size": 512, "class_num": 9, "margin": 0.2, "scale": 30},
}


def images(count: int = 2, side: int = 64) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(1).normal(size=(count, 3, side, side)).astype("float32"))


@pytest.mark.parametrize(("arch", "theirs"), [(V2, V2_PADDLECLAS), (V1, V1_PADDLECLAS)], ids=["V2", "V1"])
def test_names_shapes_and_outputs_are_paddleclas_own(arch: Section, theirs: dict[str, Any]) -> None:
    original = randomised(paddleclas("ppcls.arch").RecModel(**theirs))
    ours = build_network(arch, 9)
    wanted = {name: tuple(tensor.shape) for name, tensor in original.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()} == wanted
    ours.set_state_dict(original.state_dict())
    for network in (original, ours):
        network.eval()
    expected, found = original(images()), ours(images())
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name].numpy(), tensor.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    # and in training, with labels; dropout drops the same
    labels = paddle.to_tensor([3, 7])
    for network in (original, ours):
        network.train()
    paddle.seed(5)
    expected = original(images(), labels)["logits"].numpy()
    paddle.seed(5)
    np.testing.assert_allclose(ours(images(), labels)["logits"].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_head_can_look_at_the_backbone() -> None:
    arch = replace(V1, Head=FC(embedding_size=1280), head_feature_from="backbone")
    network = build_network(arch, 4)
    network.eval()
    outputs = network(images())
    np.testing.assert_allclose(outputs["logits"].numpy(), network.head(outputs["backbone"]).numpy())
    assert outputs["features"].shape == [2, 512]


def test_without_neck_and_head_the_features_are_the_backbones() -> None:
    network = build_network(replace(SMALL, Neck=None, Head=None), 4)
    network.eval()
    outputs = network(images())
    assert outputs.keys() == {"backbone", "features"}
    np.testing.assert_array_equal(outputs["features"].numpy(), outputs["backbone"].numpy())


def test_a_distillation_gives_each_models_outputs() -> None:
    arch = DistillationSection(models=(NamedModel("Teacher", SMALL), NamedModel("Student", SMALL)))
    network = build_network(arch, 4)
    network.eval()
    outputs = network(images())
    assert outputs.keys() == {"Teacher", "Student"}
    assert outputs["Student"].keys() == {"backbone", "neck", "features", "logits"}
    assert {name.split(".")[0] for name in network.state_dict()} == {"Teacher", "Student"}
    np.testing.assert_array_equal(outputs["Student"]["logits"].numpy(), network.Student(images())["logits"].numpy())


def with_backbone(**keys: Any) -> Section:
    return replace(SMALL, Backbone=Backbone(**{"name": "PPLCNet_x0_25", "class_expand": 320, **keys}))


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        (with_backbone(name="PPLCNet_x2.5"), "did you mean PPLCNet_x2_5?"),
        (with_backbone(name="efficientnetlite0"), "did you mean EfficientNetLite0?"),
        (with_backbone(name="os.system"), "networks of PaddleClas and EfficientNetLite0"),
        (with_backbone(name="get_apis"), "Arch.Backbone.name is get_apis"),
        (with_backbone(name="ResNet50"), "Arch.Backbone.class_expand: ResNet50 has no such option"),
        (with_backbone(name="EfficientNetLite0"), "Arch.Backbone.class_expand: EfficientNetLite0 has no such option"),
        (
            with_backbone(name="PPLCNetV2_base_ShiTu", dropout_prob=0.5),
            "Arch.Backbone.dropout_prob: PPLCNetV2_base_ShiTu does not take it",
        ),
        (replace(SMALL, BackboneStopLayer=Stop("flaten")), "did you mean flatten?"),
        (replace(SMALL, BackboneStopLayer=Stop("blocks2[9]")), r"BackboneStopLayer\.name is blocks2\[9\]"),
        (replace(SMALL, BackboneStopLayer=Stop("blocks2[x]")), r"BackboneStopLayer\.name is blocks2\[x\]"),
        (replace(SMALL, BackboneStopLayer=Stop("forward")), "its layers are conv1, blocks2"),
        (
            replace(SMALL, Neck=BNNeck(num_features=512)),
            "Arch.Neck.num_features is 512, but the backbone PPLCNet_x0_25 gives 320 values; is this configuration "
            "for another network",
        ),
        (replace(SMALL, Neck=FCNeck(embedding_size=1280)), "Arch.Neck.embedding_size is 1280, but .* gives 320 values"),
        (
            replace(SMALL, Head=CircleMargin(embedding_size=64)),
            "Arch.Head.embedding_size is 64, but the neck gives 320",
        ),
        (replace(SMALL, Neck=None, BackboneStopLayer=Stop("blocks2")), "gives a map of 8x32x32"),
        (replace(SMALL, Head=FC(embedding_size=320, class_num=3)), "Arch.Head.class_num is 3"),
        (with_backbone(name="ViT_small_patch16_224", class_expand=None), "no such layer to stop after"),
        (
            replace(with_backbone(name="ViT_small_patch16_224", class_expand=None), BackboneStopLayer=None),
            "ViT_small_patch16_224 cannot take images of 64x64",
        ),
        (DistillationSection(), "Arch.models is empty"),
        (
            DistillationSection(
                models=(NamedModel("Student", replace(SMALL, Neck=BNNeck(num_features=5))),),
            ),
            "Arch.models.0.Student.Neck.num_features is 5",
        ),
    ],
)
def test_configs_for_another_network(arch: Any, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=said):
        build_network(arch, 4, image_shape=(3, 64, 64))
    assert capfd.readouterr().out == ""  # PaddleClas warns on stdout


def test_networks_whose_parameters_have_fixed_names_are_built_again() -> None:
    """As training does for its export. The names of all others stay different."""
    arch = Section(Backbone=Backbone(name="SqueezeNet1_1"))
    for _ in range(2):
        build_network(arch, 4, image_shape=(3, 64, 64))
    names = [p.name for _ in range(2) for p in build_network(SMALL, 4, image_shape=(3, 64, 64)).parameters()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "stop"), [("flatten", "flatten_0"), ("avg_pool", "adaptive_avg_pool2d_0")])
def test_stop_layers_by_their_old_names(name: str, stop: str) -> None:
    shapes = []
    for each in (name, stop):
        arch = Section(Backbone=Backbone(name="ResNet50"), BackboneStopLayer=Stop(name=each))
        shapes.append(build_network(arch, 4, image_shape=(3, 64, 64)).backbone(paddle.zeros([1, 3, 64, 64])).shape)
    assert shapes[0] == shapes[1] == ([1, 2048] if name == "flatten" else [1, 2048, 1, 1])


def test_stem_act_none_leaves_out_the_first_activation() -> None:
    stem = [
        build_network(Section(Backbone=Backbone(name="ResNet50", stem_act=act)), 4).backbone.stem[0]
        for act in ("relu", None)
    ]
    assert [each.act for each in stem] == ["relu", None]


def test_sync_batch_norm_is_for_gpus(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = replace(SMALL, use_sync_bn=True)
    with caplog.at_level(logging.WARNING, "shitu"):
        network = build_network(arch, 4)
    assert "on GPUs only" in caplog.text
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in network.sublayers())
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    network = build_network(arch, 4)
    kinds = {type(layer).__name__ for layer in network.sublayers() if "Norm" in type(layer).__name__}
    assert kinds == {"SyncBatchNorm"}
    assert network.state_dict().keys() == build_network(SMALL, 4).state_dict().keys()


# --- freezing ------------------------------------------------------------------------------------------------------


def state(network: nn.Layer) -> dict[str, Any]:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def moved_by_a_step(network: Any) -> set[str]:
    """Names of what two steps with weight decay change, statistics included."""
    before = state(network)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=network.parameters(), weight_decay=0.1)
    for _ in range(2):
        set_train_mode(network)
        outputs = network(images(4), paddle.to_tensor([0, 1, 2, 3]))
        outputs = outputs.get("Student", outputs)
        (outputs["logits"].square().mean() + outputs["features"].square().mean()).backward()
        optimizer.step()
        optimizer.clear_grad()
    return {name for name, array in state(network).items() if not np.array_equal(array, before[name])}


@pytest.mark.parametrize(
    ("layers", "inside", "outside"),
    [
        (("backbone",), ["backbone."], ["neck.", "head."]),
        (("backbone.conv1", "backbone.blocks2"), ["backbone.conv1.", "backbone.blocks2."], ["backbone.blocks3."]),
        (("backbone.blocks5.1",), ["backbone.blocks5.1."], ["backbone.blocks5.0.", "backbone.blocks5.2."]),
        (("neck.feat_bn", "head.fc.bias"), ["neck.feat_bn.", "head.fc.bias"], ["head.fc.weight", "backbone."]),
    ],
)
def test_what_is_frozen_stands_still(layers: tuple[str, ...], inside: list[str], outside: list[str]) -> None:
    arch = replace(SMALL, freeze_layers=layers)
    network = build_network(arch, 4)
    count = freeze(network, arch)
    frozen = {name for name in network.state_dict() if name.startswith(tuple(inside))}
    assert count == len(frozen & {name for name, _ in network.named_parameters()})
    moved = moved_by_a_step(network)
    assert not moved & frozen
    for prefix in outside:
        assert any(name.startswith(prefix) for name in moved)
    learning = {name for name, each in network.named_parameters() if not each.stop_gradient}
    assert learning.isdisjoint(frozen)


def test_frozen_norms_use_their_running_statistics() -> None:
    """What a frozen backbone makes of an image does not depend on the others in its batch."""
    arch = replace(SMALL, freeze_layers=("backbone",))
    network = build_network(arch, 4)
    freeze(network, arch)
    set_train_mode(network)
    assert network.neck.feat_bn.training
    network.backbone.dropout.eval()
    together = network.backbone(images(4)).numpy()
    alone = np.concatenate([network.backbone(images(4)[i : i + 1]).numpy() for i in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_freeze_befor_takes_what_is_defined_before_too() -> None:
    arch = replace(SMALL, Backbone=replace(SMALL.Backbone, freeze_befor="blocks4[0]"))
    network = build_network(arch, 4)
    freeze(network, arch)
    moved = moved_by_a_step(network)
    still = ("backbone.conv1.", "backbone.blocks2.", "backbone.blocks3.", "backbone.blocks4.0.")
    assert not [name for name in moved if name.startswith(still)]
    for prefix in ("backbone.blocks4.1.", "backbone.blocks5.0.", "backbone.last_conv.", "neck.", "head."):
        assert any(name.startswith(prefix) for name in moved)


def test_a_frozen_teacher() -> None:
    models = (NamedModel("Teacher", SMALL), NamedModel("Student", SMALL))
    arch = DistillationSection(models=models, freeze_params_list=(True, False))
    network = build_network(arch, 4)
    freeze(network, arch)
    moved = moved_by_a_step(network)
    assert moved
    assert all(name.startswith("Student.") for name in moved)


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        (replace(SMALL, freeze_layers=("backbone.block2",)), "Arch.freeze_layers names backbone.block2.*did you mean"),
        (replace(SMALL, freeze_layers=("stem",)), "no such layer"),
        (
            replace(SMALL, freeze_layers=("neck.feat_bn.weight",)),
            r"half of the norm neck\.feat_bn.*write neck\.feat_bn",
        ),
        (with_backbone(freeze_befor="blocks9"), r"Arch\.Backbone\.freeze_befor names blocks9.*did you mean blocks"),
    ],
)
def test_freezing_what_is_not_there(arch: Section, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        freeze(build_network(arch, 4), arch)


# --- size ----------------------------------------------------------------------------------------------------------


def test_the_size_of_the_published_network() -> None:
    """4.62 M parameters learn, 829 M multiply-adds when fused: counted by others, reference/pp-shitu.md 4.1."""
    network = build_network(V2, 9)
    before = state(network)
    size = describe(network)
    assert size.head == 512 * 9
    assert round((size.trainable - size.head) / 1e6, 2) == 4.62
    assert round(size.macs_exported / 1e6) == 829
    assert size.macs > size.macs_exported
    assert all(layer.training for layer in network.sublayers())
    assert all(np.array_equal(array, before[name]) for name, array in state(network).items())


def test_several_models_count_as_their_sum() -> None:
    arch = DistillationSection(models=(NamedModel("Teacher", SMALL), NamedModel("Student", SMALL)))
    both, one = describe(build_network(arch, 4), (3, 64, 64)), describe(build_network(SMALL, 4), (3, 64, 64))
    assert (both.parameters, both.head, both.macs) == (2 * one.parameters, 2 * one.head, 2 * one.macs)


def test_counting_by_hand() -> None:
    arch = replace(SMALL, Backbone=Backbone(name="MobileNetV1"), BackboneStopLayer=Stop("conv"), Neck=None, Head=None)
    network = build_network(arch, 4)
    assert isinstance(network, RecModel)
    # the first convolution alone: 3x3x3 inputs for each of 32 channels at half the side
    assert describe(network, (3, 64, 64)).macs == 27 * 32 * 32 * 32


@pytest.mark.parametrize(
    "name",
    ["PPLCNetV2_small", "PPLCNetV2_large", "PPLCNet_x1_0", "ResNet18_vd", "MobileNetV1", "MobileNetV3_small_x0_35"],
)
def test_other_backbones_build_and_run(name: str) -> None:
    network = build_network(Section(Backbone=Backbone(name=name, class_num=8)), 4, image_shape=(3, 64, 64))
    network.eval()
    assert network(images())["features"].shape == [2, 8]
