"""Detector configs: PaddleDetection's keys read and closed, sections that fit ppdet's classes, the learning rate."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import ConfigError
from shitu.training.base.task import Scaling
from shitu.training.base.toolkits import ppdet
from shitu.training.det import schema_net as net
from shitu.training.det.plan import Schedule
from shitu.training.det.schema import LearningRate, load_det_config
from tests.conftest import Write
from tests.train_det_set import CONFIG

CONFIGS = sorted(CONFIG.parent.glob("*.yml"))

# the form of PaddleDetection's own files, tags included
OFFICIAL = """\
architecture: PicoDet
num_classes: 1
TrainDataset:
  !COCODataSet
    image_dir: train2017
    anno_path: annotations/instances_train2017.json
    dataset_dir: dataset/coco
    data_fields: ['image', 'gt_bbox', 'gt_class', 'is_crowd']
LearningRate:
  base_lr: 0.4
  schedulers:
  - !CosineDecay
    max_epochs: 100
  - !LinearWarmup
    start_factor: 0.1
    steps: 300
EvalReader:
  sample_transforms:
  - Decode: {}
  - Resize: {interp: 2, target_size: [640, 640], keep_ratio: False}
"""


def test_tags_of_paddledetection_are_read_as_plain_keys(write: Write) -> None:
    config = load_det_config(write(OFFICIAL))
    assert dataclasses.asdict(config.TrainDataset)["anno_path"] == "annotations/instances_train2017.json"
    assert [type(each).__name__ for each in config.LearningRate.schedulers] == ["CosineDecay", "LinearWarmup"]
    assert config.size == (640, 640)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OFFICIAL + "epochs: 3\n", "Unknown section epochs in x.yaml; did you mean epoch?"),
        (OFFICIAL + "architecture_: YOLOv3\n", "did you mean architecture?"),
        (OFFICIAL.replace("PicoDet", "YOLOv3"), "architecture is 'YOLOv3' (text) in x.yaml; one of PicoDet is wanted"),
        (OFFICIAL.replace("COCODataSet", "VOCDataSet"), "no objects"),
        (OFFICIAL.replace("!COCODataSet", "!!python/object/apply:os.system"), "no objects"),
        (OFFICIAL.replace("anno_path", "ann_path"), "did you mean TrainDataset.anno_path?"),
        (OFFICIAL.replace("start_factor", "start_faktor"), "did you mean LearningRate.schedulers.1.start_factor?"),
        (OFFICIAL + "_BASE_: ['../runtime.yml']\n", "a relative path to a .yml or .yaml file is wanted that stays in"),
        (OFFICIAL + "LCNet: {scale: 2.5, scal: 1}\n", "did you mean LCNet.scale?"),
        (OFFICIAL + "PicoHead: {loss_bbox: {name: GIoULos}}\n", "did you mean GIoULoss?"),
        (OFFICIAL + "eval_size: [320, 320]\n", "the target_size of EvalReader's Resize is wanted, [640, 640]"),
    ],
)
def test_what_nobody_reads_is_refused(write: Write, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_det_config(write(text))
    assert said in str(caught.value)


@pytest.mark.parametrize("size", ["[640]", "[640, 630]", "'big'", "[0, 0]"])
def test_sizes_must_fit_the_strides(write: Write, size: str) -> None:
    config = load_det_config(write(OFFICIAL.replace("[640, 640]", size)))
    with pytest.raises(ConfigError, match="multiples of 32"):
        _ = config.size


def test_tags_are_refused_elsewhere_even_after_a_detector_config_was_read(write: Write) -> None:
    path = write(OFFICIAL)
    load_det_config(path)
    from shitu.config import load_config

    with pytest.raises(ConfigError, match="no objects"):
        load_config(path)


@pytest.mark.parametrize(
    ("section", "where"),
    [
        (net.LCNet, "modeling.backbones.lcnet.LCNet"),
        (net.CSPPAN, "modeling.necks.csp_pan.CSPPAN"),
        (net.PicoFeat, "modeling.heads.pico_head.PicoFeat"),
        (net.VarifocalLoss, "modeling.losses.varifocal_loss.VarifocalLoss"),
        (net.DistributionFocalLoss, "modeling.losses.gfocal_loss.DistributionFocalLoss"),
        (net.GIoULoss, "modeling.losses.iou_loss.GIoULoss"),
        (net.SimOTAAssigner, "modeling.assigners.simota_assigner.SimOTAAssigner"),
        (net.MultiClassNMS, "modeling.layers.MultiClassNMS"),
        (net.PicoHead, "modeling.heads.pico_head.PicoHead"),
    ],
)
def test_every_key_is_a_parameter_of_ppdets_class(section: type, where: str) -> None:
    module, _, name = where.rpartition(".")
    assert {each.name for each in dataclasses.fields(section)} <= set(
        inspect.signature(getattr(ppdet(module), name)).parameters
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_say_one_class_and_no_name_but_their_own(path: Path) -> None:
    config = load_det_config(path)
    assert config.num_classes == 1
    assert config.run_dir == Path("output") / path.stem
    assert config.weights == f"output/{path.stem}/best_model"


def test_the_large_config_is_the_official_recipe() -> None:
    config = load_det_config(CONFIGS[-1])
    assert (config.epoch, config.snapshot_epoch, config.cycle_epoch, config.ema_decay) == (100, 2, 20, 0.9998)
    assert (config.LCNet.scale, config.size, config.TrainReader.batch_size) == (2.5, (640, 640), 28)
    head = config.PicoHead
    losses = (head.loss_class.loss_weight, head.loss_dfl.loss_weight, head.loss_bbox.loss_weight)  # type: ignore[attr-defined]
    assert losses == (1.0, 0.25, 2.0)
    official, ours = (
        Schedule(config.LearningRate, Scaling.of(config.LearningRate, 8 * each), 1000, 100_000) for each in (56, 28)
    )
    assert (official.peak, ours.peak) == (0.4, 0.2)
    assert "linear rule, 224 / 448 = 0.5" in ours.scaling.reason
    assert official(300) == 0.4
    assert official(0) == pytest.approx(0.04)
    assert official(99_999) == pytest.approx(0, abs=1e-9)
    unscaled = dataclasses.replace(config.LearningRate, scaling="none")
    assert Schedule(unscaled, Scaling.of(unscaled, 28), 1000, 100_000).peak == 0.4


@pytest.mark.parametrize(
    ("epochs", "steps", "warmup", "factor"), [(100, 7, 300, 0.1), (3, 10, 5, 0.5), (2, 50, 1, 0.0)]
)
def test_the_learning_rate_is_ppdets(epochs: int, steps: int, warmup: int, factor: float, write: Write) -> None:
    optimizer = importlib.import_module("ppdet.optimizer.optimizer")
    theirs = optimizer.LearningRate(
        base_lr=0.4,
        schedulers=[
            {"name": "CosineDecay", "max_epochs": epochs},
            {"name": "LinearWarmup", "start_factor": factor, "steps": warmup},
        ],
    )(steps)
    decay, ramp = load_det_config(write(OFFICIAL)).LearningRate.schedulers
    section = LearningRate(
        base_lr=0.4,
        schedulers=(
            dataclasses.replace(decay, max_epochs=epochs),  # type: ignore[call-arg]
            dataclasses.replace(ramp, start_factor=factor, steps=warmup),  # type: ignore[call-arg]
        ),
    )
    ours = Schedule(section, Scaling.of(section, 8), steps, 1)  # max_epochs goes before the length of the run
    for step in range(epochs * steps):
        assert np.isclose(ours(step), theirs.get_lr(), atol=1e-12), step
        theirs.step()
