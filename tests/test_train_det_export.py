"""`shitu export-det`: two programs that find what the network finds, in a folder that `shitu predict` uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from shitu.errors import EngineError, UsageError
from shitu.models import open_model
from shitu.models.folder import verify_model
from shitu.training.base.checkpoints import save_weights
from shitu.training.det.batches import DetLoader
from shitu.training.det.build import build_detector
from shitu.training.det.evaluate import detected, detected_by_model, eval_data, evaluate_model
from shitu.training.det.export import export_detector
from shitu.training.det.schema import DetConfig, load_det_config
from shitu.training.det.weights import load_trained
from tests.conftest import DEMO, Run
from tests.train_det_set import CONFIG, config_of, no_bar, small, write_coco_set


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("数据")
    write_coco_set(folder, images=4, seed=5, name="val")
    return folder


@pytest.fixture(scope="module")
def distinct(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> DetConfig:
    """Weights whose scores are spread, so that no two boxes tie: a young network gives 1.0 to many."""
    folder = tmp_path_factory.mktemp("distinct")
    config = config_of(coco, folder)
    paddle.seed(3)
    network, rng = build_detector(config), np.random.default_rng(3)
    network.eval()
    levels = network.neck(network.backbone({"image": paddle.randn([1, 3, 128, 128])}))
    for number, features in enumerate(levels):
        head = getattr(network.head, f"head_cls{number}")
        head.weight.set_value(rng.normal(0, 0.5, head.weight.shape).astype(np.float32))
        head.bias.set_value(np.zeros(head.bias.shape, np.float32))
        largest = head(network.head.conv_feat(features, number)[0]).abs().max()
        head.weight.set_value(head.weight * (3 / largest))
    save_weights(folder / "weights", {name: value.numpy() for name, value in network.state_dict().items()})
    return load_det_config(CONFIG, (*small(coco, folder), f"weights={folder / 'weights'}"))


@pytest.fixture(scope="module")
def exported(distinct: DetConfig) -> Path:
    return export_detector(distinct)


def test_the_exported_model_finds_what_the_network_finds(distinct: DetConfig, exported: Path) -> None:
    model = open_model(str(exported), task="detection")
    assert {path.name for path in exported.iterdir()} >= {"inference.json", "inference_raw.json", "model.yaml"}
    assert model.task == "detection"
    assert verify_model(model) == []
    data, network = eval_data(distinct), build_detector(distinct)
    load_trained(network, distinct.weights)
    loader = DetLoader(data, distinct.EvalReader, "EvalReader", seed=0, workers=0, replace=False)
    for of_network, of_model in zip(
        detected(network, loader), detected_by_model(str(exported), data.paths), strict=True
    ):
        assert of_model is not None
        assert len(of_network.rows) > 10
        assert len(set(of_network.rows[:, 1].tolist())) > 10
        assert np.allclose(of_model.rows, of_network.rows, atol=0.01)
    assert evaluate_model(str(exported), distinct, no_bar)["images"] == 4


def test_predict_uses_the_exported_model(exported: Path, shitu: Run) -> None:
    done = shitu("predict-det", "-o", f"Global.det_inference_model_dir={exported}", "-o", "Global.threshold=0.0",
                 DEMO / "photos" / "beach.jpg", "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])


def test_a_program_that_is_not_the_network_is_not_written(
    distinct: DetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(network: paddle.nn.Layer) -> int:
        weight = network.backbone.conv1.conv.weight
        weight.set_value(weight * 1.5)
        return 0

    monkeypatch.setattr("shitu.training.det.export.fuse_batch_norms", spoil)
    with pytest.raises(EngineError, match=r"of the network are .* apart, allowed is .*; the folder was not written"):
        export_detector(distinct, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_export_takes_no_foreign_folders_place(distinct: DetConfig, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match="holds something else than a model"):
        export_detector(distinct, tmp_path)
