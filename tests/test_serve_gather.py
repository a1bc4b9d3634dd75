"""Requests that share a call of the extractor get their own vectors, and one that fails fails alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.errors import EngineError
from shitu.serve.gather import SharedExtractor


class Means:
    """In the extractor's place: a picture's vector is its mean; one that is black fails."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.first, self.go_on = threading.Event(), threading.Event()

    def predict(self, images: Sequence[NDArray[Any]]) -> NDArray[Any]:
        self.calls.append(len(images))
        if len(self.calls) == 1:
            self.first.set()
            assert self.go_on.wait(60)
        if any(not image.any() for image in images):
            raise EngineError("black")
        return np.array([[image.mean()] for image in images], np.float32)


def picture(value: int) -> NDArray[np.uint8]:
    return np.full((4, 4, 3), value, np.uint8)


@pytest.fixture
def means() -> Means:
    return Means()


def test_what_waits_shares_the_next_call(means: Means) -> None:
    """Ten come while the first is in work."""
    shared = SharedExtractor(means, expected=lambda: 11)  # type: ignore[arg-type]
    first = shared.submit([picture(1)])
    assert means.first.wait(60)
    others = [shared.submit([picture(value), picture(value + 1)]) for value in range(10, 20)]
    means.go_on.set()
    assert [each.result(60).tolist() for each in others] == [[[value], [value + 1]] for value in range(10, 20)]
    assert first.result(60).tolist() == [[1]]
    assert means.calls == [1, 20]
    shared.close()


def test_one_that_fails_takes_no_other_with_it(means: Means) -> None:
    shared = SharedExtractor(means, expected=lambda: 3)  # type: ignore[arg-type]
    first = shared.submit([picture(1)])
    assert means.first.wait(60)
    good, bad = shared.submit([picture(7)]), shared.submit([picture(0)])
    means.go_on.set()
    assert good.result(60).tolist() == [[7]]
    with pytest.raises(EngineError):
        bad.result(60)
    assert first.result(60).tolist() == [[1]]
    assert shared.predict([picture(3)]).tolist() == [[3]]
    shared.close()


def test_alone_it_waits_for_nobody(means: Means) -> None:
    means.go_on.set()
    seen: list[int] = []
    shared = SharedExtractor(means, expected=lambda: 1, seen=seen.append)  # type: ignore[arg-type]
    for value in range(1, 5):
        assert shared.predict([picture(value)]).tolist() == [[value]]
    assert seen == means.calls == [1, 1, 1, 1]
    shared.close()
