"""`shitu export-det`: two programs that find what the network finds, in a folder that `shitu predict` uses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from shitu.config import load_config
from shitu.errors import ConfigError, EngineError, ShituError, UsageError
from shitu.images.read import read_image
from shitu.models import open_model
from shitu.models.verify import verify_model
from shitu.recognise.from_config import DetPredictor
from shitu.recognise.preprocess import from_model_yaml
from shitu.training.base.checkpoints import save_weights
from shitu.training.base.read_weights import read_state
from shitu.training.det.batches import DetLoader
from shitu.training.det.build import build_detector, load_trained
from shitu.training.det.evaluate import detected, detected_by_model, eval_data, evaluate_model
from shitu.training.det.export import export_detector
from shitu.training.det.schema import DetConfig, load_det_config
from shitu.training.det.transforms import compile_reader, run
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
    assert model.card.task == "detection"
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


def test_the_other_engines_find_the_same(distinct: DetConfig, tmp_path: Path) -> None:
    pytest.importorskip("paddle2onnx", reason="the extra `onnx` is not installed")
    folder = str(export_detector(distinct, tmp_path / "model", onnx=True))
    photo, found = read_image(DEMO / "photos" / "beach.jpg"), []
    for engine in ("paddle", "onnxruntime"):
        options = [f"Global.det_inference_model_dir={folder}", f"Global.engine={engine}", "Global.threshold=0.3"]
        predictor = DetPredictor(load_config(None, options))
        assert predictor.engine == f"{engine}, fp32"
        found.append([(each.bbox, round(each.score, 3)) for each in predictor.predict([photo])[0]])
    assert found[0]
    assert found[0] == found[1]
    assert verify_model(Path(folder)) == []


def test_a_program_that_is_not_the_network_is_not_written(
    coco: Path, distinct: DetConfig, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written in its place is the program of the same network with other weights."""

    def of_other_weights(layer: object, size: object, prefix: Path) -> None:
        for suffix in (".json", ".pdiparams"):
            source = exported / f"{prefix.name}{suffix}"
            shutil.copy(source if source.exists() else exported / "inference.pdiparams", f"{prefix}{suffix}")

    weights = read_state(Path(f"{distinct.weights}.pdparams"))
    weights["backbone.conv1.conv.weight"] = weights["backbone.conv1.conv.weight"] * 1.5
    save_weights(tmp_path / "others", weights)
    distinct = load_det_config(CONFIG, (*small(coco, tmp_path), f"weights={tmp_path / 'others'}"))
    monkeypatch.setattr("shitu.training.det.export._save_program", of_other_weights)
    with pytest.raises(EngineError, match=r"of the network are .* apart, allowed is .*; the folder was not written"):
        export_detector(distinct, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["others.pdparams"]


def test_an_export_takes_no_foreign_folders_place(distinct: DetConfig, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    """Not even where a model lies among the photos; what an export itself wrote, and licences, are no strangers."""
    for beside in ((), ("model.yaml",)):
        for name in ("photo.jpg", *beside):
            (tmp_path / name).touch()
        with pytest.raises(UsageError, match=r"holds (model.yaml, )?photo.jpg, which no export wrote.*--output-dir"):
            export_detector(distinct, tmp_path)
        assert (tmp_path / "photo.jpg").exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are neither made nor checked: for what becomes of folders."""

    def program(layer: object, size: object, prefix: Path) -> None:
        prefix.with_suffix(".json").write_text("{}")
        prefix.with_suffix(".pdiparams").touch()

    monkeypatch.setattr("shitu.training.det.export._save_program", program)
    monkeypatch.setattr("shitu.training.det.export._check", lambda *_: None)


@pytest.mark.usefixtures("quick")
def test_licences_stay_with_the_model(distinct: DetConfig, tmp_path: Path) -> None:
    folder = export_detector(distinct, tmp_path / "model")
    (folder / "LICENSE").write_text("mine")
    (folder / "inference.json").write_text("old")
    export_detector(distinct, folder)
    assert (folder / "LICENSE").read_text() == "mine"
    assert (folder / "inference.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_move_that_fails_leaves_the_old_model(
    error: BaseException, distinct: DetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one: the old folder has left its place, and the new one does not take it."""
    folder = export_detector(distinct, tmp_path / "model")
    before = (folder / "model.yaml").read_bytes()
    moves: list[object] = []

    def second_fails(move: Callable[[object, object], object]) -> Callable[[object, object], object]:
        def moved(source: object, target: object) -> object:
            moves.append(target)
            if len(moves) == 2:
                raise error
            return move(source, target)

        return moved

    monkeypatch.setattr("os.replace", second_fails(os.replace))
    monkeypatch.setattr("os.rename", second_fails(os.rename))
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ShituError):
        export_detector(distinct, folder)
    assert (folder / "model.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


OTHER_NORMAL = "{NormalizeImage: {mean: [0.1, 0.2, 0.3], std: [0.5, 0.6, 0.7], is_scale: false}}"
ONLY_SCALED = "{NormalizeImage: {norm_type: none}}"
RESIZE = "{Resize: {target_size: [128, 128], keep_ratio: false, interp: 2}}"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("operators", "wanted"),
    [
        ((ONLY_SCALED, ""), (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        (("", ONLY_SCALED), (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        (("", OTHER_NORMAL), (1.0, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))),
        ((OTHER_NORMAL, OTHER_NORMAL), None),
    ],
)
def test_an_exported_model_normalises_as_the_reader_does(
    operators: tuple[str, str], wanted: Any, coco: Path, distinct: DetConfig, tmp_path: Path
) -> None:
    """Compared with ppdet's own operators, from either list, on an image of one colour."""
    given = [each for each in small(coco, tmp_path) if not each.startswith("EvalReader")]
    lists = {"sample": ("{Decode: {}}", RESIZE, operators[0]), "batch": (operators[1], "{Permute: {}}")}
    given += [f"EvalReader.{name}_transforms=[{', '.join(filter(None, each))}]" for name, each in lists.items()]
    config = load_det_config(CONFIG, (*given, f"weights={distinct.weights}"))
    if wanted is None:
        with pytest.raises(ConfigError, match=r"has 2 NormalizeImage in its sample_transforms and batch_transforms"):
            export_detector(config)
        return
    found = open_model(str(export_detector(config)), task="detection").card.preprocess
    assert found is not None
    assert (found.scale, found.mean, found.std) == wanted
    image = np.full((120, 160, 3), (10, 100, 200), np.uint8)
    of_sample_ops, of_batch_ops, _ = compile_reader(config.EvalReader, "EvalReader")
    sample: dict[str, Any] = {"image": image, "im_shape": np.array([120.0, 160.0]), "scale_factor": np.ones(2)}
    (seen,) = run(of_batch_ops, [run(of_sample_ops, sample, 0)], 0)
    ready = from_model_yaml(**vars(found), detection=True)
    np.testing.assert_allclose(ready(image), seen["image"], atol=1e-5)
