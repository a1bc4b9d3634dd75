"""Blocks of a backbone: computed twice instead of kept, and learning at rates of their own."""

from __future__ import annotations

import copy
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.log import read_records
from shitu.training.base.memory import estimate_memory
from shitu.training.rec.blocks import blocks_of, recomputable, recompute_blocks
from shitu.training.rec.networks import RecModel, build_network, freeze, set_train_mode
from shitu.training.rec.plan import build_optimizer
from shitu.training.rec.rates import rates_told, set_rates
from shitu.training.rec.run import run_training
from shitu.training.rec.schema import load_train_config
from shitu.training.rec.schema_arch import FC, Backbone, BackboneStopLayer, FCNeck
from shitu.training.rec.schema_arch import RecModel as Arch
from shitu.training.rec.schema_optimizer import L2, SGD, Adam, AdamW, Group, Momentum, Optimizer
from tests.conftest import DEMO, ROOT
from tests.train_det_set import no_bar

SHAPE = (3, 64, 64)
NOTHING = nn.Layer()


def network_of(name: str, arch: Arch | None = None) -> RecModel:
    """With the same random weights whenever it is asked for."""
    paddle.seed(1)
    arch = arch or Arch(Backbone=Backbone(name=name), BackboneStopLayer=BackboneStopLayer("flatten"))
    network = build_network(arch, 4, image_shape=SHAPE)
    assert isinstance(network, RecModel)
    freeze(network, arch)
    return network


def backward(network: RecModel) -> tuple[dict[str, np.ndarray], float, int]:
    """Gradients, loss, and how many numbers the forward pass kept, of a batch with the same dropped units."""
    set_train_mode(network)
    images = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("float32")
    kept: list[int] = []

    def keep(tensor: paddle.Tensor) -> paddle.Tensor:
        kept.append(tensor.size)
        return tensor

    paddle.seed(7)
    with paddle.autograd.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(paddle.to_tensor(images))["features"].square().mean()
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None}
    return gradients, float(loss), sum(kept)


@pytest.mark.parametrize("name", ["EfficientNetLite0", "PPLCNetV2_base_ShiTu", "PPLCNet_x0_25"])
@pytest.mark.parametrize("frozen", [False, True], ids=["all learns", "half is frozen"])
def test_recomputing_changes_nothing_but_what_is_kept(name: str, frozen: bool) -> None:
    """Blocks that are dropped at random, dropout, and running statistics included; to the last bit."""
    still = {"EfficientNetLite0": "backbone.blocks.3", "PPLCNetV2_base_ShiTu": "backbone.stages.1"}
    layers = (still.get(name, "backbone.blocks3"),) if frozen else ()
    arch = Arch(Backbone=Backbone(name), BackboneStopLayer=BackboneStopLayer("flatten"), freeze_layers=layers)
    plain, again = network_of(name, arch), network_of(name, arch)
    recompute_blocks(again)
    (wanted, loss, kept), (found, same_loss, kept_again) = backward(plain), backward(again)
    assert same_loss == loss
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        np.testing.assert_array_equal(found[key], gradient, err_msg=key)
    for key, value in plain.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key].numpy(), value.numpy(), err_msg=key)
    assert kept_again < kept / 2


def test_a_copy_recomputes_itself() -> None:
    network = network_of("PPLCNet_x0_25")
    recompute_blocks(network)
    other = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.set_value(paddle.zeros_like(parameter))
    assert backward(other)[1] == backward(network_of("PPLCNet_x0_25"))[1]


def test_the_estimate_is_of_blocks_outputs_and_the_largest_inside() -> None:
    """A network of two blocks of which all is known: 2 x (8 x 8) -> 3 x 8 x 8 -> 5 x 8 x 8."""

    def block(inputs: int, outputs: int) -> nn.Layer:
        made = nn.Layer()
        made.conv, made.norm = nn.Conv2D(inputs, outputs, 3, padding=1), nn.BatchNorm2D(outputs)
        made.forward = lambda x: made.norm(made.conv(x))  # type: ignore[method-assign]
        return made

    network = nn.Sequential(block(2, 3), block(3, 5), nn.Flatten())
    shape = {"image_shape": (2, 8, 8)}
    assert estimate_memory(network, 1, **shape).activations == 4 * 64 * (3 + 3 + 5 + 5 + 5)
    blocks = list(blocks_of(network))
    assert len(blocks) == 2
    again = estimate_memory(network, 10, recomputed=blocks, **shape)
    assert again.activations == 4 * 10 * 64 * (3 + 5 + 5 + (5 + 5))


