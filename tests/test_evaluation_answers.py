"""Answers of `shitu evaluate`: hidden labels, regions made by hand, given boxes, and photos that fail."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.config import Config
from shitu.evaluation.evaluate import Evaluation, evaluate
from shitu.evaluation.observe import Observation, Observer
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import Settings, answer
from shitu.gallery.gallery import Gallery
from shitu.images.boxes import iou_matrix
from shitu.images.read import read_image
from shitu.recognise.from_config import SystemPredictor
from shitu.results import Match, Region
from tests.evaluation_demo import LABELS, build_galleries, demo_queries

pytestmark = pytest.mark.usefixtures("shared_sessions")


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Config]:
    return build_galleries(tmp_path_factory.mktemp("galleries"))


# --- hidden labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vote", [1, 4])
@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_a_hidden_label_is_one_that_was_removed(
    galleries: dict[str, Config], dist_type: str, vote: int, tmp_path: Path
) -> None:
    """Six labels become one of 18 entries, which the search must look past; then they are removed for good."""
    config = galleries[dist_type].replace("IndexProcess", index_dir=str(tmp_path / "index"), vote_k=vote)
    with Gallery.open(str(galleries[dist_type].IndexProcess.index_dir)) as gallery:
        items = [
            replace(item, label=item.label if item.label in LABELS[-3:] else "common", id=-1)
            for item in gallery.items()
        ]
        vectors, fingerprint = np.array(gallery.vectors()), gallery.facts.fingerprint
    facts = {"index_method": "Flat", "dist_type": dist_type, "fingerprint": fingerprint}
    Gallery.create(tmp_path / "index", vectors, items, **facts)
    queries = [
        replace(query, label="common" if query.label in LABELS[:-3] else query.label)
        for query in demo_queries("desk", "beach")
    ]
    answers = evaluate(config, queries, with_map=False).answers
    for label in {"common", *LABELS[-3:]}:
        shutil.rmtree(tmp_path / "without", ignore_errors=True)
        shutil.copytree(tmp_path / "index", tmp_path / "without")
        with Gallery.open(tmp_path / "without") as gallery:
            gallery.remove(gallery.find(labels=[label]))
        predictor = SystemPredictor(config.replace("IndexProcess", index_dir=str(tmp_path / "without")))
        for one in answers:
            if one.query.label != label:
                continue
            regions = predictor.predict([read_image(one.query.path)])[0].regions
            inside = [each for each in regions if iou_matrix([one.query.box], [each.bbox])[0, 0] >= 0.5]
            expected = Settings.from_config(config).sign * inside[0].score if inside else -math.inf
            assert one.hidden_score == pytest.approx(expected, abs=2 if dist_type == "hamming" else 1e-5)
    scores = [one.hidden_score for one in answers if one.query.label == "common"]
    assert len([one for one in scores if one > -math.inf]) >= 3
    unknown = [one for one in answers if not one.known]
    assert unknown
    assert all(one.score == one.hidden_score for one in unknown)


# --- the answer, on regions made by hand ---------------------------------------------------------------------------


def region(left: int, *matches: tuple[str, float, int]) -> Region:
    """40 pixels wide, 10 apart from the next one at left + 50."""
    found = tuple(Match(label, value, number, "") for label, value, number in matches)
    return Region((left, 0, left + 40, 40), 0.9, found)


def observed(*regions: Region, target: tuple[int, int, int, int] | None = None, label: str = "right") -> Observation:
    others = tuple(tuple(match for match in one.matches if match.label != label)[:1] for one in regions)
    query = Query("", "", label, target, 1)
    return Observation(query, 900, 40, regions, None, np.zeros((len(regions), 8)), True, others, target)


SETTINGS = Settings(0.2, 50, "never", 0.05, 0.5, "IP", 100)


def test_recall_counts_gallery_images_and_not_regions() -> None:
    """Five regions see the same wrong entry; the sixth sees the right one, which is the second image of the gallery."""
    regions = [region(50 * n, ("wrong", 0.9 - n / 100, 7)) for n in range(5)]
    found = answer(observed(*regions, region(250, ("right", 0.5, 3))), SETTINGS)
    assert [(match.id, match.score) for match in found.ranking] == [(7, 0.9)]  # as deep as each region was searched
    deep = [replace(one, matches=(*one.matches, Match("also wrong", 0.1, 20 + n, ""))) for n, one in enumerate(regions)]
    found = answer(observed(*deep, region(250, ("right", 0.5, 3))), SETTINGS)
    assert [(match.label, match.id) for match in found.ranking] == [("wrong", 7), ("right", 3)]
    assert (found.label, found.right, found.score, found.hidden_score) == ("wrong", False, 0.9, 0.9)
    assert len(found.regions) == 6


def test_only_regions_on_the_box_count() -> None:
    """IoU with the box (100..140): 1 for the third, 0.6 for one that is 10 pixels off, and too little at 20."""
    seen = [region(0, ("wrong", 0.99, 1)), region(120, ("wrong", 0.98, 2)), region(110, ("right", 0.3, 3))]
    found = answer(observed(*seen, target=(100, 0, 140, 40)), replace(SETTINGS, rec_nms_thresold=1.0))
    assert [one.bbox[0] for one in found.regions] == [110]
    assert (found.label, found.right, found.score) == ("right", True, 0.3)
    assert found.hidden_score == -math.inf
    found = answer(observed(*seen, target=(100, 0, 140, 40)), SETTINGS)
    assert found.regions == (), "a nearer region beside it has suppressed it, as predict would"
    assert (found.label, found.score, found.right, found.ranking) == (None, -math.inf, False, ())


def test_ties_go_to_the_lower_id_and_each_entry_to_its_best_region() -> None:
    seen = observed(region(0, ("b", 0.7, 9), ("a", 0.6, 4)), region(50, ("a", 0.7, 4), ("b", 0.2, 9)))
    found = answer(seen, SETTINGS)
    assert [(match.id, match.score) for match in found.ranking] == [(4, 0.7), (9, 0.7)]


# --- the list's boxes, and what fails ------------------------------------------------------------------------------


def test_given_boxes_are_what_is_recognised(galleries: dict[str, Config]) -> None:
    config = galleries["IP"]
    queries = [*demo_queries("beach"), replace(demo_queries("desk")[0], box=None)]
    observer = Observer(config, detector="given")
    seen = list(observer.observe(queries))
    assert [one.query for one in seen] == queries
    for one in seen:
        picture = read_image(one.query.path)
        box = one.query.box or (0, 0, picture.shape[1], picture.shape[0])
        (only,) = one.parts
        assert (only.bbox, one.whole, one.target) == (box, None, None)
        vector = observer.predictor.rec_predictor.predict([picture[box[1] : box[3], box[0] : box[2]]])
        np.testing.assert_allclose(one.vectors, vector, atol=1e-5)
        (matches,) = observer.gallery.search(vector, 5)
        assert [match.id for match in only.matches] == [match.id for match in matches]
        assert answer(one, Settings.from_config(observer.config)).regions[0].bbox == box
    assert len({one.sha256 for one in (observer.gallery.items())}) == 27


def test_one_photo_is_detected_once(galleries: dict[str, Config]) -> None:
    observer = Observer(galleries["IP"])
    detector, seen = observer.predictor.det_predictor, []
    assert detector is not None
    real = detector.predict
    detector.predict = lambda images: seen.append(len(images)) or real(images)  # type: ignore[method-assign,func-returns-value]
    queries = demo_queries("beach", "desk")
    shuffled = queries[::2] + queries[1::2]
    found = list(observer.observe(shuffled))
    assert sum(seen) == 2
    assert sorted(one.query.line for one in found) == sorted(query.line for query in queries)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_fails_takes_nothing_along(
    galleries: dict[str, Config], batch_size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = galleries["IP"].replace("Global", batch_size=batch_size)
    queries = demo_queries("beach")
    (tmp_path / "bad.jpg").write_text("text")
    bad = [Query("bad.jpg", str(tmp_path / "bad.jpg"), label, None, 90) for label in ("crab", "turtle")]
    beside = replace(queries[0], box=(5000, 5000, 5010, 5010), line=99)
    mixed = [bad[0], queries[0], beside, bad[1], *queries[1:]]
    found, good = evaluate(config, mixed), evaluate(config, queries)
    assert (found.queries, found.failed) == (len(mixed), 3)
    assert figures(found) == figures(good)
    assert [record.message for record in caplog.records if record.message.startswith("Failed")] == [
        f"Failed: {tmp_path / 'bad.jpg'}: not an image; shitu reads JPEG, PNG, WebP, BMP, TIFF, GIF or PPM",
        f"Failed: {beside.path}: line 99: the box 5000,5000,5010,5010 lies outside the photo, which has 900 x 675 px",
    ]
    assert all(one.error for one in found.answers if one.query in (*bad, beside))


def figures(found: Evaluation) -> dict[str, Any]:
    return {key: value for key, value in found.to_dict().items() if key not in ("queries", "failed")}


def test_a_narrow_look_sees_what_a_wide_one_does(galleries: dict[str, Config]) -> None:
    """`evaluate` looks no further than its config asks; `calibrate` looks wider."""
    config, queries = galleries["IP"], demo_queries("beach", "desk")
    settings = Settings.from_config(config)
    wide, narrow = (list(Observer(config, widen=widen).observe(queries)) for widen in (True, False))
    assert sum(len(one.candidates) for one in wide) > sum(len(one.candidates) for one in narrow)
    for one, other in zip(wide, narrow, strict=True):
        first, second = answer(one, settings), answer(other, settings)
        assert [each.bbox for each in first.regions] == [each.bbox for each in second.regions]
        assert first.score == pytest.approx(second.score, abs=1e-5)
        assert first.hidden_score == pytest.approx(second.hidden_score, abs=1e-5)
