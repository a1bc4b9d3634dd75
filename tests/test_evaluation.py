"""Evaluation against the real pipeline: what is simulated is what `predict` returns, figures are brute force's."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.config import Config
from shitu.errors import GalleryError
from shitu.evaluation.evaluate import evaluate
from shitu.evaluation.observe import Observation, Observer
from shitu.evaluation.queries import Query, read_queries
from shitu.evaluation.settings import Settings
from shitu.gallery.gallery import Gallery
from shitu.images.boxes import iou_matrix
from shitu.images.read import read_image
from shitu.measure import measure_of
from shitu.recognise.from_config import SystemPredictor
from tests.conftest import DEMO
from tests.evaluation_demo import LABELS, build_galleries, demo_queries

pytestmark = pytest.mark.usefixtures("shared_sessions")


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Config]:
    return build_galleries(tmp_path_factory.mktemp("galleries"))


def settings_of(config: Config) -> list[tuple[Config, Settings]]:
    """Configs that differ in what stands between seeing and answering."""
    found = []
    for whole in ("always", "compete", "fallback", "never"):
        for threshold, most, nms, vote in (
            (0.3, 15, 0.05, 1),
            (0.5, 2, 0.6, 3),
            (0.999, 50, 0.05, 1),
            (0.05, 50, 1, 5),
        ):
            changed = config.replace(
                "Global",
                whole_image=whole,
                threshold=threshold,
                max_det_results=most,
                rec_nms_thresold=nms,
                rec_nms_within_labels=len(found) % 3 == 0,
            )
            near: dict[str, Any] = {"score_thres": {"IP": 0.4, "L2": 1.2}.get(config.IndexProcess.dist_type, 0)}
            near = {**near, "hamming_radius": 180} if len(found) % 2 else {}
            one = changed.replace("IndexProcess", vote_k=vote, **near)
            found.append((one, Settings.from_config(one)))
    return found


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_what_is_simulated_is_what_predict_returns(galleries: dict[str, Config], dist_type: str) -> None:
    queries = demo_queries("desk", "beach")
    seen = {one.query.image: one for one in Observer(galleries[dist_type]).observe(queries)}
    photos = [read_image(DEMO / name) for name in seen]
    counts = set()
    for config, settings in settings_of(galleries[dist_type]):
        for observed, real in zip(seen.values(), SystemPredictor(config).predict(photos), strict=True):
            simulated = settings.regions(observed)
            assert (observed.width, observed.height) == (real.width, real.height)
            assert [region.bbox for region in simulated] == [region.bbox for region in real.regions]
            for one, other in zip(simulated, real.regions, strict=True):
                assert one.label == other.label
                assert one.score == pytest.approx(other.score, abs=2 if dist_type == "hamming" else 1e-5)
                assert one.det_score == pytest.approx(other.det_score, abs=1e-5)
            counts.add(len(simulated))
    assert {0, 1} < counts, "the settings do differ"


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_the_figures_are_those_of_predict(galleries: dict[str, Config], dist_type: str) -> None:
    """Named rightly, wrongly and not at the config's threshold, from `predict` itself."""
    limits = {"IP": {"score_thres": 0.75}, "L2": {"score_thres": 0.5}, "hamming": {"hamming_radius": 110}}
    config = galleries[dist_type].replace("IndexProcess", **limits[dist_type])
    predictor, named = SystemPredictor(config), defaultdict(list)
    queries = demo_queries("desk", "beach", "picnic")
    for query in queries:
        regions = predictor.predict([read_image(query.path)])[0].regions
        assert query.box is not None
        inside = [one for one in regions if iou_matrix([query.box], [one.bbox])[0, 0] >= 0.5]
        named[query.label in LABELS].append((query.label, inside[0].label if inside else None))
    found = evaluate(config, queries)
    known = named[True]
    assert (found.known, found.unknown, found.failed) == (len(known), len(named[False]), 0)
    at = found.at_threshold
    assert at.named_right == pytest.approx(sum(label == name for label, name in known) / len(known))
    assert at.not_named == pytest.approx(sum(name is None for _, name in known) / len(known))
    assert at.named_right + at.named_wrong + at.not_named == pytest.approx(1)
    assert at.unknown_named == pytest.approx(sum(name is not None for _, name in named[False]) / len(named[False]))
    assert 0 < at.named_right < 1
    assert found.open_set is not None
    assert found.open_set.kind == "listed"