def test_blocks_are_in_order_and_none_is_in_another() -> None:
    backbone = network_of("EfficientNetLite0").backbone
    names = {id(layer): name for name, layer in backbone.named_sublayers()}
    assert [names[id(block)] for block in blocks_of(backbone)] == ["stem", *(f"blocks.{n}" for n in range(16)), "head"]
    assert len(recomputable(network_of("PPLCNet_x0_25"))) == 14  # last_conv holds no layers


def test_a_run_that_recomputes_has_the_same_losses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both `recompute` and rates of its own, through the whole of training: optimizer, average, evaluation aside."""
    caplog.set_level(logging.INFO, "shitu")
    told = []
    for name in ("plain", "again"):
        values = {
            **{"Global.output_dir": tmp_path / name, "Global.max_iters": 3, "Global.print_batch_step": 1},
            **{"Global.eval_during_train": False, "DataLoader.Train.loader.num_workers": 0, "EMA.decay": 0.9},
            **{"DataLoader.Train.dataset.image_root": DEMO, "Arch.recompute": name == "again"},
            **{"DataLoader.Train.dataset.cls_label_path": DEMO / "gallery.txt", "Optimizer.layer_decay": 0.9},
        }
        overrides = tuple(f"{key}={value}" for key, value in values.items())
        config = load_train_config(ROOT / "configs" / "train" / "demo_cpu.yaml", overrides)
        run_training(config, resume=False, overwrite=False, progress=no_bar, export=False)
        told.append([record["loss"] for record in read_records(tmp_path / name / "RecModel" / "metrics.jsonl")])
        assert len(told[-1]) == 3
    assert told[0] == told[1]
    logs = [f"{name}/RecModel/train.log" for name in ("plain", "again")]
    text = (tmp_path / logs[1]).read_text(encoding="utf-8")
    assert re.search(r"learning rate  x 0\.9 +for [\d,]+ of the numbers that learn", text)
    found = [
        re.search(r"layer outputs of 48 images ([\d.]+) MB", (tmp_path / each).read_text("utf-8")) for each in logs
    ]
    memory = [float(each[1]) for each in found if each]
    assert memory[1] < memory[0] / 2


# --- rates -------------------------------------------------------------------------------------------------------


def moved(section: Optimizer, network: RecModel) -> dict[str, float]:
    """How far each parameter that learns goes in a step whose gradients are all 1, at a rate of 0.5."""
    learning = [(name, p) for name, p in network.named_parameters() if not p.stop_gradient]
    optimizer = build_optimizer(section, network, NOTHING)
    before = {name: p.numpy().copy() for name, p in learning}
    for _, parameter in learning:
        parameter.grad = paddle.ones_like(parameter)
    optimizer.set_lr(0.5)
    optimizer.step()
    return {name: float(np.abs(p.numpy() - before[name]).max()) for name, p in learning}


GROUPS = (Group(names=("backbone",), lr_mult=0.1), Group(names=("backbone.stem", "neck.fc.bias"), lr_mult=0.02))
WHOLE = Arch(
    Backbone=Backbone(name="EfficientNetLite0"),
    Neck=FCNeck(embedding_size=1280, class_num=8),
    Head=FC(embedding_size=8),
)


@pytest.mark.parametrize("section", [SGD(), Momentum(), Adam(), AdamW(weight_decay=0.0)])
def test_groups_move_at_their_rates(section: Optimizer) -> None:
    """With gradients of 1, each of these goes as far as its rate in the first step."""
    went = moved(replace(section, groups=GROUPS), network_of("", WHOLE))
    for name, distance in went.items():
        rate = 0.02 if name.startswith("backbone.stem") or name == "neck.fc.bias" else 0.1 if "backbone" in name else 1
        assert distance == pytest.approx(0.5 * rate, rel=1e-3), name


def test_a_group_s_weight_decay_is_slower_too() -> None:
    """AdamW's decay is lr x coefficient x weight, with the group's lr."""
    network = network_of("", WHOLE)
    weights = {name: p.numpy().copy() for name, p in network.named_parameters()}
    optimizer = build_optimizer(AdamW(weight_decay=0.2, groups=GROUPS[:1]), network, NOTHING)
    for parameter in network.parameters():
        parameter.grad = paddle.zeros_like(parameter)
    optimizer.set_lr(0.5)
    optimizer.step()
    after = {name: p.numpy() for name, p in network.named_parameters()}
    for name, rate in (("neck.fc.weight", 1.0), ("backbone.blocks.2.expand.conv.weight", 0.1)):
        np.testing.assert_allclose(after[name], weights[name] * (1 - 0.5 * rate * 0.2), rtol=1e-5)


def test_layer_decay_goes_down_from_the_last_block() -> None:
    """18 blocks: the last has 0.5 of the neck's rate, the stem 0.5 to the power of 18."""
    went = moved(SGD(layer_decay=0.5), network_of("", WHOLE))
    assert went["neck.fc.weight"] == pytest.approx(0.5, rel=1e-3)
    assert went["backbone.head.conv.weight"] == pytest.approx(0.5 * 0.5, rel=1e-3)
    assert went["backbone.blocks.15.project.conv.weight"] == pytest.approx(0.5 * 0.25, rel=1e-3)
    assert went["backbone.blocks.0.project.bn.bias"] == pytest.approx(0.5 * 0.5**17, rel=1e-2)


