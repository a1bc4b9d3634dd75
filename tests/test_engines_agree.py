"""ONNX Runtime and OpenVINO against Paddle on the demo's photos, and what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.convert import folder as converting
from shitu.convert.agree import BOXES, FEATURES, compare_boxes
from shitu.engines import choose, cpu
from shitu.engines.base import EngineOptions
from shitu.errors import EngineError, ModelError, ShituError
from shitu.images.read import Picture, read_image
from shitu.models import Program
from shitu.models.folder import open_folder
from shitu.models.verify import verify_model
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from tests import reference_models
from tests.conftest import ROOT

PHOTOS = sorted((ROOT / "demo" / "photos").iterdir())[:4]
RECOGNISER, DETECTOR = ROOT / "models/efficientnet_lite0_512", ROOT / "models/picodet_lcnet_x1_0_mainbody"
OTHERS = ["onnxruntime", "openvino"]


def configured(engine: str, *more: str) -> Config:
    return load_config(None, [f"Global.engine={engine}", "Global.precision=fp32", *more])


@pytest.fixture(scope="module")
def photos() -> list[Picture]:
    return [read_image(path) for path in PHOTOS]


@pytest.fixture(scope="module")
def by_paddle(photos: list[Picture]) -> tuple[np.ndarray, list[np.ndarray]]:
    return RecPredictor(configured("paddle")).predict(photos), all_rows("paddle", photos)


def all_rows(engine: str, photos: list[Picture]) -> list[np.ndarray]:
    """Every row (class, score, xyxy) that the bundled detector has for each photo."""
    seen: list[np.ndarray] = []
    detector = DetPredictor(configured(engine, "Global.threshold=0", "Global.max_det_results=1000"))
    assert detector.engine == f"{engine}, fp32"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "_select", lambda rows, *_: seen.append(rows) or [])
        detector.predict(photos)
    return seen


@pytest.mark.parametrize("engine", OTHERS)
def test_engines_give_what_paddle_gives(
    engine: str, photos: list[Picture], by_paddle: tuple[np.ndarray, list[np.ndarray]]
) -> None:
    features, boxes = by_paddle
    np.testing.assert_allclose(RecPredictor(configured(engine)).predict(photos), features, atol=FEATURES, rtol=0)
    for theirs, ours in zip(boxes, all_rows(engine, photos), strict=True):
        assert compare_boxes(theirs, ours) <= BOXES  # it raises where boxes have no twin


def test_one_gallery_serves_them_all(tmp_path: Path, photos: list[Picture]) -> None:
    index = [f"IndexProcess.index_dir={tmp_path / 'index'}"]
    GalleryBuilder(configured("paddle", *index)).run()
    labels = []
    for engine in ("paddle", *OTHERS):
        found = SystemPredictor(configured(engine, *index)).predict(photos)
        labels.append([[region.label for region in each.regions] for each in found])
    assert labels[0] == labels[1] == labels[2]
    assert sum(map(len, labels[0])) > 8


def test_bf16_is_close_or_refused(photos: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = RecPredictor(configured("onnxruntime")).predict(photos)
    if cpu.has_bf16():
        for engine in ("openvino", "paddle"):
            found = RecPredictor(load_config(None, [f"Global.engine={engine}", "Global.precision=bf16"])).predict(
                photos
            )
            assert 0.99 < (found * wanted).sum(axis=1).min() < 1 - 1e-6  # close, and not float32 by another name
    monkeypatch.setattr(choose, "has_bf16", lambda: False)
    with pytest.raises(EngineError, match=r"no bfloat16 instructions .* set it to fp32, int8 or auto"):
        RecPredictor(load_config(None, ["Global.engine=openvino", "Global.precision=bf16"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["Global.engine=paddle", "Global.precision=int8"], r"Global.engine paddle runs none of them in int8"),
        (["Global.engine=onnxruntime", "Global.precision=bf16"], "set Global.engine or Global.precision to auto"),
    ],
)
def test_what_no_program_is_there_for(options: list[str], message: str) -> None:
    if not cpu.has_bf16() and "bf16" in options[1]:
        pytest.skip("the processor's lack is told first")
    with pytest.raises(EngineError, match=message):
        RecPredictor(load_config(None, options))


def test_paddleclas_flags_name_engines() -> None:
    assert RecPredictor(configured("paddle", "Global.use_onnx=True")).engine == "onnxruntime, fp32"


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from shitu.engines import openvino

    openvino._library.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineError, match=r"install it: pip install 'shitu\[openvino\]'"):
        RecPredictor(configured("openvino"))
    openvino._library.cache_clear()


# --- converting -------------------------------------------------------------------------------------------------------


def test_a_model_without_onnx_names_the_command_and_the_command_works(tmp_path: Path, photos: list[Picture]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(RECOGNISER, folder)
    card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    del card["programs"], card["files"]["inference.onnx"]
    (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    (folder / "inference.onnx").unlink()
    options = configured("onnxruntime", f"Global.rec_inference_model_dir={folder}")
    with pytest.raises(EngineError, match=f"make one: shitu models convert {folder}"):
        RecPredictor(options)
    converting.convert_model(str(folder))
    found = RecPredictor(options)
    assert found.fingerprint == RecPredictor(configured("paddle")).fingerprint
    wanted = RecPredictor(configured("paddle")).predict(photos)
    np.testing.assert_allclose(found.predict(photos), wanted, atol=FEATURES, rtol=0)
    assert (folder / "inference.onnx").stat().st_size < 200_000  # the weights are Paddle's file


def test_weights_that_were_exchanged_are_not_vouched_for(tmp_path: Path) -> None:
    """A conversion writes records of what it made; other weights under the card's name do not become the card's."""
    folder = tmp_path / "model"
    shutil.copytree(RECOGNISER, folder)
    weights = bytearray((folder / "inference.pdiparams").read_bytes())
    weights[-40:-20] = bytes(20)
    (folder / "inference.pdiparams").write_bytes(weights)
    converting.convert_model(str(folder))
    assert verify_model(folder)
    theirs, ours = (
        RecPredictor(configured("onnxruntime", f"Global.rec_inference_model_dir={each}")).fingerprint
        for each in (RECOGNISER, folder)
    )
    assert theirs != ours


def test_nothing_is_written_where_the_outputs_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DETECTOR, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    load = converting.load

    def spoilt(path: Path) -> Any:
        network = load(path)
        weight = next(
            each
            for each in network.graph.node
            if each.op_type == "Constant" and len(each.attribute[0].t.raw_data) > 4000
        )
        values = numpy_helper.to_array(weight.attribute[0].t)
        weight.attribute[0].t.CopyFrom(numpy_helper.from_array(values * 1.05, weight.attribute[0].t.name))
        return network

    monkeypatch.setattr(converting, "load", spoilt)
    with pytest.raises(EngineError, match="nothing written"):
        converting.convert_model(str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_official_detector_is_converted(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """PaddleClas's .pdmodel, whose boxes are made in a loop and suppressed inside; weights are random, boxes differ."""
    folder = tmp_path / "official"
    shutil.copytree(reference_models.mainbody(tmp_path_factory, boxes=True), folder)
    converting.convert_model(str(folder))
    model = open_folder(folder)
    raw = model.find("onnx", raw=True)
    assert raw is not None
    assert model.card.nms is not None
    assert model.card.nms.nms_threshold == 0.6  # pp-shitu.md
    detector = [f"Global.det_inference_model_dir={folder}", "Global.threshold=0.3", "Global.max_det_results=50"]
    photo = read_image(PHOTOS[0])
    theirs, ours = (DetPredictor(configured(each, *detector)).predict([photo])[0] for each in ("paddle", "onnxruntime"))
    assert len(theirs) == len(ours) > 3
    for one, other in zip(theirs, ours, strict=True):
        assert np.abs(np.subtract(one.bbox, other.bbox)).max() <= 1  # whole pixels, of boxes 0.05 px apart
        assert one.score == pytest.approx(other.score, abs=1e-4)


