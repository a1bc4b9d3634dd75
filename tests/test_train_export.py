"""From weights to a model folder: the program's features are the network's, and nothing half-done is left behind."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import paddle
import pytest
from click.testing import CliRunner
from paddle import nn

from shitu.cli.training import export as export_command
from shitu.config.keys import Operators
from shitu.engines.base import EngineOptions
from shitu.engines.choose import ENGINES
from shitu.engines.paddle import open_session
from shitu.errors import ConfigError, EngineError, ModelError, ShituError, UsageError
from shitu.images.read import read_image
from shitu.models.folder import open_model
from shitu.models.verify import verify_model
from shitu.recognise import preprocess as preprocessing
from shitu.training.rec import export as exporting
from shitu.training.rec import schema_arch as schema
from shitu.training.rec.export import export_config, export_model, measured_rows
from shitu.training.rec.networks import DistillationModel, RecModel, build_network
from shitu.training.rec.schema import Global, TrainConfig, load_train_config
from shitu.training.rec.schema_data import Data, DataLoader, EvalData, ImageNetDataset
from tests.conftest import DEMO, ROOT, Run, index_overrides

SIDE = 64
OPS: Operators = (
    {"DecodeImage": {"to_rgb": True, "channel_first": False}},
    {"ResizeImage": {"size": [SIDE, SIDE], "interpolation": "bilinear", "backend": "cv2"}},
    {
        "NormalizeImage": {
            "scale": "1.0/255.0",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "order": "hwc",
        }
    },
)
FLATTEN = schema.BackboneStopLayer("flatten")
V2 = schema.RecModel(
    Backbone=schema.Backbone(name="PPLCNetV2_base_ShiTu", class_expand=64),
    BackboneStopLayer=FLATTEN,
    Neck=schema.BNNeck(num_features=64),
    Head=schema.FC(embedding_size=64),
)
LITE = schema.RecModel(
    Backbone=schema.Backbone(name="EfficientNetLite0"),
    BackboneStopLayer=FLATTEN,
    Neck=schema.BNNeck(num_features=1280),
    Head=schema.ArcMargin(embedding_size=1280),
)
SMALL = schema.RecModel(
    Backbone=schema.Backbone(name="PPLCNet_x0_25", class_expand=320),
    BackboneStopLayer=FLATTEN,
    Neck=schema.FCNeck(embedding_size=320, class_num=32),
    Head=schema.ArcMargin(embedding_size=32),
)


def config(arch: schema.Arch, folder: Path, weights: Path | str | None = None, ops: Operators = OPS) -> TrainConfig:
    loader = DataLoader(Eval=EvalData(Query=Data(dataset=ImageNetDataset(transform_ops=ops))))
    settings = Global(
        image_shape=(3, SIDE, SIDE),
        save_inference_dir=str(folder),
        pretrained_model=None if weights is None else str(weights),
    )
    return TrainConfig(Global=settings, Arch=arch, DataLoader=loader, source="configs/train/small.yaml")


def trained(arch: schema.Arch, seed: int = 0) -> RecModel | DistillationModel:
    """As after training: no norm is the identity, no bias zero."""
    paddle.seed(seed)
    network = build_network(arch, 5, image_shape=(3, SIDE, SIDE))
    rng = np.random.default_rng(seed)
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D | nn.BatchNorm1D):
            for tensor, low, high in ((layer.weight, 0.5, 1.5), (layer.bias, -0.5, 0.5)):
                tensor.set_value(rng.uniform(low, high, tensor.shape).astype("float32"))
            layer._mean.set_value(rng.uniform(-0.5, 0.5, layer._mean.shape).astype("float32"))
            layer._variance.set_value(rng.uniform(0.5, 1.5, layer._variance.shape).astype("float32"))
    return network


def save(network: nn.Layer, path: Path) -> Path:
    paddle.save(network.state_dict(), str(path))
    return path


def features(network: nn.Layer, images: Any, key: str = "features") -> Any:
    network.eval()
    with paddle.no_grad():
        return network(paddle.to_tensor(images))[key].numpy()


def photos() -> Any:
    """(4, 3, 64, 64): demo pictures, preprocessed by hand."""
    paths = [DEMO / line.split("\t")[0] for line in (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:4]]
    rows = []
    for path in paths:
        import cv2

        pixels = cv2.resize(read_image(path), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype("float32") / 255
        rows.append(((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1))
    return np.stack(rows).astype("float32")


def run(folder: Path, images: Any) -> Any:
    model = open_model(str(folder), task="recognition")
    return open_session(model.program, model.params, EngineOptions()).run({"x": images})[0]


def close(found: Any, wanted: Any) -> bool:
    return found.shape == wanted.shape and np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


# --- equality --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [V2, LITE, SMALL], ids=["PPLCNetV2", "EfficientNetLite0", "FC neck"])
def test_the_program_gives_the_networks_features(arch: schema.RecModel, tmp_path: Path) -> None:
    """PPLCNetV2's dropout is `downscale_in_infer`: it multiplies by 0.8 before the neck."""
    network = trained(arch)
    before = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    done = export_model(network, config(arch, tmp_path / "模型"))
    images = photos()
    wanted = features(network, images)
    assert wanted.std() > 0.01
    assert close(run(tmp_path / "模型", images), wanted)
    assert close(run(tmp_path / "模型", images[:1]), wanted[:1])
    assert done.difference < 1e-4
    assert done.dimension == wanted.shape[1]
    for name, tensor in network.state_dict().items():  # the network itself is left as it was
        np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=name)