def test_paddleclas_s_lr_mult_list() -> None:
    """PP-LCNet's: stem, blocks2 to blocks6; times what a group says."""
    rates = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    backbone = Backbone(name="PPLCNet_x0_25", lr_mult_list=rates)
    arch = Arch(Backbone=backbone, BackboneStopLayer=BackboneStopLayer("flatten"))
    network = network_of("", arch)
    set_rates(Momentum(groups=(Group(names=("backbone.blocks4",), lr_mult=0.5),)), network)
    found = {name: p.optimize_attr["learning_rate"] for name, p in network.named_parameters()}
    assert found["backbone.conv1.conv.weight"] == 0.0
    assert found["backbone.blocks3.0.dw_conv.bn.bias"] == 0.4
    assert found["backbone.blocks4.1.pw_conv.conv.weight"] == pytest.approx(0.3)
    assert found["backbone.blocks6.1.se.conv1.weight"] == 1.0
    told = list(rates_told(network))
    assert [line.split()[3] for line in told] == ["0", "0.2", "0.3", "0.4", "0.8", "1"]
    assert not list(rates_told(network_of("PPLCNet_x0_25")))


@pytest.mark.parametrize(
    ("arch", "section", "wanted"),
    [
        (WHOLE, Momentum(groups=(Group(names=("backbone.blok",)),)), r"Optimizer.groups.0.names names backbone.blok"),
        (replace(WHOLE, Backbone=Backbone("PPLCNet_x0_25", lr_mult_list=(1.0,))), Momentum(), "length should be 6"),
        (
            replace(WHOLE, Backbone=Backbone("EfficientNetLite0", lr_mult_list=(1.0,))),
            Momentum(),
            "lr_mult_list: EfficientNetLite0 has no such option",
        ),
        (
            replace(WHOLE, Backbone=Backbone("MobileNetV1", lr_mult_list=(1.0,))),
            Momentum(),
            "lr_mult_list: MobileNetV1 does not take it",
        ),
    ],
)
def test_what_is_not_there_is_refused(arch: Arch, section: Optimizer, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        build_optimizer(section, network_of("", arch), NOTHING)


def test_l2_goes_with_the_group_s_rate() -> None:
    """Momentum's is part of the gradient."""
    network = network_of("", WHOLE)
    weight = network.backbone.stem.conv.weight.numpy().copy()
    optimizer = build_optimizer(Momentum(regularizer=L2(coeff=0.5), groups=GROUPS), network, NOTHING)
    for parameter in network.parameters():
        parameter.grad = paddle.zeros_like(parameter)
    optimizer.set_lr(0.1)
    optimizer.step()
    np.testing.assert_allclose(network.backbone.stem.conv.weight.numpy(), weight * (1 - 0.1 * 0.02 * 0.5), rtol=1e-5)
