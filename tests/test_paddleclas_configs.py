"""PaddleClas's recognition configs by name and content: read, and a step on miniatures."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from shitu.errors import ConfigError
from shitu.training.rec.losses import build_losses
from shitu.training.rec.networks import build_network, freeze, set_train_mode
from shitu.training.rec.plan import Together, build_optimizer, make_plan
from shitu.training.rec.prune import prune
from shitu.training.rec.schema import TrainConfig, load_train_config
from shitu.training.rec.transforms import compile_transform
from tests.paddleclas_configs import ACCEPTED, REFUSED, Keys

CLASSES = 12
ONE_SIZE = ("AlexNet", "CLIP_vit_base_patch16_224")  # take no images but of 224 x 224
HUGE = ("VGG19Sigmoid", "CLIP_vit_large")  # a step takes more than 2 GB; smaller ones have the same layers


def written(folder: Path, keys: Keys) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return path


def read(folder: Path, keys: Keys) -> TrainConfig:
    """With heads and centres for few classes: the official ones have up to 192,613."""
    config: Any = deepcopy(keys)
    models = [model for each in config["Arch"].get("models", []) for model in each.values()]
    for model in models or [config["Arch"]]:
        if "Head" in model:
            model["Head"]["class_num"] = CLASSES
    return load_train_config(written(folder, config))


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_is_read_with_its_transforms_and_plan(name: str, tmp_path: Path) -> None:
    config = read(tmp_path, ACCEPTED[name])
    train, evaluation = config.DataLoader.Train, config.DataLoader.Eval
    assert train is not None
    assert evaluation is not None
    compile_transform(train.dataset.transform_ops, "Train")
    for each in (evaluation.Query, evaluation.Gallery, evaluation):
        if each is not None and each.dataset is not None:
            compile_transform(each.dataset.transform_ops, "Eval")
    plan = make_plan(config, np.repeat(np.arange(100), 4), 1)
    assert np.isfinite([plan.schedule(step) for step in range(0, plan.total_steps, 50)]).all()


@pytest.mark.parametrize("name", [name for name, keys in ACCEPTED.items() if not any(k in str(keys) for k in HUGE)])
def test_it_makes_a_step(name: str, tmp_path: Path) -> None:
    config = read(tmp_path, ACCEPTED[name])
    size = (
        config.Global.image_shape if next(iter(config.Arch.parts().values())).Backbone.name in ONE_SIZE else (3, 64, 64)
    )
    network = build_network(config.Arch, CLASSES, image_shape=size)
    freeze(network, config.Arch)
    losses = build_losses(config.Loss.Train)
    optimizer = build_optimizer(config.Optimizer, network, losses)
    set_train_mode(network)
    before = [each.numpy() for each in losses.parameters()]
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(4, *size)).astype("float32"))
    labels = paddle.to_tensor([0, 0, 1, 1])
    values = losses(network(images, labels), labels)
    values["loss"].backward()
    optimizer.set_lr(1e-4)
    optimizer.step()
    optimizer.clear_grad()
    assert all(np.isfinite(float(value)) for value in values.values())
    assert len(values) == len(config.Loss.Train) + 1
    moved = [not np.array_equal(old, each.numpy()) for old, each in zip(before, losses.parameters(), strict=True)]
    assert all(moved)
    assert isinstance(optimizer, Together) == name.endswith("with_center.yaml")


def built(config: TrainConfig) -> None:
    prune(build_network(config.Arch, CLASSES), config)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_all_that_is_missing(name: str, tmp_path: Path) -> None:
    keys, names = REFUSED[name]
    with pytest.raises(ConfigError, match="(?s)" + ".*".join(map(re.escape, names))):
        built(read(tmp_path, keys))
