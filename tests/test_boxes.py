"""Boxes against naive twins: plain Python loops over one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.images.boxes import clip_boxes, iou_matrix, nms, share_within

EMPTY = np.zeros((0, 4))


def random_boxes(rng: np.random.Generator, count: int, size: int = 40) -> NDArray[np.int64]:
    corners = rng.integers(0, size, (count, 2, 2))
    low, high = corners.min(axis=1), corners.max(axis=1)
    return np.concatenate([low, high + 1], axis=1)


def naive_iou(a: list[float], b: list[float], extra: int) -> float:
    wide = max(0, min(a[2], b[2]) - max(a[0], b[0]) + extra)
    high = max(0, min(a[3], b[3]) - max(a[1], b[1]) + extra)
    both = wide * high
    area_a = (a[2] - a[0] + extra) * (a[3] - a[1] + extra)
    area_b = (b[2] - b[0] + extra) * (b[3] - b[1] + extra)
    return both / (area_a + area_b - both)


def naive_nms(boxes: list[list[float]], scores: list[float], threshold: float, extra: int) -> list[int]:
    """A box stays when no better one that stays overlaps it by more than the threshold."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(naive_iou(boxes[index], boxes[other], extra) <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize(
    ("box", "clipped", "kept"),
    [
        ([1.9, 2.1, 5.99, 7.5], [1, 2, 5, 7], True),
        ([-0.9, -5.0, 3.0, 4.0], [0, 0, 3, 4], True),
        ([2, 3, 900, 1e30], [2, 3, 20, 10], True),
        ([19, 9, 20, 10], [19, 9, 20, 10], True),
        ([4.1, 2, 4.9, 8], [4, 2, 4, 8], False),  # narrower than one pixel
        ([5, 5, 3, 8], [5, 5, 3, 8], False),  # inside out
        ([30, 2, 40, 8], [20, 2, 20, 8], False),  # beside the image
        ([-9, 0, -1, 5], [0, 0, 0, 5], False),
        ([float("nan"), 0, 5, 5], [0, 0, 0, 0], False),
        ([0, 0, float("inf"), 5], [0, 0, 0, 0], False),
        ([float("-inf"), 0, 5, 5], [0, 0, 0, 0], False),
    ],
)
def test_clip(box: list[float], clipped: list[int], kept: bool) -> None:
    boxes, keep = clip_boxes(np.array([box], dtype=np.float64), width=20, height=10)
    assert boxes.tolist() == [clipped]
    assert keep.tolist() == [kept]
    assert boxes.dtype == np.int64
    assert keep.dtype == np.bool_


def test_clip_truncates_as_astype_int_does() -> None:
    given = np.random.default_rng(0).uniform(0, 100, (200, 4)).astype(np.float32)
    boxes, _ = clip_boxes(given, width=100, height=100)
    assert (boxes == given.astype("int")).all()


def test_no_boxes() -> None:
    boxes, keep = clip_boxes(EMPTY, 10, 10)
    assert boxes.shape == (0, 4)
    assert keep.shape == (0,)
    assert clip_boxes([], 10, 10)[0].shape == (0, 4)
    assert iou_matrix(EMPTY, EMPTY).shape == (0, 0)
    assert iou_matrix(EMPTY, [[0, 0, 1, 1]]).shape == (0, 1)
    assert iou_matrix([[0, 0, 1, 1]], EMPTY).shape == (1, 0)
    kept = nms(EMPTY, [], 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


@pytest.mark.parametrize("plus_one", [False, True])
def test_iou_is_that_of_the_naive_twin(plus_one: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 30), random_boxes(rng, 20)
    wanted = [[naive_iou(x, y, int(plus_one)) for y in b.tolist()] for x in a.tolist()]
    assert np.allclose(iou_matrix(a, b, plus_one), wanted, rtol=0, atol=1e-12)


def test_iou_by_hand() -> None:
    assert iou_matrix([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2], [2, 0, 4, 2]]).tolist() == [[2 / 6, 1, 0]]
    # Touching boxes share a column of pixels when the right edge counts in: 1*3 of 9 + 9 - 3.
    assert iou_matrix([[0, 0, 2, 2]], [[2, 0, 4, 2]], plus_one=True).tolist() == [[3 / 15]]
    assert iou_matrix([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]


def test_share_within_by_hand() -> None:
    found = share_within([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 9]], [[0, 0, 2, 2], [0, 0, 9, 9]])
    assert found.tolist() == [[1, 1], [0.5, 1], [0, 0]]


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 1.0])
def test_nms_is_that_of_the_naive_twin(plus_one: bool, threshold: float) -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 7, 40):
        for _ in range(10):
            boxes = random_boxes(rng, count)
            scores = rng.integers(0, 5, count) / 4  # many ties
            wanted = naive_nms(boxes.tolist(), scores.tolist(), threshold, int(plus_one))
            assert nms(boxes, scores, threshold, plus_one).tolist() == wanted


def test_nms_keeps_an_overlap_equal_to_the_threshold() -> None:
    boxes = [[0, 0, 9, 9], [5, 0, 14, 9]]  # with the edges counted in: 50 of 150
    assert nms(boxes, [0.9, 0.8], 50 / 150).tolist() == [0, 1]
    assert nms(boxes, [0.9, 0.8], 50 / 150 - 1e-9).tolist() == [0]


def test_nms_by_hand_as_paddleclas_suppresses() -> None:
    """Three finds of one bottle and the whole photo; rec_nms_thresold 0.05; regions are ranked by rec_scores."""
    boxes = [[10, 10, 50, 90], [12, 8, 52, 92], [60, 10, 99, 90], [0, 0, 100, 100]]
    assert nms(boxes, [0.80, 0.85, 0.60, 0.50], 0.05).tolist() == [1, 2]
    assert nms(boxes, [0.80, 0.85, 0.60, 0.95], 0.05).tolist() == [3]


def test_nms_within_groups_is_nms_of_each_group() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        boxes, scores, groups = random_boxes(rng, 20), rng.random(20), rng.integers(0, 3, 20)
        kept = nms(boxes, scores, 0.1, groups=groups)
        wanted = [int(np.flatnonzero(groups == g)[i]) for g in range(3)
                  for i in nms(boxes[groups == g], scores[groups == g], 0.1)]  # fmt: skip
        assert sorted(kept.tolist()) == sorted(wanted)
        assert (np.diff(scores[kept]) <= 0).all()


def test_nms_breaks_ties_by_the_lower_index() -> None:
    assert nms([[0, 0, 5, 5]] * 3, [0.5, 0.5, 0.5], 0.5).tolist() == [0]
    assert nms([[0, 0, 5, 5], [20, 20, 25, 25]], [0.5, 0.5], 0.5).tolist() == [0, 1]


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 boxes but 1 scores"):
        nms([[0, 0, 1, 1], [0, 0, 1, 1]], [0.5], 0.5)
    with pytest.raises(ValueError, match="must be"):
        clip_boxes(np.zeros((4, 3)), 5, 5)
