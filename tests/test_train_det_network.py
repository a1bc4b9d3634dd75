"""The detector against ppdet's own: losses, moving average, boxes after NMS; and weights from files."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from shitu.errors import ConfigError, ModelError, UsageError
from shitu.models import Nms
from shitu.recognise.nms import multiclass_nms
from shitu.training.base.ema import CycleEMA
from shitu.training.base.toolkits import ppdet
from shitu.training.det.build import PicoDet, build_detector, load_pretrained, load_trained
from shitu.training.det.coco_data import read_coco
from shitu.training.det.evaluate import METRICS, Found, coco_metrics
from shitu.training.det.schema import COCODataSet, DetConfig, load_det_config
from tests.train_det_set import CONFIG, write_coco_set

LARGE = CONFIG.with_name("picodet_lcnet_x2_5_640_mainbody.yml")


def light(*overrides: str) -> DetConfig:
    return load_det_config(CONFIG, ("LCNet.scale=0.25", *overrides))


@pytest.fixture(scope="module")
def network() -> PicoDet:
    paddle.seed(7)
    return build_detector(light())


def saved(network: PicoDet, path: Path, prefix: str = "") -> Path:
    state = {k.removeprefix(prefix): v.numpy() for k, v in network.state_dict().items() if k.startswith(prefix)}
    paddle.save(state, str(path))
    return path


def test_the_large_config_is_built_and_has_the_published_size() -> None:
    network = build_detector(load_det_config(LARGE))
    assert round(sum(p.size for p in network.parameters()) / 1e6, 2) == 7.09  # batch norms' statistics included
    network.eval()
    with paddle.no_grad():
        scores, boxes = network(paddle.zeros([1, 3, 64, 96]))
    anchors = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2
    assert (scores.shape, boxes.shape) == ([1, 1, anchors], [1, anchors, 4])


def test_losses_are_those_of_ppdets_picodet(network: PicoDet) -> None:
    theirs = ppdet("modeling.architectures.picodet").PicoDet(network.backbone, network.neck, network.head)
    rng = np.random.default_rng(0)
    images = paddle.to_tensor(rng.normal(size=(3, 3, 96, 128)).astype(np.float32))
    boxes = [[[10, 10, 60, 80], [70, 20, 120, 70]], [[0, 0, 128, 96]], []]
    truth = [paddle.to_tensor(np.array(each, np.float32).reshape(-1, 4)) for each in boxes]
    classes = [paddle.zeros([len(each), 1], "int32") for each in boxes]
    network.train()
    theirs.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    expected = theirs({"image": images, "gt_bbox": truth, "gt_class": classes, "im_id": paddle.arange(3)})
    network.set_state_dict(state)
    losses = network.losses(images, truth, classes, nullcontext())
    assert set(losses) == {"loss", "loss_vfl", "loss_bbox", "loss_dfl"}
    for name, value in losses.items():
        assert float(value) == pytest.approx(float(expected[name]), rel=1e-6), name


@pytest.mark.parametrize("kind", ["threshold", "normal", "exponential"])
def test_the_moving_average_is_ppdets_also_over_cycles(kind: Any) -> None:
    layer = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
    theirs = ppdet("optimizer.ema").ModelEMA(layer, decay=0.99, ema_decay_type=kind, cycle_epoch=2)
    ours = CycleEMA(layer, 0.99, kind, 2)
    rng = np.random.default_rng(1)
    for snapshot in range(5):
        for _ in range(3):
            for parameter in layer.parameters():
                parameter.set_value(rng.normal(size=parameter.shape).astype(np.float32))
            theirs.update()
            ours.update()
        copy = CycleEMA(layer, 0.99, kind, 2)
        copy.set_state(ours.state(), ours.position())  # what a resume does
        ours = copy
        expected, found = theirs.apply(), ours.snapshot()
        for name, value in expected.items():
            assert np.allclose(found[name].numpy(), value.numpy(), rtol=1e-5, atol=1e-7), (snapshot, name)


def test_an_average_of_a_constant_is_that_constant() -> None:
    """What the correction for the start at zero is for."""
    layer = paddle.nn.Linear(2, 2)
    ema = CycleEMA(layer, 0.9998, "normal", -1)
    ema.update()
    assert np.allclose(ema.snapshot()["weight"].numpy(), layer.weight.numpy(), rtol=1e-3)


def test_paddles_nms_is_that_of_numpy(network: PicoDet) -> None:
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 80, (2, 300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (2, 300, 2))], 2).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 1, 300)).astype(np.float32)
    rows, counts = network.suppressed(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    limits = Nms(network.nms.score_threshold, network.nms.nms_threshold, 1000, 100)
    by_numpy = [multiclass_nms(b, s, limits) for b, s in zip(boxes, scores, strict=True)]
    assert counts.tolist() == [len(each) for each in by_numpy]
    assert np.allclose(rows.numpy(), np.concatenate(by_numpy), atol=1e-5)


# --- COCO's numbers ------------------------------------------------------------------------------------------------


def test_numbers_of_boxes_made_by_hand(tmp_path: Path) -> None:
    content = write_coco_set(tmp_path, images=4)
    data = read_coco(COCODataSet(dataset_dir=str(tmp_path), anno_path="train.json"), 1, what="x", training=False)
    exact = [Found(i, _rows(data.xyxy[data.boxes_of(i)], 0.9)) for i in range(4)]
    assert coco_metrics(data, exact)["AP"] == pytest.approx(1)
    assert coco_metrics(data, exact)["AP_small"] is None  # there are none
    # at an IoU of 0.58, every box is right for the limits 0.5 and 0.55 and wrong for the eight above
    smaller = [Found(i, _rows(_shrunk(data.xyxy[data.boxes_of(i)], 0.58), 0.9)) for i in range(4)]
    shrunk = coco_metrics(data, smaller)
    assert (shrunk["AP50"], shrunk["AP75"]) == (pytest.approx(1), pytest.approx(0))
    assert shrunk["AP"] == pytest.approx(0.2)
    # of six boxes, the three in the first two images: precision 1 up to recall 0.5, that is at 51 of 101 points
    assert len(content["annotations"]) == 6
    half = coco_metrics(data, exact[:2])
    assert half["AP"] == pytest.approx(51 / 101)
    assert coco_metrics(data, []) == dict.fromkeys(METRICS, 0.0) | {
        name: None for name in METRICS if exact_is_none(data, name)
    }


def exact_is_none(data: Any, name: str) -> bool:
    areas = np.array([each["area"] for each in data.coco["annotations"]])
    none = {"small": not (areas < 32**2).any(), "large": not (areas > 96**2).any()}
    return none.get(name.partition("_")[2], False)


def _rows(xyxy: np.ndarray, score: float) -> np.ndarray:
    return np.concatenate([np.zeros((len(xyxy), 1)), np.full((len(xyxy), 1), score), xyxy], 1).astype(np.float32)


def _shrunk(xyxy: np.ndarray, share: float) -> np.ndarray:
    smaller = xyxy.copy()
    smaller[:, 2] = xyxy[:, 0] + (xyxy[:, 2] - xyxy[:, 0]) * share
    return smaller


# --- weights -------------------------------------------------------------------------------------------------------


def test_a_backbones_weights_and_a_whole_detectors_are_told_apart(network: PicoDet, tmp_path: Path) -> None:
    backbone = saved(network, tmp_path / "lcnet.pdparams", "backbone.")
    whole = saved(network, tmp_path / "检测.pdparams")
    other = build_detector(light())
    report = load_pretrained(other, str(backbone))
    assert set(report.loaded) == {f"backbone.{name}" for name in network.backbone.state_dict()}
    assert np.array_equal(other.backbone.conv1.conv.weight.numpy(), network.backbone.conv1.conv.weight.numpy())
    assert load_pretrained(other, str(whole.with_suffix(""))).missing == ()


def test_another_number_of_classes_keeps_the_rest(network: PicoDet, tmp_path: Path) -> None:
    path = saved(network, tmp_path / "one.pdparams")
    report = load_pretrained(build_detector(light("num_classes=3")), str(path))
    assert {each.split()[0] for each in report.other_shape} == {
        f"head.head_cls{level}.{kind}" for level in range(4) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("load", [load_pretrained, load_trained])
def test_a_checkpoint_of_another_shape_is_refused(load: Any, network: PicoDet, tmp_path: Path) -> None:
    path = saved(network, tmp_path / "quarter.pdparams")
    with pytest.raises(ModelError, match=r"quarter.pdparams is of another network: .* \(.* here, \(.* there"):
        load(build_detector(light("LCNet.scale=0.5")), str(path))


def test_weights_that_are_not_there_are_not_downloaded(
    network: PicoDet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shitu.models.download.download", lambda *_: pytest.fail("a download was tried"))
    with pytest.raises(ConfigError, match=r"no file .*best_model \(nor with .pdparams\), which weights names"):
        load_trained(network, str(tmp_path / "best_model"))
    with pytest.raises(ConfigError, match="which pretrain_weights names"):
        load_pretrained(network, "LCNet_x2_5_ssld_pretrained")
    with pytest.raises(UsageError, match="no weights are named"):
        load_trained(network, None)
    with pytest.raises(ModelError, match="lacks"):
        load_trained(network, str(saved(network, tmp_path / "part.pdparams", "backbone.")))


def test_an_address_is_downloaded_once(network: PicoDet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def download(url: str, target: Path) -> None:
        fetched.append(url)
        saved(network, target, "backbone.")

    monkeypatch.setenv("SHITU_HOME", str(tmp_path))
    monkeypatch.setattr("shitu.models.download.download", download)
    for _ in range(2):
        load_pretrained(build_detector(light()), "https://example.org/LCNet_pretrained.pdparams")
    assert fetched == ["https://example.org/LCNet_pretrained.pdparams"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("CSPPAN.out_channels=96", "PicoHead.conv_feat.feat_in is 128 and CSPPAN.out_channels is 96"),
        ("PicoHead.feat_in_chan=96", "PicoHead.feat_in_chan is 96 and PicoHead.conv_feat.feat_out is 128"),
        ("PicoHead.fpn_stride=[8, 16, 32]", "the number of PicoHead.fpn_stride is 3 and CSPPAN.num_features is 4"),
        ("LCNet.feature_maps=[4, 5]", "three levels are wanted"),
    ],
)
def test_parts_that_do_not_fit_together_are_told_of(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_detector(light(override))
    assert said in str(caught.value)


def test_the_light_config_is_the_bundled_detectors_network() -> None:
    config = load_det_config(CONFIG)
    assert dataclasses.replace(config.LCNet, scale=2.5) == load_det_config(LARGE).LCNet
    assert (config.LCNet.scale, config.size) == (1.0, (320, 320))
