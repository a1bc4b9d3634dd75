"""Eight threads share one detector, one extractor, one pipeline, and each gets what it would have got alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.images.read import Picture, read_image
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from tests.conftest import DEMO, index_overrides

THREADS, ROUNDS = 8, 4


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, ["Global.use_gpu=False"])


@pytest.fixture(scope="module")
def photos() -> list[Picture]:
    return [read_image(path) for path in sorted((DEMO / "photos").glob("*.jpg"))[:THREADS]]


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Threads that give way 500 times as often find what is shared without a lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def side_by_side(work: Callable[[int], Any]) -> list[list[Any]]:
    """`work(number)` in thread `number`, ROUNDS times each, all at once; what fails there fails here."""
    start, found, failed = threading.Barrier(THREADS), [[] for _ in range(THREADS)], []  # type: ignore[var-annotated]

    def run(number: int) -> None:
        try:
            start.wait(10)
            found[number] = [work(number) for _ in range(ROUNDS)]
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert not any(thread.is_alive() for thread in threads), "a call never came back"
    return found


def test_one_detector(config: Config, photos: list[Picture]) -> None:
    detector = DetPredictor(config)
    alone = [detector.predict([photo]) for photo in photos]
    assert sum(len(found[0]) for found in alone) > len(photos)
    for number, found in enumerate(side_by_side(lambda number: detector.predict([photos[number % len(photos)]]))):
        assert found == [alone[number % len(photos)]] * ROUNDS


def test_one_extractor(config: Config, photos: list[Picture]) -> None:
    extractor = RecPredictor(config)
    crops = [[photo[:90, :70], photo[:50], photo[:, 9:]][: 1 + number % 3] for number, photo in enumerate(photos)]
    alone = [extractor.predict(each) for each in crops]
    for number, found in enumerate(side_by_side(lambda number: extractor.predict(crops[number % len(crops)]))):
        for vectors in found:
            np.testing.assert_allclose(vectors, alone[number % len(crops)], atol=1e-6)


def test_one_pipeline(small_list: Path, tmp_path: Path, photos: list[Picture]) -> None:
    overrides = [*index_overrides(small_list, tmp_path / "index"), "Global.use_gpu=False"]
    GalleryBuilder(load_config(None, overrides)).run()
    predictor = SystemPredictor(load_config(None, [*overrides, "IndexProcess.score_thres=0.2"]))
    alone = [predictor.predict([photo]) for photo in photos]
    assert any(found[0].regions for found in alone)
    for number, found in enumerate(side_by_side(lambda number: predictor.predict([photos[number % len(photos)]]))):
        for one in found:
            told = [[(r.bbox, r.label, round(r.score, 5)) for r in each[0].regions] for each in (one, alone[number])]
            assert told[0] == told[1]
