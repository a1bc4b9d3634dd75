"""Weights into networks: what paddle.save writes is read without being run, and every tensor is accounted for."""

from __future__ import annotations

import logging
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from numpy.testing import assert_array_equal
from paddle import nn

from shitu.errors import ConfigError, DownloadError, ModelError
from shitu.training.base.read_weights import read_state
from shitu.training.rec.networks import DistillationModel, RecModel
from shitu.training.rec.pretrained import load_named, load_start_weights, load_weights, to_fetch
from shitu.training.rec.schema import Global, TrainConfig
from shitu.training.rec.schema_arch import FC, Backbone, BNNeck, NamedModel
from shitu.training.rec.schema_arch import BackboneStopLayer as Stop
from shitu.training.rec.schema_arch import DistillationModel as DistillationSection
from shitu.training.rec.schema_arch import RecModel as Section
from tests.conftest import SHARED

FEATURES = 320  # PPLCNet_x0_25 with class_expand 320


def section(name: str = "PPLCNet_x0_25", pretrained: str | None = None) -> Section:
    return Section(
        Backbone=Backbone(name=name, class_expand=FEATURES, pretrained=pretrained),
        BackboneStopLayer=Stop("flatten"),
        Neck=BNNeck(num_features=FEATURES),
        Head=FC(embedding_size=FEATURES),
    )


def network(classes: int = 7, name: str = "PPLCNet_x0_25") -> RecModel:
    return RecModel(section(name), classes)


def distilled(classes: int = 7) -> tuple[DistillationSection, DistillationModel]:
    models = tuple(NamedModel(key, section()) for key in ("Teacher", "Student"))
    arch = DistillationSection(models=models)
    return arch, DistillationModel(arch, classes)


def arrays(layer: nn.Layer) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}


def saved(state: Any, path: Path, protocol: int = 4) -> str:
    paddle.save(state, str(path), protocol=protocol)
    return str(path)


# --- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_state_dicts_read_as_paddle_reads_them(protocol: int, tmp_path: Path) -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4))
    rate = paddle.optimizer.lr.LinearWarmup(paddle.optimizer.lr.CosineAnnealingDecay(0.1, 10), 5, 0.0, 0.1)
    optimizer = paddle.optimizer.Momentum(rate, parameters=layer.parameters())
    layer(paddle.rand([5, 3])).sum().backward()
    optimizer.step()
    for number, state in enumerate((layer.state_dict(), optimizer.state_dict())):
        path = tmp_path / f"{number}.pdparams"
        saved(state, path, protocol)
        read, wanted = read_state(path), paddle.load(str(path), return_numpy=True)
        wanted.pop("StructuredToParameterName@@", None)
        assert read.keys() == wanted.keys()
        for name, value in wanted.items():
            assert_array_equal(read[name], value)


def test_plain_values_nest(tmp_path: Path) -> None:
    state = {"a": {"b": [1, 2.5, None, True, "白茶"], "t": paddle.ones([2, 0])}, "标": np.float32(1.5)}
    read = read_state(Path(saved(state, tmp_path / "x.pdparams")))
    assert read["a"]["b"] == [1, 2.5, None, True, "白茶"]
    assert read["a"]["t"].shape == (2, 0)
    assert read["标"] == 1.5


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(3, dtype=">i4"), np.array(True), np.zeros((0, 3))],
    ids=["by columns", "big-endian", "no dimension", "empty"],
)
def test_arrays_of_every_layout(array: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps({"x": array}, protocol=4))
    assert_array_equal(read_state(path)["x"], array)


def test_slices_of_large_arrays_are_joined(tmp_path: Path) -> None:
    """What protocol 2 makes of arrays beyond 1 GB, in small."""
    parts = {"w@@.0": np.arange(4.0), "w@@.1": np.arange(4.0, 6.0)}
    info = {"UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 3), "slices": list(parts)}}}
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps({**parts, **info}, protocol=2))
    read = read_state(path)
    assert list(read) == ["w"]
    assert_array_equal(read["w"], np.arange(6.0).reshape(2, 3))