def test_branches_and_norms_are_gone(tmp_path: Path) -> None:
    export_model(trained(V2), config(V2, tmp_path / "m"))
    program = json.loads((tmp_path / "m/inference.json").read_text())
    operators = [op["#"] for op in program["program"]["regions"][0]["blocks"][0]["ops"]]
    assert sum(name.endswith("batch_norm_") for name in operators) == 1  # BNNeck's, behind the dropout
    assert sum(name.endswith("depthwise_conv2d") for name in operators) == 1 + 2 + 2 + 6 + 2  # one per block


@pytest.mark.parametrize(("key", "size"), [("features", 32), ("neck", 32), ("backbone", 320)])
def test_infer_output_key_chooses_the_output(key: str, size: int, tmp_path: Path) -> None:
    arch = replace(SMALL, infer_output_key=key)
    network = trained(arch)
    assert export_model(network, config(arch, tmp_path / "m")).dimension == size
    assert close(run(tmp_path / "m", photos()), features(network, photos(), key))


def test_the_binary_network_ends_in_tanh(tmp_path: Path) -> None:
    arch = schema.RecModel(Backbone=schema.Backbone(name="PPLCNet_x2_5_Tanh", class_num=16))
    network = trained(arch)
    assert export_model(network, config(arch, tmp_path / "m")).dimension == 16
    found = run(tmp_path / "m", photos())
    assert np.abs(found).max() < 1
    assert close(found, features(network, photos(), "backbone"))


def test_a_distillations_student_is_exported(tmp_path: Path) -> None:
    models = tuple(schema.NamedModel(key, SMALL) for key in ("Teacher", "Student"))
    arch = schema.DistillationModel(models=models)
    network = trained(arch)
    weights = save(network, tmp_path / "both.pdparams")
    export_config(config(arch, tmp_path / "m", weights))
    with paddle.no_grad():
        network.eval()
        both = {name: each["features"].numpy() for name, each in network(paddle.to_tensor(photos())).items()}
    assert close(run(tmp_path / "m", photos()), both["Student"])
    assert not close(run(tmp_path / "m", photos()), both["Teacher"])


def test_weights_of_any_number_of_classes(tmp_path: Path) -> None:
    """The head has 5 classes there and says 192,612 in the config: neither matters."""
    network = trained(SMALL)
    weights = save(network, tmp_path / "best_model.pdparams")
    arch = replace(SMALL, Head=schema.FC(embedding_size=32, class_num=192612))
    export_config(config(arch, tmp_path / "m", str(weights).removesuffix(".pdparams")))
    assert close(run(tmp_path / "m", photos()), features(network, photos()))


# --- the folder ------------------------------------------------------------------------------------------------


def test_the_folder_is_a_model_that_says_what_it_is(tmp_path: Path) -> None:
    weights = save(trained(V2), tmp_path / "best_model.pdparams")
    export_config(config(V2, tmp_path / "m", weights), name="我的模型", licence="CC0-1.0")
    model = open_model(str(tmp_path / "m"), task="recognition")
    assert verify_model(model) == []
    assert (model.name, model.card.dimension, model.card.licence) == ("我的模型", 64, "CC0-1.0")
    assert model.card.architecture.startswith("PPLCNetV2_base_ShiTu, BNNeck, ")
    assert "best_model.pdparams, sha256 " in model.card.provenance
    assert "small.yaml" in model.card.provenance
    assert str(tmp_path) not in (tmp_path / "m/model.yaml").read_text(encoding="utf-8")
    assert model.card.preprocess is not None
    ready = preprocessing.from_model_yaml(**vars(model.card.preprocess), detection=False)
    line = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[0]
    np.testing.assert_allclose(ready(read_image(DEMO / line.split("\t")[0])), photos()[0], atol=1e-5)
    assert oct((tmp_path / "m").stat().st_mode)[-3:] == "755"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_two_exports_are_the_same_to_the_byte(tmp_path: Path) -> None:
    """Galleries know their model by these bytes. Paddle numbers the scopes of what one process exports."""
    network = trained(SMALL)
    for name in ("a", "b"):
        export_model(network, config(SMALL, tmp_path / name))
    programs = [re.sub(r"_\d+/", "/", (tmp_path / name / "inference.json").read_text()) for name in ("a", "b")]
    assert programs[0] == programs[1]
    assert (tmp_path / "a/inference.pdiparams").read_bytes() == (tmp_path / "b/inference.pdiparams").read_bytes()