# --- files of strangers -----------------------------------------------------------------------------------------------


def pointing_to(place: str, folder: Path, **card: Any) -> Config:
    """A recogniser whose one weight lies at `place`."""
    shutil.copytree(RECOGNISER, folder)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 512], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", "0"), ("length", str(3 * 512 * 4))):
        weight.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [None, 3, 224, 224]), ("y", [None, 512]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "inference.onnx").write_bytes(network.SerializeToString())
    told = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    told["programs"] = {"onnx": {"fp32": {"program": "inference.onnx", **card}}}
    (folder / "model.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return configured("onnxruntime", f"Global.rec_inference_model_dir={folder}")


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "/etc/passwd", "inference.pdiparams"])
@pytest.mark.parametrize("engine", OTHERS)
def test_a_file_that_points_elsewhere_is_refused(
    place: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(3 * 512 * 4))
    config = pointing_to(place, tmp_path / "model")
    shutil.copy(tmp_path / "secret.bin", tmp_path / "model" / "secret.bin")
    with pytest.raises(ModelError, match="nothing may be read; save the model with its weights inside"):
        RecPredictor(
            load_config(
                None,
                [f"Global.rec_inference_model_dir={config.Global.rec_inference_model_dir}", f"Global.engine={engine}"],
            )
        )


def test_a_file_that_points_to_what_the_card_names_is_read(tmp_path: Path, photos: list[Picture]) -> None:
    config = pointing_to("weights.bin", tmp_path / "model", params="weights.bin")
    weights = np.random.default_rng(0).normal(size=(3, 512)).astype(np.float32)
    (tmp_path / "model" / "weights.bin").write_bytes(weights.tobytes())
    assert RecPredictor(config).predict(photos[:1]).shape == (1, 512)


@pytest.mark.parametrize("content", [b"", b"not ONNX at all, but long enough", b"\x08\x08 and then nothing of sense"])
@pytest.mark.parametrize("engine", OTHERS)
def test_a_damaged_file_is_told(content: bytes, engine: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(RECOGNISER, folder)
    (folder / "inference.onnx").write_bytes(content)
    with pytest.raises(ShituError, match=r"inference.onnx.*shitu models verify"):
        RecPredictor(configured(engine, f"Global.rec_inference_model_dir={folder}"))


def test_int8_products_do_not_saturate(tmp_path: Path) -> None:
    """Without VNNI, ONNX Runtime adds two products of 8 bits in 16: 2 x 255 x 127 is too much for these."""
    weights = np.full((64, 16), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "int8",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    program = Program("onnx", "int8", tmp_path / "int8.onnx")
    program.program.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    x = np.full((1, 64), 255, np.uint8)
    (found,) = choose.ENGINES["onnxruntime"].open(program, EngineOptions(precision="int8")).run({"x": x})
    assert found.tolist() == (x.astype(int) @ weights.astype(int)).tolist()
