"""`shitu models add`: networks from elsewhere, through gallery and predict, with answers known from their making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from shitu.cli import main
from shitu.cli.models import models
from shitu.config import load_config
from shitu.errors import ShituError
from shitu.images.read import read_image
from shitu.models import open_model
from shitu.models.verify import verify_model
from shitu.recognise.from_config import DetPredictor, RecPredictor
from tests.conftest import DEMO, ROOT
from tests.foreign_networks import NOTES, detr, embedded, embedder, helper, picture, save, yolo

HALF = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.5,0.5"]
PLAIN = ["--mean", "0,0,0", "--std", "1,1,1"]
# In the photo of 64 x 128, which a square of 64 holds at half its size with 16 rows of black above and below.
CELLS = {(80, 16, 96, 32): 0, (0, 48, 16, 64): 1}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHITU_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "models"


def run(*arguments: object, command: Any = main) -> Any:
    return CliRunner().invoke(command, [str(each) for each in arguments])


def add(*arguments: object) -> str:
    done = run("add", *arguments, command=models)
    if done.exception:
        raise done.exception
    return str(done.output)


def refusal(*arguments: object) -> str:
    error = run("add", *arguments, command=models).exception
    assert isinstance(error, ShituError), error
    assert not list(Path("home/models").glob("*")) if Path("home/models").is_dir() else True
    return str(error)


def refusal_beside(*arguments: object) -> str:
    """Where other models are there already."""
    error = run("add", *arguments, command=models).exception
    assert isinstance(error, ShituError), error
    return str(error)


def extractor(name: str) -> RecPredictor:
    return RecPredictor(load_config(None, [f"Global.rec_inference_model_dir={name}"]))


def detector(name: str, *over: str) -> DetPredictor:
    return DetPredictor(load_config(None, [f"Global.det_inference_model_dir={name}", *over]))


def seen(detections: Any) -> dict[Any, str]:
    return {each.bbox: each.label for each in detections}


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_an_embedding_network_s_vectors_are_those_of_its_own(home: Path) -> None:
    said = add(embedder(Path("net/clip.onnx")), "--task", "recognition", *HALF)
    assert "use it by -o Global.rec_inference_model_dir=clip" in said
    photo = read_image(DEMO / "photos/beach.jpg")
    from PIL import Image as Pillow

    small = np.asarray(Pillow.fromarray(photo).resize((32, 32), Pillow.Resampling.BICUBIC), np.float32)
    inputs = (small / 255 - 0.5) / np.float32([0.25, 0.5, 0.5])
    add(Path("net/clip.onnx"), "--name", "正", "--task", "recognition", *HALF, "--interpolation", "pil-bicubic")
    np.testing.assert_allclose(
        extractor("正").predict([photo])[0], embedded(inputs.transpose(2, 0, 1).astype(np.float32)), atol=1e-5
    )
    assert (extractor("clip").dimension, extractor("clip").fingerprint) != (32, extractor("正").fingerprint)
    assert verify_model(home / "clip") == []


@pytest.mark.parametrize("network", [{"batch": 1}, {"side": ("h", "w")}, {"tokens": True}], ids=str)
def test_what_the_file_leaves_open_and_what_it_fixes(network: dict[str, Any], home: Path) -> None:
    """A batch of one, any size, and an output of tokens give the vectors of the plain network."""
    add(embedder(Path("plain.onnx")), "--task", "recognition", *HALF)
    more = ["--size", "32"] if "side" in network else ["--pool", "first"] if "tokens" in network else []
    add(embedder(Path("other.onnx"), **network), "--task", "recognition", *HALF, *more)
    photos = [read_image(path) for path in sorted((DEMO / "photos").glob("*.jpg"))[:5]]
    wanted, found = extractor("plain").predict(photos), extractor("other").predict(photos)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert open_model("other", task="recognition").card.batch == (1 if network.get("batch") == 1 else None)


def test_b_before_r_and_the_middle_alone() -> None:
    add(embedder(Path("net.onnx")), "--task", "recognition", *HALF, "--bgr", "--resize", "crop", "--short", "40")
    photo = read_image(DEMO / "photos/beach.jpg")
    prepare = extractor("net").preprocess
    add(Path("net.onnx"), "--name", "rgb", "--task", "recognition", *HALF, "--resize", "crop", "--short", "40")
    np.testing.assert_array_equal(prepare(photo), extractor("rgb").preprocess(photo)[::-1])
    assert prepare(photo).shape == (3, 32, 32)


def test_what_hugging_face_s_file_beside_it_says_is_taken() -> None:
    photo = read_image(DEMO / "photos/beach.jpg")
    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5], "rescale_factor": 1 / 255, "resample": 3}
    embedder(Path("hf/onnx/model.onnx"))
    Path("hf/preprocessor_config.json").write_text(json.dumps({**said, "size": {"shortest_edge": 224}}))
    rec = ["--task", "recognition"]
    assert "_model_dir=" + str(Path("home/models/hf").resolve()) in add("hf/onnx/model.onnx", *rec)
    embedder(Path("plain.onnx"))
    add("plain.onnx", *rec, *HALF, "--interpolation", "pil-bicubic")
    np.testing.assert_array_equal(extractor("home/models/hf").predict([photo]), extractor("plain").predict([photo]))
    add("hf/onnx", *rec, "--name", "told", *PLAIN)  # the user's word is the last
    assert extractor("told").preprocess.table[0, 255] == 1
    for wrong in ("[1]", "{", json.dumps({**said, "image_mean": [1, 2]}), json.dumps({**said, "image_std": 3})):
        Path("hf/preprocessor_config.json").write_text(wrong)
        error = run("add", "hf/onnx", *rec, "--name", "x", command=models).exception
        assert "preprocessor_config.json cannot be understood" in str(error), wrong


# --- boxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["yolo", "sigmoid", "softmax"])
def test_boxes_are_where_they_were_drawn(kind: str) -> None:
    if kind == "yolo":
        add(yolo(Path("net.onnx"), NOTES))
    else:
        options = ["--labels", "红,green", "--resize", "letterbox", *PLAIN]
        add(detr(Path("net.onnx"), softmax=kind == "softmax"), "--task", "detection", *options)
    found = detector("net").predict([picture(CELLS)])[0]
    assert seen(found) == {(80, 16, 96, 32): "红", (0, 48, 16, 64): "green"}
    assert min(each.score for each in found) > 0.999
    assert verify_model(Path("home/models/net")) == []


@pytest.mark.parametrize(("resize", "size"), [("letterbox", (64, 96)), ("corner", (64, 64)), ("stretch", (64, 64))])
def test_boxes_are_mapped_back(resize: str, size: tuple[int, int]) -> None:
    """From wide, tall and odd photos: the middle of what is found lies in what was drawn, and covers it."""
    add(yolo(Path("net.onnx"), {**NOTES, "imgsz": str(list(size))}, size), "--resize", resize)
    for rows, columns in [(64, 128), (128, 64), (301, 173), (90, 200)]:
        box = (columns // 3, rows // 4, columns // 3 * 2, rows // 4 * 3)
        found = detector("net", "Global.max_det_results=100", "Global.threshold=0.5").predict(
            [picture({box: 1}, (rows, columns))]
        )[0]
        boxes = np.array([each.bbox for each in found])
        assert len(boxes)
        scale = max(rows / size[0], columns / size[1])
        assert (np.abs([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)] - np.array(box)) <= 8.5 * scale).all()


def test_a_choice_of_classes() -> None:
    yolo(Path("net.onnx"), NOTES)
    assert "--classes blue: no such class; there are 红, green" in refusal("net.onnx", "--classes", "blue")
    add("net.onnx", "--classes", "green")
    assert seen(detector("net").predict([picture(CELLS)])[0]) == {(0, 48, 16, 64): "green"}


def test_two_foreign_networks_build_a_gallery_and_name_what_is_in_a_photo(tmp_path: Path) -> None:
    add(yolo(tmp_path / "yolo.onnx", NOTES))
    add(embedder(tmp_path / "embed.onnx"), "--task", "recognition", *PLAIN)
    for name, plane in (("苹果", 0), ("leaf", 1)):
        Image.fromarray(picture({(0, 0, 40, 40): plane}, (40, 40))).save(tmp_path / f"{name}.png")
    Image.fromarray(picture(CELLS)).save(tmp_path / "photo.png")
    (tmp_path / "list.txt").write_text("苹果.png\t苹果\nleaf.png\tleaf\n", encoding="utf-8")
    over = {
        "Global.det_inference_model_dir": "yolo",
        "Global.rec_inference_model_dir": "embed",
        "IndexProcess.index_dir": "gallery",
        "IndexProcess.data_file": "list.txt",
        "IndexProcess.image_root": ".",
        "IndexProcess.embedding_size": 32,
    }
    options = [word for key, value in over.items() for word in ("-o", f"{key}={value}")]
    built = run("build-gallery", *options)
    assert built.exit_code == 0, built.output
    told = run("predict", *options, "--no-pictures", "photo.png")
    assert told.exit_code == 0, told.output
    (record,) = [json.loads(line) for line in told.stdout.splitlines()]
    assert {tuple(each["bbox"]): each["rec_docs"] for each in record["regions"]} == {
        (80, 16, 96, 32): "苹果",
        (0, 48, 16, 64): "leaf",
    }


# --- Paddle's --------------------------------------------------------------------------------------------------------


def test_a_program_of_paddle_s(home: Path) -> None:
    """The bundled networks without their cards, then described with what these say."""
    card = open_model("efficientnet_lite0_512", task="recognition").card
    assert card.preprocess is not None
    numbers = [
        "--scale",
        card.preprocess.scale,
        "--mean",
        ",".join(map(str, card.preprocess.mean)),
        "--std",
        ",".join(map(str, card.preprocess.std)),
    ]
    source = ROOT / "models/efficientnet_lite0_512/inference.json"
    add(source, "--name", "theirs", "--task", "recognition", "--size", "224", *numbers)
    photo = read_image(DEMO / "photos/beach.jpg")
    over = ["Global.engine=paddle"]
    found = RecPredictor(load_config(None, [*over, "Global.rec_inference_model_dir=theirs"]))
    np.testing.assert_array_equal(found.predict([photo]), RecPredictor(load_config(None, over)).predict([photo]))


def test_a_picodet_before_and_after_its_nms(home: Path) -> None:
    bundled = ROOT / "models/picodet_lcnet_x1_0_mainbody"
    over = ["Global.engine=paddle", "Global.threshold=0.1"]
    plain = [*over, f"Global.det_inference_model_dir={bundled}"]
    photo = read_image(DEMO / "photos/beach.jpg")
    wanted = DetPredictor(load_config(None, plain)).predict([photo])[0]
    for name, program in (("whole", "inference.json"), ("raw", "inference_raw.json")):
        options = ["--weights", bundled / "inference.pdiparams", "--size", "320", "--nms", "0.5"]
        add(bundled / program, "--name", name, *options)
        found = detector(name, *over).predict([photo])[0]
        assert [each.bbox for each in found] == [each.bbox for each in wanted]
    said = refusal_beside(bundled / "inference.json", "--name", "boxed", "--size", "320", "--resize", "letterbox")
    assert "Paddle's detectors want images stretched" in said


# --- what cannot be used ---------------------------------------------------------------------------------------------


def test_what_has_to_be_said_is_asked_for() -> None:
    embedder(Path("net.onnx"))
    embedder(Path("free.onnx"), side=("h", "w"))
    embedder(Path("tokens.onnx"), tokens=True)
    yolo(Path("nameless.onnx"))
    detr(Path("detr.onnx"), softmax=False)
    rec, det = ["--task", "recognition"], ["--task", "detection"]
    for arguments, words in {
        ("net.onnx",): "does not say what it is for; name it: --task recognition",
        ("net.onnx", *rec): "the file does not say how pixels become numbers; say it as whoever trained the network",
        ("free.onnx", *rec): "takes images of any size; say which: --size 224",
        ("net.onnx", *rec, "--size", "64"): "takes images of 32x32, not of 64x64; leave --size out",
        ("tokens.onnx", *rec, *HALF): "has 5 vectors of 32 for an image; say which: --pool first",
        (
            "net.onnx",
            *rec,
            *HALF,
            "--output",
            "x",
        ): "--output x: there is no such output; there are image_embeds [1, 32]",
        ("nameless.onnx", *det): "the network tells 2 classes apart, and the file has no names for them; give them",
        ("nameless.onnx", *det, "--labels", "a,b,c"): "have 2 classes, and 3 are named",
        (
            "detr.onnx",
            *det,
            *PLAIN,
        ): "say which: --output-shape detr --activation sigmoid (2 classes); or --output-shape",
        ("detr.onnx", *det, "--labels", "a,b", "--output-shape", "yolo8"): "are not of --output-shape yolo8",
        ("net.onnx", *rec, *HALF, "--name", "efficientnet_lite0_512"): "is the name of a bundled model",
        ("net.onnx", *rec, *HALF, "--name", "a/b"): "wanted a name that a folder can have",
        ("missing.onnx",): "is not there; wanted an ONNX file, a program of Paddle's, or a folder with one",
    }.items():
        assert words in refusal(*arguments), arguments


def test_what_cannot_be_used_is_refused() -> None:
    flat = helper.make_node("Flatten", ["x"], ["y"])
    made = {
        "two": save(Path("two.onnx"), [helper.make_node("Add", ["x", "z"], ["y"])], {},
                    {"x": [1, 3, 8, 8], "z": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}),
        "last": save(Path("last.onnx"), [flat], {}, {"x": [1, 8, 8, 3]}, {"y": [1, 192]}),
        "bytes": save(Path("bytes.onnx"), [helper.make_node("Cast", ["x"], ["y"], to=1)], {}, {"x": [1, 3, 8, 8]},
                      {"y": [1, 3, 8, 8]}, kind=2),
        "map": save(Path("map.onnx"), [helper.make_node("Relu", ["x"], ["y"])], {}, {"x": [1, 3, 8, 8]},
                    {"y": [1, 3, 8, 8]}),
        "batch": save(Path("batch.onnx"), [flat], {}, {"x": [4, 3, 8, 8]}, {"y": [4, 192]}),
        "custom": save(Path("custom.onnx"), [helper.make_node("Own", ["x"], ["y"], domain="theirs")], {},
                       {"x": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}),
    }  # fmt: skip
    Path("page.onnx").write_text("<html>not a model</html>")
    Path("weights.pt").write_bytes(b"PK")
    for name, words in {
        "two": "has the inputs x, z; wanted one, an image",
        "last": "has shape [1, 8, 8, 3]; wanted [n, 3, height, width]: planes come last; export it with planes first",
        "bytes": "its input x is uint8; wanted float32",
        "map": "output y of shape [1, 3, 8, 8] is no vector; export the network with its pooling",
        "batch": "takes 4 images a run; export it with a free batch",
        "custom": "Is the file whole, without operators of its own?",
        "page": "is damaged or not an ONNX file",
    }.items():
        assert words in refusal(made.get(name) or f"{name}.onnx", "--task", "recognition", *HALF), name
    assert "is neither an ONNX file" in refusal("weights.pt")


def test_vectors_that_are_not_finite_leave_nothing() -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Sub", ["f", "f"], ["z"]),
             helper.make_node("Div", ["f", "z"], ["y"])]  # fmt: skip
    save(Path("nan.onnx"), nodes, {}, {"x": ["n", 3, 8, 8]}, {"y": ["n", 192]})
    assert "zero or non-finite vector" in refusal("nan.onnx", "--task", "recognition", *HALF)
    boxes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["x", "z"], ["y"]),
             helper.make_node("Reshape", ["y", "shape"], ["output0"])]  # fmt: skip
    save(Path("det.onnx"), boxes, {"shape": np.array([1, 6, 32])}, {"x": [1, 3, 8, 8]}, {"output0": [1, 6, 32]}, NOTES)
    said = refusal("det.onnx")
    assert "home/models/det: the network gave a box that is not finite" in said


def test_weights_beside_the_file_are_read_only_where_they_are_named(tmp_path: Path) -> None:
    import onnx

    network = onnx.load(embedder(Path("small.onnx")))
    onnx.save(network, "out.onnx", save_as_external_data=True, location="out.onnx.data", size_threshold=0)
    assert "wants weights from 'out.onnx.data' beside it" in refusal("out.onnx", "--task", "recognition", *HALF)
    add("out.onnx", "--task", "recognition", *HALF, "--weights", "out.onnx.data")
    add("small.onnx", "--task", "recognition", *HALF)
    Path("out.onnx.data").unlink()
    photo = read_image(DEMO / "photos/beach.jpg")
    np.testing.assert_array_equal(extractor("out").predict([photo]), extractor("small").predict([photo]))


def test_nothing_is_replaced() -> None:
    add(embedder(Path("net.onnx")), "--task", "recognition", *HALF)
    done = run("add", "net.onnx", "--task", "recognition", *PLAIN, command=models)
    assert "is there already; choose another --name or --out" in str(done.exception)
    card = yaml.safe_load(Path("home/models/net/model.yaml").read_text(encoding="utf-8"))
    assert card["transform_ops"][1]["NormalizeImage"]["mean"] == [0.5, 0.5, 0.5]
