"""Where tags go, over random layouts, against a search of every pixel."""

from __future__ import annotations

import time

import numpy as np
import pytest

from shitu.draw.place_tags import place_tags
from shitu.results import Box


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def somewhere_free(size: tuple[int, int], others: list[Box], width: int, height: int) -> bool:
    for top in range(height - size[1] + 1):
        for left in range(width - size[0] + 1):
            place = (left, top, left + size[0], top + size[1])
            if not any(overlap(place, other) for other in others):
                return True
    return False


def random_box(rng: np.random.Generator, width: int, height: int) -> Box:
    xs, ys = rng.integers(0, width, 2), rng.integers(0, height, 2)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


@pytest.mark.parametrize("seed", range(60))
def test_tags_are_inside_apart_and_left_out_only_for_want_of_room(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(10, 70, 2))
    count = int(rng.integers(1, 14))
    boxes = [random_box(rng, width, height) for _ in range(count)]
    sizes = [(int(rng.integers(4, 30)), int(rng.integers(3, 9))) for _ in range(count)]
    places = place_tags(boxes, sizes, width, height)
    placed = [place for place in places if place is not None]
    for index, (place, size) in enumerate(zip(places, sizes, strict=True)):
        if place is None:
            assert not somewhere_free(size, placed, width, height)
            continue
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= width
        assert place[3] <= height
        assert (place[2] - place[0], place[3] - place[1]) == size
        assert not any(overlap(place, other) for other in places[:index] if other is not None)


def test_a_lone_tag_stands_above_its_box_or_inside_at_the_top() -> None:
    assert place_tags([(10, 30, 60, 90)], [(40, 12)], 100, 100) == [(10, 18, 50, 30)]
    assert place_tags([(0, 0, 100, 100)], [(40, 12)], 100, 100) == [(0, 0, 40, 12)]
    assert place_tags([(80, 30, 99, 60)], [(40, 12)], 100, 100) == [(59, 18, 99, 30)]


def test_a_tag_prefers_not_to_hide_the_middle_of_a_box() -> None:
    boxes = [(10, 30, 60, 60), (12, 20, 40, 28)]  # the usual place of the first hides the second
    first, second = place_tags(boxes, [(40, 12), (30, 6)], 100, 100)
    assert first is not None
    assert second is not None
    assert not (first[0] <= 26 < first[2] and first[1] <= 24 < first[3])


def test_a_tag_with_no_room_near_goes_to_the_nearest_free_place() -> None:
    """Ten boxes at one spot: every tag finds a place, and none farther off than need be."""
    places = place_tags([(40, 40, 44, 44)] * 10, [(30, 10)] * 10, 200, 200)
    assert None not in places
    assert all(place is not None and place[1] < 100 for place in places)


def test_no_tags_and_one_too_large() -> None:
    assert place_tags([], [], 100, 100) == []
    assert place_tags([(0, 0, 9, 9)], [(30, 5)], 20, 20) == [None]


def test_a_hundred_tags_take_no_second() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_box(rng, 1000, 1000) for _ in range(100)]
    begun = time.perf_counter()
    places = place_tags(boxes, [(120, 24)] * 100, 1000, 1000)
    assert time.perf_counter() - begun < 5  # about 0.1 s; the machine may be busy
    assert None not in places
