"""A second engine, written in numpy: the whole pipeline on it, and which galleries its vectors may search."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.engines.base import EngineOptions, Session
from shitu.engines.choose import ENGINES, open_model_session
from shitu.errors import EngineError, GalleryError
from shitu.models import ModelFolder, Program, open_model
from shitu.recognise.from_config import RecPredictor, SystemPredictor
from tests.conftest import ROOT

COLOURS = {"red": (220, 30, 30), "green": (20, 200, 40), "blue": (30, 60, 230), "yellow": (230, 220, 20)}
GREY, SIDE, DIMENSION = (128, 128, 128), 32, 16
PREPROCESS = {"interpolation": "nearest", "scale": 1.0, "mean": [128, 128, 128], "std": [128, 128, 128]}


@dataclass(frozen=True)
class ToySession:
    """Runs an .npz: `matrix` turns the mean colour into a vector; without one, it boxes what is not grey."""

    weights: Mapping[str, NDArray[Any]]

    @property
    def input_names(self) -> list[str]:
        return ["x"] if "matrix" in self.weights else ["image", "scale_factor"]

    def clone(self) -> ToySession:
        return self

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        if "matrix" in self.weights:
            return [(feeds["x"].mean(axis=(2, 3)) @ self.weights["matrix"]).astype(np.float32)]
        colourful = np.abs(feeds["image"][0]).max(axis=0) > 0.1
        boxes, width = [], colourful.shape[1] // 2
        for left in (0, width):  # one thing in each half, found twice: the raw program wants an NMS
            rows, columns = np.nonzero(colourful[:, left : left + width])
            box = [columns.min() + left, rows.min(), columns.max() + left + 1, rows.max() + 1] if rows.size else [0] * 4
            boxes += [box, box]
        y, x = feeds["scale_factor"][0]
        scores = np.array([[[0.9, 0.8, 0.7, 0.6]]], np.float32)
        return [(np.array([boxes]) / [x, y, x, y]).astype(np.float32), scores]


class ToyEngine:
    """Takes int8 where there is one, and remembers what it opened."""

    def __init__(self) -> None:
        self.opened: list[Program] = []

    def supports(self, model: ModelFolder, options: EngineOptions) -> Program | None:
        return model.find("toy", "int8") or model.find("toy") or model.find("toy", raw=True)

    def open(self, program: Program, options: EngineOptions) -> Session:
        self.opened.append(program)
        with np.load(program.program) as file:
            return ToySession(dict(file))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyEngine:
    engine = ToyEngine()
    monkeypatch.setitem(ENGINES, "toy", engine)
    return engine


def write_model(folder: Path, weights: Mapping[str, NDArray[Any]], **card: Any) -> Path:
    """A model folder with one program, `net.npz`."""
    folder.mkdir()
    np.savez(folder / "net.npz", **weights)  # type: ignore[arg-type]
    content = (folder / "net.npz").read_bytes()
    record = {"net.npz": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    base = {"name": folder.name, "preprocess": {"size": [SIDE, SIDE], **PREPROCESS}, "files": record}
    (folder / "model.yaml").write_text(yaml.safe_dump({**base, **card}), encoding="utf-8")
    return folder


def recogniser(folder: Path, precision: str = "fp32", noise: float = 0.0, **more: Any) -> Path:
    """Mean colours through a fixed matrix; `noise` makes the weights, and so the bytes, a little different."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(3, DIMENSION)) + noise * np.random.default_rng(2).normal(size=(3, DIMENSION))
    stated = {key: more.pop(key) for key in ("cosine",) if key in more}
    programs = {"toy": {precision: {"program": "net.npz", **stated}}}
    card = {"task": "recognition", "dimension": DIMENSION, "programs": programs, **more}
    return write_model(folder, {"matrix": matrix.astype(np.float32)}, **card)


def detector(folder: Path) -> Path:
    nms = {"score_threshold": 0.1, "nms_threshold": 0.5}
    programs = {"toy": {"fp32": {"raw": {"program": "net.npz"}}}}
    return write_model(folder, {}, task="detection", labels=["thing"], programs=programs, nms=nms)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A gallery list of one picture per colour; the toy detector and recogniser."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "list.txt").write_text("".join(f"{name}.png\t{name}\n" for name in COLOURS), encoding="utf-8")
    index = {"image_root": tmp_path, "data_file": tmp_path / "list.txt", "index_dir": tmp_path / "index",
             "embedding_size": DIMENSION, "index_method": "Flat", "score_thres": 0.9, "crop": "none"}  # fmt: skip
    models = {"det_inference_model_dir": detector(tmp_path / "det"),
              "rec_inference_model_dir": recogniser(tmp_path / "rec", vectors="toy colours 1"),
              "engine": "auto", "use_gpu": False, "whole_image": "never", "rec_nms_thresold": 0.5}  # fmt: skip
    return load_config(
        None, [*(f"IndexProcess.{k}={v}" for k, v in index.items()), *(f"Global.{k}={v}" for k, v in models.items())]
    )