class _Evil:
    """Unpickles by calling a function on arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch ran",)),
        (eval, ("open('ran', 'w')", {})),
        (eval, ("open('ran', 'w')", {"data": 1, "open": 2})),
        (exec, ("open('ran', 'w')",)),
        (getattr, ("", "join")),
        (np.load, ("x.npy",)),
        (OrderedDict.fromkeys, (["a"],)),
        (paddle.load, ("ran",)),
    ],
    ids=["system", "eval", "eval with data", "exec", "getattr", "np.load", "method", "paddle.load"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_something_runs_nothing(
    function: Any, arguments: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pdparams").write_bytes(pickle.dumps({"w": _Evil(function, *arguments)}, protocol=protocol))
    try:
        read = read_state(Path("x.pdparams"))
    except ModelError as error:
        assert "x.pdparams" in str(error)  # noqa: PT017
    else:
        assert read == {"w": 1}  # the stand-in for paddle's eval("data", {"data": ...}) gave what was handed in
        assert function is eval
    assert not Path("ran").exists()


def test_objects_and_nests_are_refused(tmp_path: Path) -> None:
    nest: Any = ()
    for _ in range(60):
        nest = (nest, nest)
    objects = np.array([print], dtype=object)
    for value, said in ((nest, "more than 100,000"), (objects, "numbers are wanted"), ({1, 2}, "set")):
        path = tmp_path / "x.pdparams"
        path.write_bytes(pickle.dumps({"w": value}, protocol=4))
        with pytest.raises(ModelError, match=said):
            read_state(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"not a pickle", "damaged"),
        (pickle.dumps([1, 2]), "holds a list"),
        (pickle.dumps({1: 2}), "names is wanted"),
        (pickle.dumps("text"), "holds a str"),
    ],
)
def test_other_files_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.pdparams").write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_state(tmp_path / "x.pdparams")


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    saved(nn.Linear(3, 4).state_dict(), tmp_path / "x.pdparams")
    whole = (tmp_path / "x.pdparams").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "y.pdparams").write_bytes(whole[:length])
        with pytest.raises(ModelError, match="damaged"):
            read_state(tmp_path / "y.pdparams")


# --- loading ---------------------------------------------------------------------------------------------------


def test_a_network_loads_its_own_file_whole(tmp_path: Path) -> None:
    source, target = network(), network()
    report = load_weights(target, saved(source.state_dict(), tmp_path / "白茶.pdparams").removesuffix(".pdparams"))
    assert (report.missing, report.unexpected, report.other_shape) == ((), (), ())
    assert set(report.loaded) == set(target.state_dict())
    wanted = arrays(source)
    for name, array in arrays(target).items():
        assert_array_equal(array, wanted[name], err_msg=name)


def test_imagenet_weights_have_no_backbone_before_their_names(tmp_path: Path) -> None:
    source, target = network(), network()
    path = saved({**arrays(source.backbone), "fc.weight": np.zeros((5, 5), "float32")}, tmp_path / "x.pdparams")
    report = load_weights(target, path)
    assert set(report.loaded) == {name for name in target.state_dict() if name.startswith("backbone.")}
    assert report.unexpected == ("fc.weight",)
    assert set(report.missing) == {name for name in target.state_dict() if not name.startswith("backbone.")}
    assert_array_equal(arrays(target)["backbone.conv1.conv.weight"], arrays(source)["backbone.conv1.conv.weight"])


def test_the_student_of_a_distillation_is_taken(tmp_path: Path) -> None:
    _, source = distilled()
    target = network()
    report = load_weights(target, saved(source.state_dict(), tmp_path / "x.pdparams"))
    assert set(report.loaded) == set(target.state_dict())
    wanted = arrays(source)
    for name, array in arrays(target).items():
        assert_array_equal(array, wanted[f"Student.{name}"])


def test_a_distillation_takes_one_models_weights_for_each(tmp_path: Path) -> None:
    source = network()
    _, target = distilled()
    load_weights(target, saved(source.state_dict(), tmp_path / "x.pdparams"))
    for name, array in arrays(source).items():
        assert_array_equal(array, arrays(target)[f"Student.{name}"])
        assert_array_equal(array, arrays(target)[f"Teacher.{name}"])


def test_a_bare_backbone_takes_a_whole_models_file(tmp_path: Path) -> None:
    source, target = network(), network()
    report = load_weights(target.backbone, saved(source.state_dict(), tmp_path / "x.pdparams"))
    assert not report.missing
    assert_array_equal(arrays(target)["backbone.conv1.conv.weight"], arrays(source)["backbone.conv1.conv.weight"])


def test_a_head_of_other_classes_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(network(classes=9).state_dict(), tmp_path / "x.pdparams")
    target = network(classes=7)
    before = arrays(target)["head.fc.weight"]
    with caplog.at_level(logging.WARNING, "shitu"):
        report = load_weights(target, path)
    assert report.other_shape == (
        f"head.fc.weight ({FEATURES}, 7) here, ({FEATURES}, 9) there",
        "head.fc.bias (7,) here, (9,) there",
    )
    assert_array_equal(arrays(target)["head.fc.weight"], before)
    assert f"loaded {len(target.state_dict()) - 2} of {len(target.state_dict())} tensors" in caplog.text
    assert "left out, other shape: head.fc.weight" in caplog.text
    with pytest.raises(ModelError, match="of another shape: head"):
        load_weights(target, path, strict_heads=True)


def test_weights_of_another_width_are_refused_before_anything_is_set(tmp_path: Path) -> None:
    path = saved(network(name="PPLCNet_x0_35").state_dict(), tmp_path / "x.pdparams")
    target = network()
    before = arrays(target)
    with pytest.raises(ModelError, match="of another shape: backbone"):
        load_weights(target, path)
    for name, array in arrays(target).items():
        assert_array_equal(array, before[name])


def test_imagenet_weights_may_differ_at_the_end_only(tmp_path: Path) -> None:
    """PPLCNetV2_base ends in 1280, PPLCNetV2_base_ShiTu in 512: PaddleClas's V2 recipe starts so."""
    source = arrays(network().backbone)
    source["last_conv.weight"] = np.zeros((1280, *source["last_conv.weight"].shape[1:]), "float32")
    report = load_weights(network(), saved(source, tmp_path / "x.pdparams"))
    assert [each.split(" ")[0] for each in report.other_shape] == ["backbone.last_conv.weight"]
    source["conv1.conv.weight"] = np.zeros((9, 3, 3, 3), "float32")
    with pytest.raises(ModelError, match=r"of another shape: backbone\.conv1\.conv\.weight"):
        load_weights(network(), saved(source, tmp_path / "y.pdparams"))


