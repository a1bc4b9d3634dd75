"""The pipeline's own decisions: what is cut out, what is accepted, what survives; with fakes, and once for real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.errors import ConfigError, EngineError, GalleryError
from shitu.gallery import Facts
from shitu.gallery.gallery import Gallery
from shitu.images.read import read_image
from shitu.measure import measure_of
from shitu.recognise.binarize import pack_bits
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from shitu.recognise.suppress import Suppression, whole_tells
from shitu.recognise.system import Recogniser
from shitu.results import Box, Detection, Match, Region
from tests.conftest import DEMO, index_overrides
from tests.reference_models import BUNDLED_RECOGNISER


def region(box: Box, score: float, label: str = "x") -> Region:
    return Region(box, 0.9, (Match(label, score, 0, ""),))


def suppression(dist_type: str = "IP", score_thres: float = 0.5, radius: float = 100, nms: float = 0.05) -> Suppression:
    return Suppression(dist_type, score_thres, radius, nms)


@pytest.mark.parametrize(
    ("dist_type", "score", "accepted"),
    [
        ("IP", 0.5, True),
        ("IP", 0.4999, False),
        ("IP", 1.0, True),
        ("IP", -1.0, False),
        ("L2", 0.5, True),  # a squared distance: at most
        ("L2", 0.5001, False),
        ("L2", 0.0, True),
        ("hamming", 100, True),
        ("hamming", 101, False),
        ("hamming", 0, True),
    ],
)
def test_threshold(dist_type: str, score: float, accepted: bool) -> None:
    assert suppression(dist_type).accepts(Match("x", score, 0, "")) is accepted


def test_the_nearest_of_overlapping_regions_stays() -> None:
    left, whole, right = (0, 0, 40, 90), (0, 0, 100, 100), (60, 0, 100, 90)
    regions = [region(left, 0.7), region(whole, 0.6), region(right, 0.8)]
    assert [kept.bbox for kept in suppression().keep(regions)] == [right, left]
    regions[1] = region(whole, 0.9)
    assert [kept.bbox for kept in suppression().keep(regions)] == [whole]
    assert [kept.bbox for kept in suppression(nms=1.0).keep(regions)] == [whole, right, left]


def test_within_labels_only_the_same_name_competes() -> None:
    """A bottle behind a can, and a second box on the can."""
    can, same_can, bottle = (0, 0, 40, 40), (2, 2, 42, 42), (20, 0, 60, 40)
    regions = [region(can, 0.9, "can"), region(same_can, 0.8, "can"), region(bottle, 0.7, "bottle")]
    assert [kept.bbox for kept in suppression().keep(regions)] == [can]
    assert [kept.bbox for kept in Suppression("IP", 0.5, 100, 0.05, True).keep(regions)] == [can, bottle]


@pytest.mark.parametrize("dist_type", ["L2", "hamming"])
def test_for_distances_the_smaller_is_nearer(dist_type: str) -> None:
    regions = [region((0, 0, 50, 50), 30), region((0, 0, 51, 51), 20), region((80, 80, 99, 99), 40)]
    assert [kept.score for kept in suppression(dist_type).keep(regions)] == [20, 40]


def test_the_overlap_counts_the_edges_as_paddleclas_does() -> None:
    """[0, 9] and [10, 19] touch: with the +1, 11 columns each, one shared: 11 / 231 = 0.048; in one row of 11."""
    touching = [region((0, 0, 10, 10), 0.9), region((10, 0, 20, 10), 0.8)]
    assert len(suppression(nms=11 / 231 + 1e-6).keep(touching)) == 2
    assert len(suppression(nms=11 / 231 - 1e-6).keep(touching)) == 1


def test_nothing_to_keep() -> None:
    assert suppression().keep([]) == ()


WHOLE_IMAGE = (0, 0, 100, 80)
SCORES: dict[str, Callable[[float], float]] = {  # of a cosine, with 1,000 bits
    "IP": lambda cosine: cosine,
    "L2": lambda cosine: 2 - 2 * cosine,
    "hamming": lambda cosine: 500 - 500 * cosine,
}
THING, ITS_PART, BESIDE = (10, 10, 60, 60), (8, 30, 28, 50), (70, 10, 90, 60)


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ({THING: (0.8, 0.6), ITS_PART: (0.83, 0.2)}, [THING]),  # 0.04 surer, 0.03 farther
        ({THING: (0.8, 0.6), ITS_PART: (0.85, 0.2)}, [THING, ITS_PART]),  # 0.05 nearer: the larger is no part of it
        ({THING: (0.8, 0.6), ITS_PART: (0.7, 0.2), BESIDE: (0.5, 0.4)}, [THING, ITS_PART, BESIDE]),
        ({THING: (0.8, 0.6)}, [THING]),
        ({}, [WHOLE_IMAGE]),
    ],
    ids=["a part", "what looks like a part is named more surely", "several things", "one box", "none"],
)
@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_parts_of_one_thing_do_not_compete(
    dist_type: str, boxes: dict[Box, tuple[float, float]], told: list[Box]
) -> None:
    """Each with its cosine and the detector's score, by every measure; 0.9 of the part's columns lie in the thing."""
    regions = [replace(region(box, SCORES[dist_type](cosine)), det_score=sure) for box, (cosine, sure) in boxes.items()]
    whole = region(WHOLE_IMAGE, SCORES[dist_type](0.3))
    assert [each.bbox for each in suppression(dist_type).rivals(regions, whole, 1000)] == told


def told_of(matches: Sequence[tuple[str, float]], dist_type: str) -> Region:
    return Region(WHOLE_IMAGE, 0.9, tuple(Match(label, SCORES[dist_type](c), 0, "") for label, c in matches))


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
@pytest.mark.parametrize(
    ("whole", "box", "wins"),
    [
        ([("cat", 0.7)], [("cat", 0.6)], True),
        ([("cat", 0.6)], [("cat", 0.7)], False),
        ([("cat", 0.7)], [("dog", 0.6)], True),  # neither knows the other's name: the nearer
        ([("cat", 0.7), ("dog", 0.65)], [("dog", 0.72), ("cat", 0.5)], False),  # dog 1.37, cat 1.2
        ([("cat", 0.7), ("dog", 0.3)], [("dog", 0.72), ("cat", 0.68)], True),  # cat 1.38, dog 1.02
        ([("cat", 0.7), ("cow", 0.69)], [("dog", 0.72), ("cow", 0.68), ("cat", 0.4)], False),  # dog counts as cow: 1.41
        ([("cat", 0.7)] * 5 + [("dog", 0.6)], [("dog", 0.72)] * 5 + [("cat", 0.1)], False),  # only five are asked
    ],
)
def test_one_thing_is_judged_in_its_box_and_whole_together(
    dist_type: str, whole: list[tuple[str, float]], box: list[tuple[str, float]], wins: bool
) -> None:
    asked = (told_of(whole, dist_type), told_of(box, dist_type), measure_of(dist_type), 1000)
    assert whole_tells(*asked) is wins


# --- with fakes ----------------------------------------------------------------------------------------------------


class FakeDetector:
    def __init__(self, boxes: Sequence[Box]) -> None:
        self.boxes = boxes

    def predict(self, images: Sequence[Any]) -> list[list[Detection]]:
        return [[Detection(box, 0.5) for box in self.boxes] for _ in images]


class FakeRecogniser:
    """The mean colour as the vector; counts its calls."""

    fingerprint, dimension, apart = "mean colour", 3, ""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, ...]]] = []

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.calls.append([image.shape for image in images])
        rows: NDArray[np.float32] = np.array([image.mean(axis=(0, 1)) for image in images], np.float32).reshape(-1, 3)
        return rows


class FakeGallery:
    """Red, green and blue; scored by the share of that colour."""

    url = "fake"
    facts = Facts(3, "IP", "Flat", fingerprint="mean colour")

    def search(self, vectors: NDArray[np.float32], k: int) -> list[list[Match]]:
        shares = vectors / vectors.sum(axis=1, keepdims=True)
        ranked = [sorted(zip("rgb", row.tolist(), range(3), strict=True), key=lambda m: -m[1]) for row in shares]
        return [[Match(name, share, number, "") for name, share, number in row[:k]] for row in ranked]


def system(whole_image: str, boxes: Sequence[Box] | None, score_thres: float = 0.5) -> Recogniser:
    detector: Any = None if boxes is None else FakeDetector(boxes)
    recogniser: Any = FakeRecogniser()
    gallery: Any = FakeGallery()
    rules = suppression(score_thres=score_thres)
    return Recogniser(detector, recogniser, gallery, rules, whole_image=whole_image, return_k=2)


def half_red_half_blue() -> NDArray[np.uint8]:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30, 0] = 200
    image[:, 30:, 2] = 200
    return image


LEFT, RIGHT, WHOLE = (0, 0, 28, 40), (32, 0, 60, 40), (0, 0, 60, 40)


@pytest.mark.parametrize(
    ("whole_image", "boxes", "tried"),
    [
        ("always", [LEFT, RIGHT], [LEFT, RIGHT, WHOLE]),
        ("always", [], [WHOLE]),
        ("always", None, [WHOLE]),
        ("compete", [LEFT, RIGHT], [LEFT, RIGHT, WHOLE]),
        ("compete", [], [WHOLE]),
        ("compete", None, [WHOLE]),
        ("fallback", [LEFT, RIGHT], [LEFT, RIGHT]),
        ("fallback", [], [WHOLE]),
        ("fallback", None, [WHOLE]),
        ("never", [LEFT, RIGHT], [LEFT, RIGHT]),
        ("never", [], []),
    ],
)
def test_whole_image(whole_image: str, boxes: Sequence[Box] | None, tried: Sequence[Box]) -> None:
    made = system(whole_image, boxes, score_thres=0.0)
    (found,) = made.predict([half_red_half_blue()], ["photo"])
    assert (found.image, found.width, found.height) == ("photo", 60, 40)
    shapes = [shape for call in made.rec_predictor.calls for shape in call]  # type: ignore[attr-defined]
    assert shapes == [(bottom - top, right - left, 3) for left, top, right, bottom in tried]
    assert bool(found.regions) is bool(tried)


EDGE = (20, 0, 40, 20)


@pytest.mark.parametrize(
    ("boxes", "told"),
    [([LEFT, RIGHT], [LEFT, RIGHT]), ([EDGE], [WHOLE]), ([WHOLE], [WHOLE]), ([], [WHOLE])],
    ids=["a box is nearer", "the whole is nearer", "equal", "no box"],
)
def test_the_whole_image_competes_with_the_boxes(boxes: Sequence[Box], told: Sequence[Box]) -> None:
    """LEFT is red alone; the whole image is red by three quarters, EDGE by half."""
    image = half_red_half_blue()
    image[20:, 30:] = image[20:, :30]
    (found,) = system("compete", boxes, score_thres=0.0).predict([image])
    assert sorted(region.bbox for region in found.regions) == sorted(told)
    (det_score,) = {region.det_score for region in found.regions}
    assert det_score == (0.5 if boxes and told == boxes else 1.0)


def test_regions_of_several_images_go_through_together_and_back() -> None:
    made = system("never", [LEFT, RIGHT])
    green = np.zeros((50, 60, 3), np.uint8)
    green[..., 1] = 99
    photos = [half_red_half_blue(), green, half_red_half_blue()[:, ::-1]]
    found = made.predict(photos)
    assert len(made.rec_predictor.calls) == 1  # type: ignore[attr-defined]
    by_box = [{r.bbox: r.label for r in one.regions} for one in found]
    assert by_box == [{LEFT: "r", RIGHT: "b"}, {LEFT: "g", RIGHT: "g"}, {LEFT: "b", RIGHT: "r"}]
    assert all(len(r.matches) == 2 and r.det_score == 0.5 for one in found for r in one.regions)


def test_what_is_below_the_threshold_is_dropped() -> None:
    (found,) = system("always", [LEFT], score_thres=0.9).predict([half_red_half_blue()])
    assert [(r.bbox, r.label, r.score) for r in found.regions] == [(LEFT, "r", 1.0)]  # the whole is half red
    (found,) = system("always", [], score_thres=0.9).predict([half_red_half_blue()])
    assert found.regions == ()
    assert system("never", []).predict([]) == []


# --- vectors -------------------------------------------------------------------------------------------------------


def paddleclas_binarize(x: NDArray[Any], method: str) -> NDArray[np.uint8]:
    """PaddleClas's postprocess.Binarize, in its own words."""
    x = np.round(x + 1).astype("uint8") - 1 if method == "round" else ((np.sign(x) + 1) / 2).astype("uint8")
    unit = np.array([[128, 64, 32, 16, 8, 4, 2, 1]]).T
    return np.concatenate([np.dot(x[:, i : i + 8], unit) for i in range(0, x.shape[1], 8)], axis=1).astype(np.uint8)


