"""`shitu quantize` on the bundled models with a few pictures: what it writes, what then runs, what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner, Result

from shitu.build.builder import GalleryBuilder
from shitu.cli import main
from shitu.config import Config, load_config
from shitu.convert.quantize_boxes import agreement, precision_and_recall
from shitu.convert.quantize_images import Photo, listed_photos, spread
from shitu.engines import choose
from shitu.engines.base import EngineOptions
from shitu.errors import EngineError, GalleryError
from shitu.images.read import read_image
from shitu.models.folder import AGREES, AGREES_BOXES, open_folder
from shitu.models.verify import verify_model
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from tests.conftest import DEMO, ROOT, index_overrides

RECOGNISER, DETECTOR = ROOT / "models/efficientnet_lite0_512", ROOT / "models/picodet_lcnet_x1_0_mainbody"
CARDS = ROOT / "tests" / "data" / "cards"
PHOTOS = sorted((DEMO / "photos").iterdir())[:3]
ENGINES = ["onnxruntime", "openvino"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["quantize", *map(str, arguments)])


def refused(*arguments: object, status: int = 2) -> str:
    done = run(*arguments)
    assert done.exit_code == status, done.output
    return done.stderr


def configured(*overrides: str) -> Config:
    return load_config(None, list(overrides))


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled one with an int8 program, calibrated on the pictures of the card set."""
    folder = tmp_path_factory.mktemp("quantised") / "rec"
    part = CARDS / "recogniser"
    done = run(
        RECOGNISER, "--out", folder, "--images", part / "gallery.txt", "--image-root", part, "--groups", 12,
        "--method", "minmax", "--query", part / "query.txt", "--gallery", part / "gallery.txt",
        "--report", folder.with_suffix(".json"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def test_the_card_says_what_was_measured(recogniser: Path) -> None:
    model = open_folder(recogniser)
    program = model.find("onnx", "int8")
    assert program is not None
    assert program.params is None
    assert program.cosine is not None
    assert program.cosine >= AGREES
    # how many layers stay in fp32 is the weights' matter
    assert program.program.stat().st_size < 0.6 * RECOGNISER.joinpath("inference.pdiparams").stat().st_size
    rows = {row["what"]: row for row in model.card.measured if row["what"].startswith("int8 (minmax, 42 photos)")}
    assert all(row["command"].startswith("shitu") for row in rows.values())
    figures = {what.partition(": ")[2]: row["value"] for what, row in rows.items()}
    assert figures["Recall@1"] >= figures["Recall@1, fp32 beside it"] - 0.005
    assert verify_model(recogniser) == []
    kept = [row for row in model.card.measured if row["what"] not in rows]
    before = open_folder(RECOGNISER).card.measured  # the bundled one is quantised already, by other photos
    assert kept == [row for row in before if not row["what"].startswith("int8 (")]


def test_the_report_has_every_layer(recogniser: Path) -> None:
    told = json.loads(recogniser.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(told["layers"]) == 50
    assert all(layer["weights"] > 30 and layer["output"] > 5 for layer in told["layers"])
    assert told["reached"]
    assert told["drop"] <= 0.5
    assert set(told["left_out"]) < {layer["name"] for layer in told["layers"]}
    assert told["tried"][-1]["left_out"] == told["left_out"]


@pytest.mark.parametrize("engine", ENGINES)
def test_both_engines_run_it_as_measured(recogniser: Path, engine: str) -> None:
    pictures = [read_image(path) for path in PHOTOS]
    wanted = RecPredictor(configured("Global.engine=paddle", "Global.precision=fp32")).predict(pictures)
    model = f"Global.rec_inference_model_dir={recogniser}"
    found = RecPredictor(configured(f"Global.engine={engine}", "Global.precision=int8", model))
    assert found.engine == f"{engine}, int8"
    cosines = (found.predict(pictures) * wanted).sum(axis=1)
    assert 0.98 < cosines.min() < 0.9999  # close, and not float32 by another name


@pytest.mark.parametrize(("built", "searched"), [("fp32", "int8"), ("int8", "fp32")])
def test_one_gallery_for_both(  # noqa: PLR0917
    recogniser: Path, built: str, searched: str, small_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the detector in fp32, which has no int8 here."""
    monkeypatch.setattr(choose, "has_int8", lambda: True)
    index = [*index_overrides(small_list, tmp_path / "index"), "Global.det_inference_model_dir="]
    index += [f"Global.rec_inference_model_dir={recogniser}", "Global.engine=onnxruntime", "Global.whole_image=always"]
    GalleryBuilder(configured(*index, f"Global.precision={built}")).run()
    system = SystemPredictor(configured(*index, f"Global.precision={searched}"))
    lines = small_list.read_text(encoding="utf-8").splitlines()[:6]
    found = system.predict([read_image(DEMO / line.split("\t")[0]) for line in lines])
    assert [each.regions[0].label for each in found] == [line.split("\t")[1] for line in lines]
    assert RecPredictor(configured(*index, "Global.precision=auto")).engine == "onnxruntime, int8"


def test_a_gallery_of_another_precision_is_refused_with_the_reason(
    recogniser: Path, small_list: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(recogniser, folder)
    card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    card["programs"]["onnx"]["int8"]["cosine"] = 0.981
    (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    index = [*index_overrides(small_list, tmp_path / "index"), "Global.det_inference_model_dir="]
    index += [f"Global.rec_inference_model_dir={folder}", "Global.engine=onnxruntime"]
    GalleryBuilder(configured(*index, "Global.precision=fp32")).run()
    with pytest.raises(GalleryError, match=r"cosine between vectors in int8 and in fp32 is 0\.981, below 0\.99: set"):
        SystemPredictor(configured(*index, "Global.precision=int8"))
    SystemPredictor(configured(*index, "Global.precision=auto"))  # takes fp32


# --- detectors --------------------------------------------------------------------------------------------------------


def test_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes it only where the card says that its boxes are those of fp32; asked for, it runs in any case."""
    folder = tmp_path / "det"
    images = CARDS / "detector" / "images"
    done = run(DETECTOR, "--out", folder, "--images", images, "--count", 4, "--method", "minmax", "--groups", 2)
    assert done.exit_code in (0, 1), done.output
    assert "4 photos to calibrate with; below 30" in done.output
    model = open_folder(folder)
    program = model.find("onnx", "int8", raw=True)
    assert program is not None
    assert program.agreement is not None
    network = onnx.load(folder / "inference_int8.onnx")
    makers = {name: node for node in network.graph.node for name in node.output}
    softmaxes = [node for node in network.graph.node if node.op_type == "Softmax"]
    assert len(softmaxes) == 4
    assert not [
        node for node in network.graph.node if node.op_type == "Softmax" and "Quant" in makers[node.input[0]].op_type
    ]
    monkeypatch.setattr(choose, "has_int8", lambda: True)
    for said, wanted in ((AGREES_BOXES, ["int8", "fp32"]), (AGREES_BOXES - 0.01, ["fp32"])):
        card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
        card["programs"]["onnx"]["int8"]["raw"]["agreement"] = said
        (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
        assert choose.precisions(open_folder(folder), EngineOptions(engine="auto", precision="auto")) == wanted
    for engine in ENGINES:
        detector = [f"Global.det_inference_model_dir={folder}", f"Global.engine={engine}", "Global.precision=int8"]
        predictor = DetPredictor(configured(*detector))
        assert predictor.engine == f"{engine}, int8"
        predictor.predict([read_image(PHOTOS[0])])


def test_a_detector_for_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hard swishes stay between its layers, in one piece, and nothing is rounded before them."""
    folder = tmp_path / "det"
    images = CARDS / "detector" / "images"
    engine = ["--engine", "openvino", "--method", "minmax", "--groups", 2]
    done = run(DETECTOR, "--out", folder, "--images", images, "--count", 4, *engine)
    assert done.exit_code in (0, 1), done.output
    program = open_folder(folder).find("openvino", "int8", raw=True)
    assert program is not None
    assert program.program.name == "inference_int8_openvino.onnx"
    graph = onnx.load(program.program).graph
    makers = {name: node for node in graph.node for name in node.output}
    swishes = [node for node in graph.node if node.op_type == "HardSwish"]
    assert len(swishes) == 94
    assert {makers[node.input[0]].op_type for node in swishes} == {"Conv"}
    weights = {each.name: each for each in graph.initializer}
    eights = [each for each in weights.values() if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4]
    assert eights
    assert all(each.dims[1] > 1 for each in eights)  # no depthwise one
    monkeypatch.setattr(choose, "has_int8", lambda: True)
    detector = f"Global.det_inference_model_dir={DETECTOR}"  # the bundled one comes with one
    assert DetPredictor(configured(detector)).engine == "onnxruntime, fp32"
    predictor = DetPredictor(configured(detector, "Global.engine=openvino"))
    assert predictor.engine == "openvino, int8"
    plain = DetPredictor(configured(detector, "Global.engine=openvino", "Global.precision=fp32"))
    assert plain.engine == "openvino, fp32"
    photos = [read_image(path) for path in PHOTOS]
    for ours, theirs in zip(predictor.predict(photos), plain.predict(photos), strict=True):
        assert ours
        assert abs(len(ours) - len(theirs)) <= 2
    with pytest.raises(EngineError, match=r"its int8 is for OpenVINO: set Global.engine to openvino"):
        DetPredictor(configured(detector, "Global.precision=int8"))


def test_boxes_are_compared() -> None:
    rows = np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.8, 20, 20, 30, 40], [0, 0.1, 5, 5, 6, 6]], np.float32)
    assert agreement([rows], [rows]) == 1
    assert agreement([rows], [rows[:1]]) == pytest.approx(2 / 3)  # the unsure one is not asked for
    assert agreement([rows[:0]], [rows[:0]]) == 1
    other = rows.copy()
    other[0, 0] = 1
    assert agreement([rows[:2]], [other[:2]]) == 0.5


def test_average_precision_is_cocos() -> None:
    pytest.importorskip("pycocotools", reason="wants the extra `train`")
    from shitu.training.det.coco_data import read_coco
    from shitu.training.det.evaluate import Found, coco_metrics
    from shitu.training.det.schema import COCODataSet

    section = COCODataSet(dataset_dir=str(CARDS / "detector"), image_dir="images", anno_path="annotations.json")
    data = read_coco(section, 1, what="the card set", training=False)
    rng, found, truth = np.random.default_rng(0), [], []
    for image in data.coco["images"]:
        boxes = np.array([each["bbox"] for each in data.coco["annotations"] if each["image_id"] == image["id"]])
        boxes[:, 2:] += boxes[:, :2]
        moved = np.repeat(boxes, 3, axis=0) + rng.normal(0, 6, (3 * len(boxes), 4))
        scores = rng.random(len(moved))
        found.append(np.column_stack([np.zeros(len(moved)), scores, moved]).astype(np.float32))
        truth.append(boxes)
    wanted = coco_metrics(data, [Found(number, rows) for number, rows in enumerate(found)])
    ours, _ = precision_and_recall(found, truth)
    assert wanted["AP"] == pytest.approx(ours, abs=1e-6)
    assert 0.05 < ours < 0.95


# --- bad input --------------------------------------------------------------------------------------------------------


def listed(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_three_photos_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    photos = listed(tmp_path / "l.txt", *map(str, [*PHOTOS, tmp_path / "broken.jpg"]))
    done = run(
        RECOGNISER, "--out", tmp_path / "m", "--images", photos, "--method", "minmax", "--groups", 2,
    )  # fmt: skip
    assert done.exit_code in (0, 1), done.output
    assert "3 photos to calibrate with; below 30 the ranges depend on which ones they are" in done.stderr
    assert "3 photos to calibrate with, 1 that cannot be read" in done.stderr
    assert "3 to measure, 1 unreadable" in done.stdout


def test_no_photo(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    out = ("--out", tmp_path / "m", "--images")
    assert "none of 1 photos can be read" in refused(RECOGNISER, *out, listed(tmp_path / "l.txt", "broken.jpg"))
    assert "no photo in it; wanted at least 30" in refused(RECOGNISER, *out, listed(tmp_path / "empty.txt"))
    assert "wanted a list of photos, a folder of them" in refused(RECOGNISER, *out, tmp_path / "none.txt")
    assert "is no list of images in UTF-8" in refused(RECOGNISER, *out, PHOTOS[0])
    assert not (tmp_path / "m").exists()


def test_a_drop_wants_labels(tmp_path: Path) -> None:
    plain = listed(tmp_path / "l.txt", *map(str, PHOTOS))
    said = refused(RECOGNISER, "--out", tmp_path / "m", "--images", plain, "--max-drop", 1)
    assert "Recall@1 cannot be measured and --max-drop says nothing" in said
    said = refused(DETECTOR, "--out", tmp_path / "m", "--images", plain, "--max-drop", 1)
    assert "--max-drop counts points of AP, which want boxes; give --query" in said
    said = refused(DETECTOR, "--out", tmp_path / "m", "--images", plain, "--query", plain)
    assert "is no list of boxes" in said
    assert "--gallery is what --query is looked up in" in refused(RECOGNISER, "--images", plain, "--gallery", plain)


def test_models_that_int8_cannot_be_made_of(recogniser: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(recogniser, folder)
    images = ("--images", DEMO / "photos")
    text = (folder / "model.yaml").read_text(encoding="utf-8")
    card = yaml.safe_load(text)
    del card["programs"]["onnx"]["fp32"]
    (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    said = refused(folder, *images, status=1)
    assert f"is int8 already; make one of Paddle's: shitu models convert {folder}" in said
    card["programs"] = {"onnx": {"fp32": {"program": "inference_int8.onnx"}}}
    (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    assert "inference_int8.onnx is quantised already" in refused(folder, *images, status=1)
    (folder / "model.yaml").unlink()
    assert "has no program `onnx: fp32`, from which int8 is made" in refused(folder, *images, status=1)


@pytest.mark.parametrize("library", ["onnx", "onnxruntime.quantization"])
def test_libraries_that_are_not_installed(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    said = refused(RECOGNISER, "--out", tmp_path / "m", "--images", DEMO / "photos", status=1)
    assert "install it: pip install 'shitu[onnx]'" in said
    assert not (tmp_path / "m").exists()


def test_which_photos(tmp_path: Path) -> None:
    path = listed(tmp_path / "l.txt", "a.jpg\tgreen tea", "", "b c.jpg")
    assert listed_photos(str(path), "root") == [Photo("root/a.jpg", "green tea"), Photo("root/b c.jpg")]
    photos = [Photo(str(number)) for number in range(10)]
    assert [photo.path for photo in spread(photos, 4)] == ["0", "2", "5", "7"]
    assert spread(photos, 99) == photos
