"""Finding, opening and verifying model folders, with every way in which that fails."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu import resources
from shitu.errors import ModelError
from shitu.models import folder as models
from shitu.models.folder import downloads_home, open_model
from shitu.models.known import KNOWN_MODELS
from shitu.models.verify import verify_model

MAINBODY = "picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer"
GENERAL = "general_PPLCNetV2_base_pretrained_v1.0_infer"
CARD: dict[str, Any] = {
    "name": "toy",
    "version": 1,
    "task": "recognition",
    "program": "inference.json",
    "params": "inference.pdiparams",
    "dimension": 8,
    "preprocess": {"size": [20, 30], "interpolation": "bilinear", "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]},
    "licence": "Apache-2.0",
    "provenance": "made up",
}


@pytest.fixture(autouse=True)
def _own_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundled models in tmp/bundled, downloaded ones in tmp/home/models."""
    monkeypatch.setattr(resources, "bundled", lambda name: tmp_path / "bundled")
    monkeypatch.setenv("SHITU_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def make(folder: Path, *names: str, card: dict[str, Any] | None = None) -> Path:
    """A folder whose files hold their own names."""
    folder.mkdir(parents=True)
    for name in names or ("inference.json", "inference.pdiparams"):
        (folder / name).write_bytes(name.encode())
    if card is not None:
        recorded = {
            name: {"size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
            for name in ("inference.json", "inference.pdiparams")
        }
        (folder / "model.yaml").write_text(yaml.safe_dump({**CARD, "files": recorded, **card}))
    return folder


def test_resolution_order(tmp_path: Path) -> None:
    downloaded = make(tmp_path / "home" / "models" / "m")
    assert open_model("m", task="recognition").path == downloaded
    bundled = make(tmp_path / "bundled" / "m")
    assert open_model("m", task="recognition").path == bundled
    assert open_model("./models/m/", task="recognition").path == bundled
    assert open_model("/nowhere/m", task="recognition").path == bundled
    make(tmp_path / "m")
    assert open_model("m", task="recognition").path == Path("m")
    assert open_model("m", task="recognition").name == "m"


def test_described_folder(tmp_path: Path) -> None:
    folder = open_model(str(make(tmp_path / "x", card={"measured": [{"what": "a", "value": 1}]})), task="recognition")
    card = folder.card
    assert (folder.name, card.task, card.dimension, card.licence) == ("toy", "recognition", 8, "Apache-2.0")
    assert card.preprocess is not None
    assert card.preprocess.size == (20, 30)
    assert (folder.program.name, folder.params.name) == ("inference.json", "inference.pdiparams")
    assert folder.find("paddle", raw=True) is None
    assert card.measured[0]["what"] == "a"
    assert len({folder, folder}) == 1


def test_detector_with_raw_program(tmp_path: Path) -> None:
    card = {"task": "detection", "labels": ["a"], "raw": {"program": "raw.json", "params": "raw.pdiparams"}}
    names = ("inference.json", "inference.pdiparams", "raw.json", "raw.pdiparams")
    content = {key: value for key, value in {**CARD, **card}.items() if key != "dimension"}
    path = make(tmp_path / "x", *names)
    (path / "model.yaml").write_text(yaml.safe_dump(content))
    folder = open_model(str(path), task="detection")
    raw = folder.find("paddle", raw=True)
    assert raw is not None
    assert raw.files == (path / "raw.json", path / "raw.pdiparams")
    assert folder.card.labels == ("a",)


@pytest.mark.parametrize(
    ("names", "program", "params"),
    [
        (
            ("inference.pdmodel", "inference.pdiparams", "inference.pdiparams.info"),
            "inference.pdmodel",
            "inference.pdiparams",
        ),
        (("inference.json", "inference.pdiparams", "inference.txt"), "inference.json", "inference.pdiparams"),
        (("model.pdmodel", "model.pdiparams", "infer_cfg.yml"), "model.pdmodel", "model.pdiparams"),
        (("model.json", "model.pdiparams"), "model.json", "model.pdiparams"),
        (
            ("inference.pdmodel", "inference.pdiparams", "inference_int8.pdmodel", "inference_int8.pdiparams"),
            "inference_int8.pdmodel",
            "inference_int8.pdiparams",
        ),
    ],
)
def test_folders_of_exporters(tmp_path: Path, names: tuple[str, ...], program: str, params: str) -> None:
    folder = open_model(str(make(tmp_path / "x", *names)), task="recognition")
    assert (folder.program.name, folder.params.name) == (program, params)
    assert (folder.card.task, folder.card.preprocess) == (None, None)


FAULTY_FOLDERS: list[tuple[tuple[str, ...], str]] = [
    (("inference.pdmodel",), "inference.pdmodel is there, but its weights, inference.pdiparams, are missing"),
    (("inference_int8.json", "inference.json", "inference.pdiparams"), "inference_int8.pdiparams, are missing"),
    (
        ("inference.json", "inference.pdmodel", "inference.pdiparams"),
        "holds inference.json and inference.pdmodel: keep one",
    ),
    (("inference.json", "model.json", "model.pdiparams"), "holds inference.json and model.json: keep one"),
    (("inference.pdiparams",), "holds no model: wanted inference.json or inference.pdmodel"),
    (("best_model.pdparams",), "its .pdparams are weights for training, to be exported first"),
    (("a.onnx", "b"), "found a.onnx, b; describe it by: shitu models add "),
]


@pytest.mark.parametrize(("names", "words"), FAULTY_FOLDERS)
def test_faulty_folders(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(str(make(tmp_path / "x", *names)), task="recognition")
    assert words in str(caught.value)
    assert str(tmp_path / "x") in str(caught.value)


def test_more_faulty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make(tmp_path / "outer" / "inner")
    make(tmp_path / "described", "inference.json", card={})
    make(tmp_path / "wrong", card={"dimensions": 8})
    (tmp_path / "bundled" / "broken").mkdir(parents=True)
    for name, words in {
        "empty": "empty holds no model: it is empty; wanted inference.json",
        "outer": "did you mean outer/inner?",
        "described": "described: inference.pdiparams is missing, which its model.yaml names",
        "wrong": "unknown key 'dimensions'; did you mean dimension?",
        "outer/inner/inference.json": "outer/inner/inference.json is a file; wanted the folder of a model: did you",
        "broken": "broken holds no model: it is empty",
        "": "Global.rec_inference_model_dir is empty; wanted the folder or the name of a model",
        "x" * 5000: "no usable path of a model: ",
        "~nobody-of-this-name/x": "no usable path of a model: ",
        "  ": "Global.rec_inference_model_dir is empty",
    }.items():
        with pytest.raises(ModelError) as caught:
            open_model(name, task="recognition")
        assert words in str(caught.value), name


def test_not_found(tmp_path: Path) -> None:
    make(tmp_path / "bundled" / "efficientnet_lite0_512")
    make(tmp_path / "bundled" / "other")
    cases = {
        GENERAL: f"get it by: shitu models download {GENERAL}",
        f"./models/{GENERAL}/": f"get it by: shitu models download {GENERAL}",
        "efficientnet_lite_512": "did you mean efficientnet_lite0_512?; bundled models: efficientnet_lite0_512, other",
        MAINBODY.removesuffix("_infer"): f"did you mean {MAINBODY}?",
        "qqqq": "; bundled models: efficientnet_lite0_512, other",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError) as caught:
            open_model(name, task="detection")
        message = str(caught.value)
        assert message.endswith(words) or words in message, name
        assert f"in {tmp_path / 'bundled'} or {tmp_path / 'home' / 'models'}" in message
        assert message.startswith("no detection model ")
    assert "did you mean" not in message


def test_swapped_models(tmp_path: Path) -> None:
    """PaddleClas#2938: the engine's answer to this is KeyError: 'x'."""
    detector = make(tmp_path / "det", "inference.pdmodel", "inference.pdiparams")
    (detector / "inference.pdmodel").write_bytes(b"...\x0cscale_factor...")
    upscaler = make(tmp_path / "up", "inference.pdmodel", "inference.pdiparams")
    (upscaler / "inference.pdmodel").write_bytes(b"F.interpolate(x, scale_factor=2)")
    described = make(tmp_path / "rec", card={})
    by_name = make(tmp_path / "bundled" / GENERAL)
    for path, task, other in [
        (detector, "recognition", "detection"),
        (described, "detection", "recognition"),
        (by_name, "detection", "recognition"),
    ]:
        with pytest.raises(ModelError) as caught:
            open_model(str(path), task=task)
        key = {"detection": "det", "recognition": "rec"}[task]
        assert (
            f"{path} is a {other} model; Global.{key}_inference_model_dir wants a {task} model; you may have swapped"
            in str(caught.value)
        )
    open_model(str(detector), task="detection")
    open_model(str(upscaler), task="recognition")
    open_model(str(upscaler), task="detection")


def test_official_mainbody_program_is_known_as_a_detector(tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "shared" / "models" / "mainbody_program" / "inference.pdmodel"
    if not program.is_file():
        pytest.skip(f"needs the official program, {program}, which does not come with shitu")
    folder = make(tmp_path / "x", "inference.pdiparams")
    (folder / "inference.pdmodel").symlink_to(program)
    open_model(str(folder), task="detection")
    with pytest.raises(ModelError, match="is a detection model"):
        open_model(str(folder), task="recognition")


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    path = make(tmp_path / "x")
    folder = open_model("x", task="recognition")
    first = folder.fingerprint()
    assert first == hashlib.sha256(b"inference.jsoninference.pdiparams").hexdigest()
    (path / "inference.pdiparams").write_bytes(b"inference.pdiparamS")
    assert folder.fingerprint() != first


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"SHITU_HOME": "/a"}, "/a/models"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/shitu/models"),
        ({"XDG_CACHE_HOME": "relative"}, "/h/.cache/shitu/models"),
        ({"SHITU_HOME": "", "XDG_CACHE_HOME": ""}, "/h/.cache/shitu/models"),
    ],
)
def test_downloads_home(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: str) -> None:
    for name in ("SHITU_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", **environment}.items():
        monkeypatch.setenv(name, value)
    assert str(downloads_home()) == wanted


def test_verify(tmp_path: Path) -> None:
    path = make(tmp_path / "x", card={})
    assert verify_model(path) == []
    assert verify_model(open_model("x", task="recognition")) == []
    (path / "inference.json").write_bytes(b"inference.jsoN")
    (problem,) = verify_model(path)
    assert problem.startswith("inference.json: SHA-256 ")
    assert problem.endswith("the file was changed")
    (path / "inference.json").write_bytes(b"short")
    assert verify_model(path) == ["inference.json: 5 bytes; wanted 14"]
    (path / "inference.json").unlink()
    problems = verify_model(path)
    assert problems[0] == "inference.json: is missing"
    assert "inference.json is missing, which its model.yaml names" in problems[1]
    (path / "model.yaml").write_text("[")
    assert "model.yaml, line 1, column 2: expected the node content" in verify_model(path)[0]
    assert "is not a folder" in verify_model(tmp_path / "nothing")[0]


def test_verify_official_mainbody_by_its_size(tmp_path: Path) -> None:
    path = make(tmp_path / MAINBODY, "inference.pdmodel", "inference.pdiparams")
    assert verify_model(path) == ["inference.pdiparams: 19 bytes; the official one has 26542897"]
    with (path / "inference.pdiparams").open("wb") as file:
        file.truncate(26_542_897)
    assert verify_model(path) == []


def test_known_models() -> None:
    assert len({known.name for known in KNOWN_MODELS}) == len(KNOWN_MODELS) == 13
    for known in KNOWN_MODELS:
        assert known.task in ("detection", "recognition")
        assert known.dimension is None or known.task == "recognition"
        assert known.url is None or known.url.endswith((f"/{known.name}.tar", f"/{known.name}_infer.tar"))


def test_bundled_models_open_and_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folders = models.model_folders(resources.bundled("models"))
    if not folders:
        pytest.skip("no bundled models in this checkout")
    for path in folders:
        assert verify_model(path) == []
        assert models.open_folder(path).name == path.name
