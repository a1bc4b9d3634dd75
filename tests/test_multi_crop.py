"""The mean of the vectors of several middle crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu.build.builder import GalleryBuilder
from shitu.config import load_config
from shitu.errors import ConfigError, GalleryError
from shitu.images.read import read_image
from shitu.recognise.embed import middle
from shitu.recognise.from_config import RecPredictor, SystemPredictor
from tests.conftest import DEMO, index_overrides

PHOTOS = [DEMO / "gallery/fluent/banana.jpg", DEMO / "photos/desk.jpg"]


def predictor(crops: str) -> RecPredictor:
    return RecPredictor(load_config(None, [f"RecPreProcess.multi_crop={crops}"]))


def test_it_is_the_mean_of_the_unit_vectors_of_the_crops() -> None:
    images = [read_image(path) for path in PHOTOS]
    single = predictor("[1.0]")
    wanted = single.predict(images)
    for share in (0.7, 0.5):
        parts = []
        for image in images:
            rows, columns = round(image.shape[0] * share), round(image.shape[1] * share)
            top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
            parts.append(image[top : top + rows, left : left + columns])
        wanted = wanted + single.predict(parts)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(predictor("[1.0, 0.7, 0.5]").predict(images), wanted, atol=2e-6)


def test_a_middle_has_at_least_a_pixel() -> None:
    assert middle(np.zeros((1, 3, 3), np.uint8), 0.05).shape == (1, 1, 3)


def test_vectors_of_other_crops_are_not_compared(tmp_path: Path, small_list: Path) -> None:
    """Gallery and photo must go through the same; what was built without crops says so."""
    options = index_overrides(small_list, tmp_path / "index")
    GalleryBuilder(load_config(None, [*options, "RecPreProcess.multi_crop=[1.0]"])).run()
    with pytest.raises(GalleryError, match="another model or preprocessing"):
        SystemPredictor(load_config(None, [*options, "RecPreProcess.multi_crop=[1.0, 0.7]"]))


def test_a_gallery_is_built_with_them(tmp_path: Path, small_list: Path) -> None:
    options = [*index_overrides(small_list, tmp_path / "index"), "RecPreProcess.multi_crop=[1.0, 0.6]"]
    config = load_config(None, [*options, "Global.det_inference_model_dir=null", "IndexProcess.score_thres=-1"])
    GalleryBuilder(config).run()
    path, label = small_list.read_text(encoding="utf-8").splitlines()[0].split("\t")
    (region,) = SystemPredictor(config).predict([read_image(DEMO / path)])[0].regions
    assert region.label == label
    assert region.score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("crops", ["[]", "[0]", "[1.5]", "whole"])
def test_what_is_no_share_is_refused(crops: str) -> None:
    with pytest.raises(ConfigError, match="multi_crop"):
        load_config(None, [f"RecPreProcess.multi_crop={crops}"])