def photo() -> NDArray[np.uint8]:
    """Something blue on the left, something yellow on the right, on grey."""
    image = np.full((100, 200, 3), GREY, np.uint8)
    image[20:70, 10:60], image[30:90, 120:190] = COLOURS["blue"], COLOURS["yellow"]
    return image


def test_the_whole_pipeline_on_another_engine(config: Config, toy: ToyEngine) -> None:
    assert GalleryBuilder(config).run().indexed == len(COLOURS)
    (found,) = SystemPredictor(config).predict([photo()], ["photo"])
    assert {region.label for region in found.regions} == {"blue", "yellow"}
    for region in found.regions:
        wanted = {"blue": (10, 20, 60, 70), "yellow": (120, 30, 190, 90)}[region.label]
        assert np.abs(np.subtract(region.bbox, wanted)).max() <= 6  # the detector sees 32 pixels
        assert region.score > 0.99
    assert {(program.precision, program.raw) for program in toy.opened} == {("fp32", True), ("fp32", False)}


def test_programs_that_nobody_runs_are_named(config: Config) -> None:
    """Without the toy engine."""
    model = open_model(str(config.Global.rec_inference_model_dir), task="recognition")
    with pytest.raises(EngineError, match=r"has programs for toy fp32; Global.engine paddle runs none of them in fp32"):
        open_model_session(model, EngineOptions())


TWINS: dict[str, tuple[dict[str, Any], bool]] = {
    # how it is written, and whether it may search the gallery of "toy colours 1"
    "the same network once more": ({"noise": 1e-6, "vectors": "toy colours 1"}, True),
    "no word on its vectors": ({"noise": 1e-6}, False),
    "other vectors": ({"vectors": "toy colours 2"}, False),
    "int8 that agrees": ({"precision": "int8", "noise": 1e-3, "vectors": "toy colours 1", "cosine": 0.998}, True),
    "int8 that does not": ({"precision": "int8", "noise": 0.3, "vectors": "toy colours 1", "cosine": 0.9}, False),
    "int8 never measured": ({"precision": "int8", "noise": 1e-3, "vectors": "toy colours 1"}, False),
    "not the file on record": (
        {"noise": 0.3, "vectors": "toy colours 1", "files": {"net.npz": {"size": 1, "sha256": "0" * 64}}},
        False,
    ),
}


@pytest.mark.parametrize(("written", "searches"), TWINS.values(), ids=list(TWINS))
def test_which_twin_searches_the_same_gallery(
    written: dict[str, Any], searches: bool, config: Config, toy: ToyEngine, tmp_path: Path
) -> None:  # fmt: skip
    GalleryBuilder(config).run()
    folder = recogniser(tmp_path / "twin", **written)
    twin = config.replace("Global", rec_inference_model_dir=str(folder))
    if searches:
        assert {region.label for region in SystemPredictor(twin).predict([photo()])[0].regions} == {"blue", "yellow"}
    else:
        with pytest.raises(GalleryError, match="made by another model"):
            SystemPredictor(twin)


def test_galleries_made_until_now_open() -> None:
    """What stands in galleries of the bundled recogniser, version 3; whoever changes it makes them useless."""
    config = load_config(None, ["Global.use_gpu=False"])
    assert RecPredictor(config).fingerprint == "b0acc96dff7c051d757625d7db49f117c180d44ca256f3842bed24f910b4ab12"
    crops = config.replace("RecPreProcess", multi_crop=[1.0, 0.7])
    assert RecPredictor(crops).fingerprint == "5bbc7c15ad0bd91ed2dbf1ea90c075e9090309ac23f52b771197c682c9ff5569"


def test_a_model_without_a_card_is_named_by_its_bytes_as_ever(tmp_path: Path) -> None:
    bundled = ROOT / "models/efficientnet_lite0_512"
    for name in ("inference.json", "inference.pdiparams"):
        (tmp_path / name).symlink_to(bundled / name)
    config = load_config(None, ["Global.use_gpu=False", f"Global.rec_inference_model_dir={tmp_path}"])
    predictor = RecPredictor(config)
    bytes_of_both = b"".join((tmp_path / name).read_bytes() for name in ("inference.json", "inference.pdiparams"))
    recipe = f"{hashlib.sha256(bytes_of_both).hexdigest()} {predictor.preprocess.describe()}"
    assert predictor.fingerprint == hashlib.sha256(recipe.encode()).hexdigest()
