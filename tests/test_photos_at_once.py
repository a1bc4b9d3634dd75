"""A folder's photos are recognised side by side, and each gets what it would have got alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.errors import EngineError, ImageError
from shitu.images.read import Picture, read_image
from shitu.images.read_ahead import read_ahead
from shitu.recognise.files import in_groups, recognize_files
from shitu.recognise.files_of_parts import detect_files, embed_files
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from shitu.results import Recognition
from tests.conftest import DEMO, index_overrides

PHOTOS = sorted(str(path) for path in (DEMO / "photos").glob("*.jpg"))[:5]


@pytest.fixture(params=["onnxruntime", "paddle"])
def config(request: pytest.FixtureRequest, small_list: Path, tmp_path: Path) -> Config:
    index = index_overrides(small_list, tmp_path / "index")
    more = [f"Global.engine={request.param}", "Global.use_gpu=False", "IndexProcess.score_thres=0.2"]
    config = load_config(None, [*index, *more])
    GalleryBuilder(config).run()
    return config


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.recognise.from_config.available_cores", lambda: 2)


def told(found: Recognition) -> list[Any]:
    return [(region.bbox, region.label, round(region.score, 4)) for region in found.regions]


def test_a_folder_is_what_its_photos_are(config: Config, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    names = [*PHOTOS[:3], str(tmp_path / "broken.jpg"), *PHOTOS[3:], PHOTOS[0]]
    one, many = SystemPredictor(config), SystemPredictor(config, many=True)
    assert (one.at_once, many.at_once) == (1, 2)
    alone = {name: one.predict([read_image(name)], [name])[0] for name in PHOTOS}
    assert sum(len(each.regions) for each in alone.values()) > len(PHOTOS)
    for size in (1, 2):
        found = [record for _, record in recognize_files(many, read_ahead(names), size)]
        assert [each.image for each in found] == names
        assert [bool(each.error) for each in found] == [False, False, False, True, False, False, False]
        for each in found:
            assert each.error or told(each) == told(alone[each.image])


def test_the_parts(config: Config) -> None:
    one, many = DetPredictor(config), DetPredictor(config, many=True)
    for (_, record), name in zip(detect_files(many, read_ahead(PHOTOS)), PHOTOS, strict=True):
        wanted = one.predict([read_image(name)])[0]
        assert [region.bbox for region in record.regions] == [region.bbox for region in wanted]
    extractor = RecPredictor(config, many=True)
    wanted_rows = RecPredictor(config).predict([read_image(name) for name in PHOTOS])
    found = list(embed_files(extractor, read_ahead(PHOTOS), 2))
    assert [name for name, _, _ in found] == PHOTOS
    np.testing.assert_allclose(np.stack([row for _, row, _ in found if row is not None]), wanted_rows, atol=1e-5)


def test_two_run_at_a_time_and_one_that_fails_takes_no_other() -> None:
    together, started = threading.Barrier(3), []

    def predict(images: Sequence[Picture], names: Sequence[str]) -> list[Any]:
        started.append(names[0])
        if len(started) <= 3:
            together.wait(10)  # passes only when three are in it
        if "4" in names:
            raise EngineError("on demand")
        return list(names)

    read = [(str(number), np.zeros((1, 1, 3), np.uint8)) for number in range(9)]
    found = in_groups(read, 1, predict, lambda name, error: f"{name}: {error}", at_once=2)
    assert [record for _, record in found] == ["0", "1", "2", "3", "4: on demand", "5", "6", "7", "8"]


@pytest.mark.parametrize(("at_once", "ahead"), [(1, 1), (2, 5)])
def test_no_more_is_read_than_is_at_work(at_once: int, ahead: int) -> None:
    """With one at a time, whoever pipes in paths as they appear gets each answer before the next path is read."""
    taken, most = [0], 0

    def read() -> Iterator[tuple[str, Picture | ImageError]]:
        for number in range(20):
            taken[0] += 1
            yield str(number), np.zeros((1, 1, 3), np.uint8)

    for done, _ in enumerate(in_groups(read(), 1, lambda _, names: list(names), lambda name, _: name, at_once)):
        most = max(most, taken[0] - done)
    assert most == ahead