# --- without a detector: brute force over the gallery's own vectors ------------------------------------------------


def gallery_queries(config: Config) -> list[Query]:
    return read_queries(str(config.IndexProcess.data_file), DEMO, "\t")


def brute_force(config: Config, seen: list[Observation], *, leave_one_out: bool) -> dict[str, Any]:
    """Every query against every gallery entry."""
    dist_type = config.IndexProcess.dist_type
    sign = 1 if dist_type == "IP" else -1
    with Gallery.open(str(config.IndexProcess.index_dir)) as gallery:
        vectors, items = np.asarray(gallery.vectors()), list(gallery.items())
    hits, precisions, hidden = [], [], []
    for one in seen:
        nearness = sign * measure_of(dist_type).score(one.vectors[0], vectors)
        rows = [n for n, item in enumerate(items) if not (leave_one_out and item.image == one.query.image)]
        ranked = sorted(rows, key=lambda n: (-nearness[n], n))
        right = [items[n].label == one.query.label for n in ranked]
        hits.append([any(right[:1]), any(right[:5])])
        precisions.append(np.mean([sum(right[: n + 1]) / (n + 1) for n in range(len(right)) if right[n]]))
        hidden.append(max(nearness[n] for n in rows if items[n].label != one.query.label))
    recalls = np.mean(hits, axis=0)
    return {"recall": dict(zip((1, 5), recalls, strict=True)), "map": np.mean(precisions), "hidden": hidden}


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_brute_force_over_whole_photos(
    galleries: dict[str, Config], dist_type: str, leave_one_out: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Every fifth query has a wrong label, so that the figures are not all 1."""
    config = galleries[dist_type]
    queries = [
        replace(query, label=LABELS[number % len(LABELS)] if number % 5 == 0 else query.label)
        for number, query in enumerate(gallery_queries(config))
    ]
    asked = {"detector": "off", "leave_one_out": leave_one_out}
    expected = brute_force(config, list(Observer(config, **asked).observe(queries)), leave_one_out=leave_one_out)  # type: ignore[arg-type]
    done: list[int] = []
    found = evaluate(config, queries, progress=done.append, **asked)  # type: ignore[arg-type]
    assert found.recall == pytest.approx(expected["recall"])
    assert found.mean_average_precision == pytest.approx(expected["map"])
    assert [one.hidden_score for one in found.answers] == pytest.approx(expected["hidden"], abs=1e-5)
    assert (found.queries, found.known, found.in_gallery, sum(done)) == (27, 27, 27, 27)
    assert 0.5 < found.recall[1] < 1
    assert [one.ranking[0].image == one.query.image for one in found.answers] == [not leave_one_out] * 27
    assert ("27 of 27 queries are images of the gallery" in caplog.text) is not leave_one_out
    assert found.open_set is not None
    assert found.open_set.kind == "hidden labels"


def test_known_without_itself_means_another_entry_of_the_label(galleries: dict[str, Config], tmp_path: Path) -> None:
    config = galleries["IP"].replace("IndexProcess", index_dir=str(tmp_path / "index"))
    shutil.copytree(str(galleries["IP"].IndexProcess.index_dir), tmp_path / "index")
    with Gallery.open(tmp_path / "index") as gallery:
        crabs = [item for item in gallery.items() if item.label == "crab"]
        gallery.remove([item.id for item in crabs[1:]])
    queries = [query for query in gallery_queries(config) if query.label in ("crab", "turtle")]
    seen = list(Observer(config, detector="off", leave_one_out=True).observe(queries))
    assert [one.known for one in seen if one.query.image == crabs[0].image] == [False]
    assert all(one.known for one in seen if one.query.image != crabs[0].image)
    assert all(match.image != one.query.image for one in seen for match in one.parts[0].matches)
    found = evaluate(config, queries, detector="off", leave_one_out=True)
    assert (found.known, found.unknown, found.in_gallery) == (5, 1, 4)


def test_a_gallery_that_knows_no_files_cannot_leave_one_out(galleries: dict[str, Config], tmp_path: Path) -> None:
    with Gallery.open(str(galleries["IP"].IndexProcess.index_dir)) as gallery:
        items = [replace(item, sha256="", id=-1) for item in gallery.items()]
        Gallery.create(
            tmp_path / "x",
            gallery.vectors(),
            items,
            index_method="Flat",
            dist_type="IP",
            fingerprint=gallery.facts.fingerprint,
        )
    with pytest.raises(GalleryError, match="does not say which files"):
        Observer(galleries["IP"].replace("IndexProcess", index_dir=str(tmp_path / "x")), leave_one_out=True)


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_brute_force_over_the_regions_of_predict(galleries: dict[str, Config], dist_type: str) -> None:
    """Queries without boxes: an entry ranks by its best score over all the regions that `predict` returns."""
    config, queries = galleries[dist_type], [replace(query, box=None) for query in demo_queries("desk", "beach")]
    predictor, sign = SystemPredictor(config), Settings.from_config(config).sign
    vectors, items = (
        np.asarray(Gallery.open(str(config.IndexProcess.index_dir)).vectors()),
        list(predictor.gallery.items()),
    )
    precisions, hits = [], []
    for query in queries:
        photo = read_image(query.path)
        boxes = [region.bbox for region in predictor.predict([photo])[0].regions]
        assert len(boxes) > 3
        rows = predictor.rec_predictor.predict([photo[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])
        best = np.max([sign * measure_of(dist_type).score(row, vectors) for row in rows], axis=0)
        right = [items[n].label == query.label for n in sorted(range(len(items)), key=lambda n: (-best[n], n))]
        if any(right):
            precisions.append(np.mean([sum(right[: n + 1]) / (n + 1) for n in range(len(right)) if right[n]]))
            hits.append([any(right[:1]), any(right[:5])])
    found = evaluate(config, queries)
    # codes may differ by a bit from one batch to another, and with them an order of two
    assert found.mean_average_precision == pytest.approx(
        np.mean(precisions), abs=0.01 if dist_type == "hamming" else 1e-6
    )
    assert found.recall == pytest.approx(dict(zip((1, 5), np.mean(hits, axis=0), strict=True)))
    assert 0 < found.recall[1] < found.recall[5] <= 1


def test_recall_reads_no_gallery_vectors(
    galleries: dict[str, Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, queries = galleries["IP"], demo_queries("beach")
    whole = evaluate(config, queries)
    monkeypatch.setattr("shitu.evaluation.evaluate.MOST_ENTRIES", 26)
    caplog.set_level("INFO")
    assert evaluate(config, queries, with_map=True).to_dict() == whole.to_dict()
    assert caplog.text == ""
    monkeypatch.delattr(Gallery, "blocks")
    found = evaluate(config, queries)
    assert "mAP is left out for a gallery of 27 entries; --map works it out" in caplog.text
    assert (found.mean_average_precision, found.recall) == (None, whole.recall)


def test_several_labels_of_one_photo_need_boxes(galleries: dict[str, Config], caplog: pytest.LogCaptureFixture) -> None:
    queries = demo_queries("beach", "desk")
    evaluate(galleries["IP"], queries)
    assert caplog.text == ""
    evaluate(galleries["IP"], [replace(query, box=None) for query in queries])
    assert "Photos listed with several labels and no boxes: 2." in caplog.text