@pytest.mark.parametrize("method", ["sign", "round"])
def test_pack_bits_is_paddleclas_s_binarize(method: str) -> None:
    features = np.random.default_rng(0).uniform(-0.49, 1, (50, 64)).astype(np.float32)
    features[:, :3] = 0.0
    np.testing.assert_array_equal(pack_bits(features, method), paddleclas_binarize(features, method))
    with pytest.raises(ConfigError, match="a multiple of 8, not 63"):
        pack_bits(features[:, :63], method)


def test_round_on_unit_vectors_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """PaddleClas's default; a component of a unit vector reaches one half at most four times."""
    config = load_config(None, ["Global.use_gpu=False", "IndexProcess.dist_type=hamming"])
    image = read_image(sorted((DEMO / "photos").glob("*.jpg"))[0])
    for method, told, least in (("round", 1, 0.0), ("sign", 0, 0.3)):
        predictor = RecPredictor(
            config.replace("RecPostProcess", main_indicator="Binarize", Binarize={"method": method})
        )
        with caplog.at_level("WARNING", "shitu"):
            codes = [predictor.predict([image]) for _ in range(3)]
        assert len(caplog.records) == told
        assert all("Binarize.method=sign" in record.getMessage() for record in caplog.records)
        assert np.unpackbits(codes[0]).mean() >= least
        caplog.clear()