def test_a_folder_in_use_is_replaced_under_its_reader(tmp_path: Path) -> None:
    old, new = trained(SMALL, 1), trained(SMALL, 2)
    export_model(old, config(SMALL, tmp_path / "m"))
    (tmp_path / "m/LICENSE").write_text("mine")
    model = open_model(str(tmp_path / "m"), task="recognition")
    session = open_session(model.program, model.params, EngineOptions())
    export_model(new, config(SMALL, tmp_path / "m"))
    assert close(session.run({"x": photos()})[0], features(old, photos()))
    assert close(run(tmp_path / "m", photos()), features(new, photos()))
    assert (tmp_path / "m/LICENSE").read_text() == "mine"


def test_a_program_that_differs_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained(SMALL, 1)
    export_model(network, config(SMALL, tmp_path / "m"))
    before = (tmp_path / "m/inference.pdiparams").read_bytes()
    right = exporting._save
    monkeypatch.setattr(
        exporting, "_save", lambda _, *rest: right(exporting.Features(trained(SMALL, 2), "features"), *rest)
    )
    with pytest.raises(ShituError, match=r"other features than the network.*nothing was written"):
        export_model(network, config(SMALL, tmp_path / "m"))
    assert (tmp_path / "m/inference.pdiparams").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m"]


def test_a_folding_that_changes_features_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(network: nn.Layer) -> int:
        for parameter in network.parameters():
            parameter.set_value(parameter * 1.1)
        return 0

    monkeypatch.setattr(exporting, "fuse_batch_norms", spoil)
    network = trained(SMALL)
    with caplog.at_level(logging.WARNING, "shitu"):
        export_model(network, config(SMALL, tmp_path / "m"))
    assert "folding the batch norms would change" in caplog.text
    assert close(run(tmp_path / "m", photos()), features(network, photos()))


def test_what_the_run_measured_is_told(tmp_path: Path) -> None:
    rows: Iterable[dict[str, Any]] = (
        {"epoch": 1, "step": 10, "recall1": 0.5, "mAP": 0.4, "queries": 80, "left_out": 0, "bad_images": 0},
        {"epoch": 2, "step": 15, "loss": 1.5, "lr": 0.1},
        {"epoch": 2, "step": 20, "recall1": 0.75, "mAP": 0.6, "queries": 80, "left_out": 0, "bad_images": 0},
        {"epoch": 3, "step": 30, "recall1": 0.7, "mAP": 0.7, "queries": 80, "left_out": 0, "bad_images": 0},
    )
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {
        name: [row["value"] for row in measured_rows(tmp_path / f"{name}.pdparams")]
        for name in ("best_model", "latest", "epoch_1", "epoch_9", "other")
    }
    assert told == {"best_model": [0.75, 0.6], "latest": [0.7, 0.7], "epoch_1": [0.5, 0.4], "epoch_9": [], "other": []}
    assert (
        measured_rows(tmp_path / "best_model.pdparams")[0]["what"] == "recall1, epoch 2, 80 queries of DataLoader.Eval"
    )
    weights = save(trained(SMALL), tmp_path / "best_model.pdparams")
    export_config(config(SMALL, tmp_path / "m", weights))
    assert [row["value"] for row in open_model(str(tmp_path / "m"), task="recognition").card.measured] == [0.75, 0.6]


# --- bad input -------------------------------------------------------------------------------------------------


def test_no_weights_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which weights are to be exported"):
        export_config(config(SMALL, tmp_path / "m"))


