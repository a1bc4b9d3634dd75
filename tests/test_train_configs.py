"""Every shipped training config: read, its hyperparameters as published, its network built and trained for a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from shitu.errors import ConfigError
from shitu.training.rec.losses import build_losses
from shitu.training.rec.networks import build_network, freeze, set_train_mode
from shitu.training.rec.plan import build_optimizer, make_plan
from shitu.training.rec.schema import TrainConfig, load_train_config
from shitu.training.rec.transforms import compile_transform
from tests.conftest import ROOT, Write

CONFIGS = sorted((ROOT / "configs" / "train").glob("*.yaml"))
V2 = ROOT / "configs" / "train" / "GeneralRecognitionV2_PPLCNetV2_base.yaml"
V1 = ROOT / "configs" / "train" / "GeneralRecognition_PPLCNet_x2_5.yaml"


def with_few_classes(config: Path) -> TrainConfig:
    """The heads of the shipped files have up to 192,612 classes; a test needs no gigabytes."""
    raw = yaml.safe_load(config.read_text(encoding="utf-8"))
    arch = raw["Arch"]
    overrides = [
        f"Arch.models.{i}.{name}.Head.class_num=12"
        for i, each in enumerate(arch.get("models", []))
        for name, model in each.items()
        if "Head" in model
    ]
    return load_train_config(config, tuple(overrides if "models" in arch else ["Arch.Head.class_num=12"]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_built_and_makes_a_step(path: Path) -> None:
    config = with_few_classes(path)
    network = build_network(config.Arch, 12, image_shape=(3, 64, 64))
    freeze(network, config.Arch)
    losses = build_losses(config.Loss.Train)
    optimizer = build_optimizer(config.Optimizer, network, losses)
    set_train_mode(network)
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(8, 3, 64, 64)).astype("float32"))
    labels = paddle.to_tensor(np.repeat(np.arange(4), 2))
    values = losses(network(images, labels), labels)
    values["loss"].backward()
    optimizer.set_lr(0.01)
    optimizer.step()
    assert np.isfinite(float(values["loss"]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_transforms_and_plan(path: Path) -> None:
    config = load_train_config(path)
    train, evaluation = config.DataLoader.Train, config.DataLoader.Eval
    assert train is not None
    assert evaluation is not None
    assert evaluation.Query is not None
    size = config.Global.image_shape[1:]
    assert compile_transform(train.dataset.transform_ops, "Train").size == size
    assert compile_transform(evaluation.Query.dataset.transform_ops, "Query").size == size
    overrides: Any = ("DataLoader.Train.sampler.id_list=[]", "DataLoader.Train.sampler.ratio=[]")
    config = load_train_config(path, overrides if "PKSampler" in path.read_text() else ())
    cards = 8 if config.Global.device == "gpu" else 1
    plan = make_plan(config, np.repeat(np.arange(1000), 20), cards)
    assert plan.schedule.scaling.factor == 1, "the config's own number of cards and batch is what its rate is made for"


def test_v2_has_the_published_numbers() -> None:
    """pp-shitu.md 3.1, from PaddleClas's file."""
    config = load_train_config(V2)
    optimizer, arch, sampler = config.Optimizer, config.Arch, config.DataLoader.Train.sampler  # type: ignore[union-attr]
    assert (config.Global.epochs, optimizer.lr.learning_rate, optimizer.lr.warmup_epoch) == (100, 0.06, 5)
    assert (optimizer.lr.for_batch_size, optimizer.regularizer.coeff) == (2048, 1e-5)  # type: ignore[union-attr]
    assert (arch.Head.class_num, arch.Neck.num_features) == (192612, 512)  # type: ignore[attr-defined]
    assert (sampler.batch_size, sampler.sample_per_id, sampler.sample_method) == (256, 4, "id_avg_prob")  # type: ignore[attr-defined]
    triplet = config.Loss.Train[1]
    assert (triplet.margin, triplet.ap_value, triplet.an_value) == (0.5, 0.8, 0.4)  # type: ignore[attr-defined]


def test_v1_has_the_published_numbers() -> None:
    """pp-shitu.md 3.2."""
    config = load_train_config(V1)
    head = config.Arch.Head  # type: ignore[attr-defined]
    assert (head.margin, head.scale, head.class_num) == (0.2, 30, 185341)
    assert (config.Optimizer.lr.learning_rate, config.Optimizer.lr.for_batch_size) == (0.04, 2048)