def test_an_empty_gallery_is_not_replaced(small_list: Path, tmp_path: Path) -> None:
    """It is false, as every empty container; the one of the config would have been opened in its place."""
    config = configured(small_list, tmp_path / "index")
    GalleryBuilder(config).run()
    with Gallery.open(tmp_path / "index") as gallery:
        gallery.remove([item.id for item in gallery.items()])
        assert not gallery
        assert SystemPredictor(config.replace("IndexProcess", index_dir=None), gallery).gallery is gallery


def test_a_vector_that_means_nothing_is_an_error() -> None:
    predictor = RecPredictor(load_config(None).replace("Global", use_gpu=False))
    for bad in (0.0, np.nan, np.inf):
        rows = np.ones((3, 512), np.float32)
        rows[1] = bad
        with pytest.raises(EngineError, match="zero or non-finite vector for one of 3 images"):
            predictor._finish([rows], 3)


# --- the detector's output -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> DetPredictor:
    return DetPredictor(load_config(None).replace("Global", use_gpu=False, max_det_results=3, threshold=0.2))


def test_selection(detector: DetPredictor) -> None:
    rows = np.array(
        [
            [0, 0.3, 5.9, 5.9, 20.1, 20.9],
            [0, 0.1, 0, 0, 50, 50],
            [1, 0.9, -5, -5, 500, 500],
            [0, 0.8, 10, 10, 10.5, 30],  # less than a pixel: no region, but it is one of the best three
            [0, 0.25, 1, 1, 9, 9],
        ],
        np.float32,
    )
    found = detector._select(rows, 100, 50)
    assert [(one.bbox, round(one.score, 3), one.label) for one in found] == [
        ((0, 0, 100, 50), 0.9, "1"),
        ((5, 5, 20, 20), 0.3, "foreground"),
    ]