def test_weights_that_do_not_fill_the_network(tmp_path: Path) -> None:
    state = {name: each for name, each in trained(SMALL).state_dict().items() if not name.startswith("neck.")}
    paddle.save(state, str(tmp_path / "x.pdparams"))
    with pytest.raises(ModelError, match=r"with random numbers in neck\.fc\.weight"):
        export_config(config(SMALL, tmp_path / "m", tmp_path / "x.pdparams"))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arch", "ops", "said"),
    [
        (replace(SMALL, infer_add_softmax=True), OPS, "Arch.infer_add_softmax is True"),
        (replace(SMALL, Neck=None, Head=None, infer_output_key="neck"), OPS, "there is no Neck"),
        (SMALL, (), "has no DataLoader.Eval.Query.dataset.transform_ops"),
        (SMALL, ({"ResizeImage": {"resize_short": 80}}, {"CropImage": {"size": 64}}, OPS[2]), "cannot be stated"),
    ],
)
def test_configs_that_cannot_be_exported(arch: schema.RecModel, ops: Operators, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        export_model(trained(arch), config(arch, tmp_path / "m", ops=ops))
    assert not (tmp_path / "m").exists()


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    network = trained(SMALL)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds thesis\.txt, which no export wrote"):
        export_model(network, config(SMALL, tmp_path / "home"))
    with pytest.raises(UsageError, match="is a file"):
        export_model(network, config(SMALL, tmp_path / "home/thesis.txt"))
    assert (tmp_path / "home/thesis.txt").read_text() == "years of work"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained(SMALL)
    export_model(network, config(SMALL, tmp_path / "m"))
    before = (tmp_path / "m/model.yaml").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for target in ("paddle.jit.save", "shitu.files.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            with pytest.raises(ShituError, match=r"No space left on device.*what was there is untouched"):
                export_model(network, config(SMALL, tmp_path / "m"))
        assert (tmp_path / "m/model.yaml").read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == ["m"]


def test_a_swap_that_fails_half_way_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained(SMALL)
    export_model(network, config(SMALL, tmp_path / "m"))
    before = (tmp_path / "m/model.yaml").read_bytes()
    moves: list[Path] = []

    def second_fails(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == 2:
            raise OSError(5, "Input/output error")
        Path(source).rename(target)

    monkeypatch.setattr("shitu.files.os.replace", second_fails)
    with pytest.raises(ShituError, match="Input/output error"):
        export_model(network, config(SMALL, tmp_path / "m"))
    assert (tmp_path / "m/model.yaml").read_bytes() == before


def test_onnx_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for, it is an error and there is no folder; else a line, and the folder is what it is without."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/paddle2onnx.py").write_text("raise ImportError(\"No module named 'paddle2onnx'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    network, told = trained(SMALL), r"paddle2onnx is not installed; install it: pip install 'shitu\[onnx\]'"
    with pytest.raises(EngineError, match=told):
        export_model(network, config(SMALL, tmp_path / "m"), onnx=True)
    assert [each.name for each in tmp_path.iterdir()] == ["hidden"]
    assert not export_model(network, config(SMALL, tmp_path / "m"), onnx=None).onnx
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(told, line)
    assert open_model(str(tmp_path / "m"), task="recognition").find("onnx") is None


def test_a_recogniser_for_the_other_engines(tmp_path: Path) -> None:
    pytest.importorskip("paddle2onnx", reason="the extra `onnx` is not installed")
    network = trained(V2)
    assert export_model(network, config(V2, tmp_path / "m"), onnx=True).onnx
    model = open_model(str(tmp_path / "m"), task="recognition")
    assert verify_model(model.path) == []
    program = model.find("onnx")
    assert program is not None
    session = ENGINES["onnxruntime"].open(program, EngineOptions())
    assert close(session.run({session.input_names[0]: photos()})[0], features(network, photos()))


# --- the command -----------------------------------------------------------------------------------------------


def test_an_exported_model_builds_a_gallery_and_predicts(
    tmp_path: Path, small_list: Path, shitu: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # the config names ./demo
    source = "configs/train/demo_cpu.yaml"
    network = trained(load_train_config(source).Arch)
    weights = save(network, tmp_path / "best_model.pdparams")
    settings = {"pretrained_model": weights, "save_inference_dir": tmp_path / "m"}
    options = [f"-oGlobal.{key}={value}" for key, value in settings.items()]
    done = CliRunner().invoke(export_command, ["-c", source, *options, "--name", "mine"])
    assert json.loads(done.stdout) == {"model": str(tmp_path / "m"), "dimension": 64, "difference": ANY, "onnx": True}
    assert open_model(str(tmp_path / "m"), task="recognition").name == "mine"
    options = [f"-o{each}" for each in index_overrides(small_list, tmp_path / "gallery")]
    options += [f"-oGlobal.rec_inference_model_dir={tmp_path / 'm'}", "-oGlobal.det_inference_model_dir=null"]
    options += ["-oIndexProcess.embedding_size=64", "-oGlobal.engine=onnxruntime"]
    assert shitu("build-gallery", *options).returncode == 0
    line = small_list.read_text(encoding="utf-8").splitlines()[0]
    path, label = line.split("\t")[:2]
    found = shitu("predict", *options, DEMO / path)
    assert found.returncode == 0, found.stderr
    assert label in found.stdout