def test_the_demos_config_lies_where_the_readme_says() -> None:
    assert ROOT / "configs" / "train" / "demo_cpu.yaml" in CONFIGS


BAD = {
    "misspelt loss key": (
        "Loss: {Train: [{TripletAngularMarginLoss: {margn: 0.5}}]}",
        "did you mean Loss.Train.0.margin?",
    ),
    "unknown sampler": ("DataLoader: {Train: {sampler: {name: PkSampler}}}", "did you mean PKSampler?"),
    "regularizer that is not there, of a second kind": (
        "Optimizer: {name: AdamW, regularizer: {name: L1, coeff: 0.1}}",
        "unknown name L1: did you mean L2?",
    ),
    "several things": (
        "Global: {epochs: 0}\nOptimizer: {name: Adm}\nLoss: {Train: [{CeLoss: {}}]}",
        "3 things are wrong in",
    ),
    "lr without name": ("Optimizer: {name: SGD, lr: {learning_rate: 8}}", "a section with a name is wanted"),
    "two losses in one entry": ("Loss: {Train: [{CELoss: {}, CircleMargin: {}}]}", "a mapping with one key is wanted"),
    "key of another sampler": (
        "DataLoader: {Train: {sampler: {name: DistributedBatchSampler, sample_per_id: 4}}}",
        "Unknown key DataLoader.Train.sampler.sample_per_id",
    ),
    "model without name": (
        "Arch: {name: DistillationModel, models: [{Student: 3}]}",
        "a mapping with one key is wanted",
    ),
    "student that is not there": (
        "Arch: {name: DistillationModel, infer_model_name: S, models: [{Student: {name: RecModel}}]}",
        "one of the models is wanted: Student",
    ),
    "epochs": ("Global: {epochs: 0}", "a number of at least 1 is wanted"),
    "smoothing": ("Loss: {Train: [{CELoss: {epsilon: 2}}]}", "a number between 0 and 1 is wanted"),
    "image_shape": ("Global: {image_shape: [224, 224]}", "[3, height, width] is wanted"),
    "id_list": (
        "DataLoader: {Train: {sampler: {name: PKSampler, batch_size: 8, id_list: [1, 2, 3], ratio: [4]}}}",
        "two class ids for each ratio are wanted",
    ),
    "a loss instead of a list": (
        "Loss: {Train: CELoss}",
        "Loss.Train is 'CELoss' (text) in x.yaml; a list is wanted, written [a, b], each a mapping",
    ),
    "limit of a key that occurs often": (
        "DataLoader: {Eval: {Query: {sampler: {name: DistributedBatchSampler, batch_size: 0}}}}",
        "DataLoader.Eval.Query.sampler.batch_size is 0 (int) in x.yaml; a number of at least 1 is wanted",
    ),
    "the first of several": ("Global: {seed: x, epochs: x}\nArch: {}", "Global.seed is 'x'"),
    "Python in YAML": ("Global: !!python/object/apply:os.system [ls]", "only plain values are read"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_said_of_a_config_that_cannot_be_used(write: Write, case: str) -> None:
    text, wanted = BAD[case]
    with pytest.raises(ConfigError) as caught:
        load_train_config(write(text))
    assert wanted in str(caught.value)


NAMED = (
    "Loss: {Train: [{CELoss: {epsilon: 0.1}}]}\nArch: {name: DistillationModel, models: [{Student: {name: RecModel}}]}"
)


def test_an_override_below_a_name_is_blamed_and_read_as_text(write: Write) -> None:
    """`CELoss` and `Student` are no keys of the schema; before, the file was blamed, and text had to be quoted."""
    path = write(NAMED)
    for override, wanted in (
        ("Loss.Train.0.CELoss.epsilon=2", "Loss.Train.0.epsilon is 2.0 (float) in -o Loss.Train.0.CELoss.epsilon=2;"),
        ("Arch.models.0.Student.Nek=x", "Unknown key Arch.models.0.Student.Nek in -o Arch.models.0.Student.Nek=x;"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_train_config(path, (override,))
        assert str(caught.value).startswith(wanted)
    config = load_train_config(path, ("Arch.models.0.Student.Backbone.name=2024",))
    assert config.Arch.models[0].model.Backbone.name == "2024"  # type: ignore[attr-defined]