# --- for real ------------------------------------------------------------------------------------------------------


def configured(small_list: Path, index_dir: Path, *more: str) -> Config:
    overrides = [*index_overrides(small_list, index_dir), "Global.use_gpu=False", "Global.whole_image=always"]
    return load_config(None, [*overrides, f"Global.rec_inference_model_dir={BUNDLED_RECOGNISER}", *more])


def test_a_gallery_image_finds_itself(small_list: Path, tmp_path: Path) -> None:
    config = configured(small_list, tmp_path / "index")
    GalleryBuilder(config).run()
    predictor = SystemPredictor(config)
    entries = [line.split("\t") for line in small_list.read_text(encoding="utf-8").splitlines()][::5]
    found = predictor.predict([read_image(DEMO / image) for image, _ in entries], [image for image, _ in entries])
    for (image, label), one in zip(entries, found, strict=True):
        assert one.image == image
        whole = max(one.regions, key=lambda r: r.score)
        assert (whole.label, whole.matches[0].image) == (label, image)
        assert whole.score > 0.999
        assert len(whole.matches) == 5


def test_what_cannot_work_is_told(small_list: Path, tmp_path: Path) -> None:
    config = configured(small_list, tmp_path / "index")
    with pytest.raises(GalleryError, match="there is no gallery in"):
        SystemPredictor(config)
    with pytest.raises(GalleryError, match=r"IndexProcess\.index_dir is empty"):
        SystemPredictor(config.replace("IndexProcess", index_dir=None))
    GalleryBuilder(config).run()
    nothing = config.replace("Global", whole_image="never", det_inference_model_dir=None)
    with pytest.raises(ConfigError, match="there is nothing to recognise"):
        SystemPredictor(nothing)
    with Gallery.open(tmp_path / "index") as gallery, pytest.raises(GalleryError, match="has dist_type IP"):
        SystemPredictor(config.replace("IndexProcess", dist_type="L2"), gallery)
