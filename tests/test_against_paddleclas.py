"""The whole pipeline against PaddleClas's own build_gallery and predict_system, on the same models and photos."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.gallery.export import export_gallery
from shitu.gallery.gallery import Gallery
from shitu.images.read import read_image
from shitu.recognise.detect import Detector
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from shitu.results import Detection
from tests.conftest import SHARED
from tests.reference_models import HERE, mainbody, need_paddleclas, pplcnetv2, run_python

PHOTOS = sorted((HERE / "demo/photos").glob("*.jpg"))[:7]
METHODS = ("Flat", "HNSW32")
SCORE_THRES = 0.7  # at which some of these regions are dropped and some are not


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pplcnetv2(tmp_path_factory)


@pytest.fixture(scope="session")
def list_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of the demo's gallery. PaddleClas cuts labels at blanks, hence none."""
    lines = (HERE / "demo/gallery.txt").read_text(encoding="utf-8").splitlines()[::4]
    path = tmp_path_factory.mktemp("list") / "gallery.txt"
    path.write_text("".join(line.replace(" ", "_") + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def rows() -> dict[str, list[list[float]]]:
    """A detector's output per photo: the drawn objects, shaken and overlapping, in no order, some below 0.2."""
    known = json.loads((HERE / "demo/photos.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    made = {}
    for photo in PHOTOS:
        boxes = np.array([item["bbox"] for item in known[f"photos/{photo.name}"]], np.float64)
        boxes = np.concatenate([boxes, boxes[:2]]) + rng.uniform(-12, 12, (len(boxes) + 2, 4))
        boxes = np.clip(boxes, 0, 674.9)
        scores = rng.permutation(np.linspace(0.05, 0.95, len(boxes)))
        made[str(photo)] = [[0.0, score, *box] for score, box in zip(scores.tolist(), boxes.tolist(), strict=True)]
    return made


def configured(recogniser: Path, index_dir: Path, list_file: Path, method: str) -> Config:
    overrides = {
        "Global.use_gpu": False,
        "Global.det_inference_model_dir": "null",
        "Global.rec_inference_model_dir": recogniser,
        "IndexProcess.index_method": method,
        "IndexProcess.index_dir": index_dir,
        "IndexProcess.image_root": HERE / "demo",
        "IndexProcess.data_file": list_file,
        "IndexProcess.score_thres": SCORE_THRES,
    }
    spec = importlib.util.find_spec("paddleclas")  # without importing paddle
    assert spec is not None
    assert spec.origin is not None
    yaml = Path(spec.origin).parent / "deploy/configs/inference_general.yaml"
    return load_config(yaml, [f"{key}={value}" for key, value in overrides.items()])


@pytest.fixture(scope="session")
def ours(recogniser: Path, list_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Config]:
    """shitu's galleries, by index method."""
    configs = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(f"shitu-{method}")
        configs[method] = configured(recogniser, folder, list_file, method)
        report = GalleryBuilder(configs[method]).run()
        assert report.indexed == 60
        assert not report.failed
    return configs


@pytest.fixture(scope="session")
def theirs(
    recogniser: Path, list_file: Path, rows: Any, ours: dict[str, Config], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """What PaddleClas says: .galleries, .answers, .features; `exported` is a gallery of ours in its format."""
    need_paddleclas()
    out = tmp_path_factory.mktemp("paddleclas")
    with Gallery.open(str(ours["HNSW32"].IndexProcess.index_dir)) as gallery:
        export_gallery(gallery, out / "exported", "paddleclas")
    job = {
        "recogniser": str(recogniser),
        "detector": None,
        "photos": list(map(str, PHOTOS)),
        "rows": rows,
        "galleries": {method: str(out / method) for method in METHODS},
        "search_only": {"exported": str(out / "exported")},
        "image_root": str(HERE / "demo"),
        "data_file": str(list_file),
        "score_thres": SCORE_THRES,
        "out": str(out),
    }
    (out / "job.json").write_text(json.dumps(job), encoding="utf-8")
    run_python("tests/paddleclas_reference.py", out / "job.json")
    answers = json.loads((out / "answers.json").read_text(encoding="utf-8"))
    return SimpleNamespace(galleries=job["galleries"], answers=answers, features=np.load(out / "features.npy"))


class FixedDetector:
    """Our DetPredictor from the network's output on."""

    def __init__(self, config: Config, rows: Iterator[list[list[float]]]) -> None:
        self.max_results, self.threshold = config.Global.max_det_results, config.Global.threshold
        self.labels, self.rows = config.Global.label_list, rows

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [
            Detector._select(self, np.array(next(self.rows), np.float32), image.shape[1], image.shape[0])  # type: ignore[arg-type]
            for image in images
        ]


def recognise(config: Config, rows: dict[str, list[list[float]]]) -> dict[str, list[dict[str, Any]]]:
    system = SystemPredictor(config)
    system.det_predictor = FixedDetector(config, iter(rows[str(photo)] for photo in PHOTOS))  # type: ignore[assignment]
    found = system.predict([read_image(photo) for photo in PHOTOS])
    return {
        str(photo): [{"bbox": list(r.bbox), "label": r.label, "score": r.score} for r in recognition.regions]
        for photo, recognition in zip(PHOTOS, found, strict=True)
    }


def assert_same(found: dict[str, list[dict[str, Any]]], wanted: dict[str, list[dict[str, Any]]]) -> None:
    assert found.keys() == wanted.keys()
    for photo, regions in wanted.items():
        assert [(r["bbox"], r["label"]) for r in found[photo]] == [(r["bbox"], r["label"]) for r in regions], photo
        np.testing.assert_allclose([r["score"] for r in found[photo]], [r["score"] for r in regions], atol=1e-4)


def test_features(recogniser: Path, list_file: Path, theirs: SimpleNamespace, tmp_path: Path) -> None:
    predictor = RecPredictor(configured(recogniser, tmp_path, list_file, "Flat"))
    images = [line.split("\t")[0] for line in list_file.read_text(encoding="utf-8").splitlines()]
    features = predictor.predict([read_image(HERE / "demo" / image) for image in images])
    assert features.shape == theirs.features.shape == (60, 512)
    np.testing.assert_allclose(features, theirs.features, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_recognition(method: str, ours: dict[str, Config], theirs: SimpleNamespace, rows: Any) -> None:
    """Boxes, labels and scores after the threshold and the suppression, in their order."""
    wanted = theirs.answers["results"][method]
    assert sum(map(len, wanted.values())) > 10
    assert_same(recognise(ours[method], rows), wanted)
    if SHARED.exists():  # random weights find everything alike
        everything = recognise(ours[method].replace("IndexProcess", score_thres=-1.0), rows)
        assert sum(map(len, everything.values())) > sum(map(len, wanted.values()))


@pytest.mark.parametrize("method", METHODS)
def test_a_gallery_of_paddleclas_opens(method: str, ours: Any, theirs: SimpleNamespace, rows: Any) -> None:
    config = ours[method].replace("IndexProcess", index_dir=theirs.galleries[method])
    assert_same(recognise(config, rows), theirs.answers["results"][method])


def test_paddleclas_opens_an_exported_gallery(theirs: SimpleNamespace) -> None:
    assert_same(theirs.answers["results"]["exported"], theirs.answers["results"]["HNSW32"])


def test_boxes_of_the_official_detector(
    recogniser: Path, list_file: Path, rows: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random weights find nonsense; it has to be the same nonsense, to a thousandth of a pixel."""
    detector = mainbody(tmp_path_factory)
    job = {
        "recogniser": str(recogniser),
        "detector": str(detector),
        "photos": list(map(str, PHOTOS)),
        "rows": rows,
        "galleries": {},
        "image_root": str(HERE / "demo"),
        "data_file": str(list_file),
        "score_thres": SCORE_THRES,
        "out": str(tmp_path),
    }
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    run_python("tests/paddleclas_reference.py", tmp_path / "job.json")
    wanted = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))["detections"]
    config = configured(recogniser, tmp_path, list_file, "Flat")
    predictor = DetPredictor(config.replace("Global", det_inference_model_dir=str(detector)))
    seen: list[NDArray[np.float32]] = []
    predictor._select = lambda rows, *_: seen.append(rows) or []  # type: ignore[method-assign,func-returns-value]
    predictor.predict([read_image(photo) for photo in PHOTOS])
    for photo, found in zip(PHOTOS, seen, strict=True):
        assert len(found) == len(wanted[str(photo)]) > 0
        np.testing.assert_allclose(found, np.array(wanted[str(photo)]), atol=1e-3, rtol=0)
