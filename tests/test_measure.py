"""The three measures: scores, thresholds and cosines, each known from numpy or by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.measure import HAMMING, IP, L2, Measure, measure_of


def test_widths() -> None:
    assert (HAMMING.width(512), HAMMING.dtype, HAMMING.dimension(64)) == (64, np.uint8, 512)
    for measure in (IP, L2):
        assert (measure.width(512), measure.dtype, measure.dimension(512)) == (512, np.float32, 512)
    for dimension in (12, 0):
        with pytest.raises(GalleryError, match="multiple of 8 bits"):
            HAMMING.width(dimension)
    with pytest.raises(GalleryError, match="'cosine' is unknown: use IP, L2 or hamming"):
        measure_of("cosine")


@pytest.mark.parametrize("measure", [IP, L2, HAMMING], ids=lambda measure: measure.name)
def test_equal_vectors_are_nearest_and_the_cosine_is_one(measure: Measure) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((20, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if measure.packed:
        vectors = np.packbits(vectors > 0, axis=1)
    scores = measure.score(vectors[3], vectors)
    assert scores[3] == pytest.approx(measure.best)
    assert np.argmax(measure.sign * scores) == 3
    assert measure.cosine(float(scores[3]), 64) == pytest.approx(1)
    np.testing.assert_allclose(measure.nearness(vectors[3:4], vectors)[0], measure.sign * scores, atol=1e-6)
    assert (measure.sign * scores <= measure.limit + 1e-6).all()
    assert (measure.sign * scores >= measure.sign * measure.worst).all()


@pytest.mark.parametrize(
    ("measure", "near", "far"), [(IP, 0.5, 0.49), (L2, 0.5, 0.51), (HAMMING, 9, 10)], ids=lambda one: str(one)[:20]
)
def test_what_a_threshold_means(measure: Measure, near: float, far: float) -> None:
    threshold = measure.threshold(0.5, 9)
    assert measure.accepts(near, threshold)
    assert not measure.accepts(far, threshold)
    assert measure.threshold_key == ("hamming_radius" if measure is HAMMING else "score_thres")


def test_unit_vectors_have_one_cosine() -> None:
    one, two = np.array([1, 0], np.float32), np.array([[0.6, 0.8]], np.float32)
    assert IP.cosine(float(IP.score(one, two)[0]), 2) == pytest.approx(0.6)
    assert L2.cosine(float(L2.score(one, two)[0]), 2) == pytest.approx(0.6)
    assert HAMMING.cosine(16, 64) == 0.5


def test_what_cannot_be_compared() -> None:
    for measure, wrong in ((IP, np.zeros((2, 8))), (L2, np.full((1, 8), np.inf)), (IP, np.ones((2, 7)))):
        with pytest.raises(ValueError, match=r"zero or not finite|wants \(n, 8\) float32"):
            measure.checked(wrong, 8)
    with pytest.raises(ValueError, match="packed bits as uint8, not float32"):
        HAMMING.checked(np.ones((2, 1), np.float32), 8)