def test_nothing_that_fits(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing in it fits: it has a\.weight; the network has backbone\.conv1"):
        load_weights(network(), saved({"a.weight": paddle.zeros([2])}, tmp_path / "x.pdparams"))
    with pytest.raises(ModelError, match="it has no tensors"):
        load_weights(network(), saved({}, tmp_path / "x.pdparams"))


def test_what_fits_by_chance_only(tmp_path: Path) -> None:
    state = {"conv1.conv.weight": arrays(network().backbone)["conv1.conv.weight"], "layers.0.weight": np.ones(3)}
    with pytest.raises(ModelError, match=r"only backbone\.conv1\.conv\.weight fits: it has layers\.0\.weight"):
        load_weights(network(), saved(state, tmp_path / "x.pdparams"))


def test_bfloat16_comes_as_the_bits_of_uint16(tmp_path: Path) -> None:
    layer = nn.Linear(3, 4)
    wanted = layer.weight.astype("bfloat16").astype("float32").numpy()
    path = saved({name: each.astype("bfloat16") for name, each in layer.state_dict().items()}, tmp_path / "x.pdparams")
    load_weights(layer, path)
    assert_array_equal(layer.weight.numpy(), wanted)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    state = arrays(network())
    state["neck.feat_bn.weight"] = np.full(FEATURES, np.nan, "float32")
    with pytest.raises(ModelError, match=r"neck\.feat_bn\.weight holds numbers that are not finite"):
        load_weights(network(), saved(state, tmp_path / "x.pdparams"))


def test_what_only_an_export_uses_is_not_missed(tmp_path: Path) -> None:
    """PPLCNetV2's fused convolutions are in nobody's way when a file comes without them."""
    from shitu.training.rec.networks import build_network

    arch = Section(Backbone=Backbone(class_expand=64), BackboneStopLayer=Stop("flatten"), Neck=BNNeck(num_features=64))
    built = build_network(arch, 3)
    state = {
        name: array for name, array in arrays(built).items() if not name.endswith((".dw_conv.weight", ".dw_conv.bias"))
    }
    assert len(state) < len(built.state_dict())
    assert load_weights(built, saved(state, tmp_path / "x.pdparams")).missing == ()


@pytest.mark.skipif(not SHARED.exists(), reason="the weak start weights are in ../shared")
def test_the_weak_start_fits_the_v2_backbone() -> None:
    arch = Section(Backbone=Backbone(class_expand=512), BackboneStopLayer=Stop("flatten"))
    path = SHARED / "models/pplcnetv2_base_shitu_distilled_v0/backbone.pdparams"
    from shitu.training.rec.networks import build_network

    report = load_weights(build_network(arch, 3), str(path))
    assert (report.missing, report.unexpected, report.other_shape) == ((), (), ())


# --- where weights come from -----------------------------------------------------------------------------------


def test_a_folder_with_weights(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    saved(network().state_dict(), tmp_path / "model/weights.pdparams")
    assert not load_weights(network(), str(tmp_path / "model")).missing


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("best_modle", "did you mean best_model.pdparams?"),
        ("nothing/at/all", "there is no such file"),
        ("~nobody-at-all/x", "no usable path of weights"),
        ("x" * 300, "no usable path of weights"),
        ("PPLCNetV2_bas", "did you mean PPLCNetV2_base?"),
        ("folder", r"name one of its files: a\.pdparams"),
        ("empty", "it holds no .pdparams"),
    ],
)
def test_sources_that_are_not_there(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHITU_HOME", str(tmp_path / "home"))
    for name in ("folder", "empty"):
        Path(name).mkdir()
    for name in ("best_model.pdparams", "folder/a.pdparams"):
        Path(name).write_bytes(b"")
    with pytest.raises(ModelError, match=said):
        load_weights(network(), source)


def test_pretrained_true_downloads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_HOME", str(tmp_path))
    asked = []

    def arrives(url: str, target: Path) -> Path:
        asked.append(url)
        saved(network().backbone.state_dict(), target)
        return target

    monkeypatch.setattr("shitu.models.download.download", arrives)
    arch = section(pretrained="True")
    for _ in range(2):
        (report,) = load_start_weights(network(), arch)
        assert not report.missing
    assert asked == [
        "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models/PPLCNet_x0_25_pretrained.pdparams"
    ]
    assert Path(report.source) == tmp_path / "weights/PPLCNet_x0_25_pretrained.pdparams"


def test_weights_by_their_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PaddleClas's files of re-identification and its fine-tuned models name them."""
    monkeypatch.setenv("SHITU_HOME", str(tmp_path))
    monkeypatch.setattr("shitu.models.download.download", lambda url, to: saved(network().state_dict(), to))
    url = "https://somewhere.example/dygraph/reid_pretrained.pdparams"
    ours = TrainConfig(Global=Global(pretrained_model=url), Arch=section(pretrained="True"))
    backbone = TrainConfig(Arch=section(pretrained=url))
    for config in (ours, backbone):
        (tmp_path / "weights/reid_pretrained.pdparams").unlink(missing_ok=True)
        assert to_fetch(config) == [url]
        (report,) = load_named(network(), config)
        assert not report.missing
        assert to_fetch(config) == []


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, target: Path) -> Path:
        raise DownloadError(f"{url}: no connection")

    monkeypatch.setenv("SHITU_HOME", str(tmp_path))
    monkeypatch.setattr("shitu.models.download.download", refuse)
    with pytest.raises(DownloadError) as caught:
        load_start_weights(network(), section(pretrained="True"))
    assert f"by hand to {tmp_path}/weights/PPLCNet_x0_25_pretrained.pdparams" in str(caught.value)
    assert "Arch.Backbone.pretrained=False" in str(caught.value)


def test_nothing_is_loaded_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.models.download.download", lambda *_: pytest.fail("a download that nobody asked for"))
    assert load_start_weights(network(), section()) == []


def test_no_address_is_known_for_our_own() -> None:
    arch = Section(Backbone=Backbone(name="EfficientNetLite0", pretrained="True"))
    with pytest.raises(ConfigError, match="no ImageNet weights of EfficientNetLite0"):
        load_start_weights(RecModel(arch, 3), arch)


def test_a_distillations_own_list(tmp_path: Path) -> None:
    source = network()
    path = saved(source.state_dict(), tmp_path / "x.pdparams")
    models = tuple(NamedModel(key, section()) for key in ("Teacher", "Student"))
    arch = DistillationSection(models=models, pretrained_list=(path, None))
    target = DistillationModel(arch, 7)
    student = arrays(target)["Student.head.fc.weight"]
    (report,) = load_start_weights(target, arch)
    assert not report.missing
    assert_array_equal(arrays(target)["Teacher.head.fc.weight"], arrays(source)["head.fc.weight"])
    assert_array_equal(arrays(target)["Student.head.fc.weight"], student)
