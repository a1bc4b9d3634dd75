"""The fast simulation against settings.answer, which is tested against the real predictor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shitu.evaluation.observe import Observation
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import Settings, answer
from shitu.evaluation.simulate import case_of, cases_of, grid, simulate
from shitu.results import Box, Match, Region

PRESENT = Settings(0.25, 4, "fallback", 0.1, 0.5, "IP", 100)
LABELS = "abcd"


def box(random: np.random.Generator) -> Box:
    left, top = random.integers(0, 60, 2).tolist()
    width, height = random.integers(10, 60, 2).tolist()
    return left, top, left + width, top + height


def matches(random: np.random.Generator, dist_type: str, labels: str = LABELS) -> tuple[Match, ...]:
    """Up to three, nearest first, with ties."""
    steps = np.sort(random.integers(0, 12, random.integers(0, 4)))
    drawn = {"IP": 1 - steps / 12, "L2": steps / 6, "hamming": steps}[dist_type].tolist()
    return tuple(Match(labels[random.integers(len(labels))], one, n, f"{n}.jpg") for n, one in enumerate(drawn))


def observations(
    count: int, dist_type: str, *, targets: bool, whole: bool = True, boxes: int = 8, seed: int = 0
) -> Iterator[Observation]:
    random = np.random.default_rng(seed)
    for number in range(count):
        drawn = np.sort(random.integers(1, 20, random.integers(0, boxes + 1)) / np.float32(20))[::-1].tolist()
        found = [Region(box(random), score, matches(random, dist_type)) for score in drawn]
        photo = Region((0, 0, 100, 100), 1.0, matches(random, dist_type))
        parts = [*found, *([photo] if whole else [])]
        label = LABELS[random.integers(len(LABELS))]
        target = None
        if targets and number % 3:
            target = found[random.integers(len(found))].bbox if found and number % 2 else box(random)
        yield Observation(
            Query(f"{number}.jpg", f"{number}.jpg", label, target, number + 1),
            100,
            100,
            tuple(found),
            photo if whole else None,
            np.zeros((len(parts), 8)),
            bool(number % 4),
            tuple(matches(random, dist_type, LABELS.replace(label, "")) for _ in parts),
            target,
        )


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
@pytest.mark.parametrize("vote_k", [1, 3])
@pytest.mark.parametrize(("targets", "within"), [(True, False), (True, True), (False, False)])
def test_every_setting_answers_as_settings_do(dist_type: str, vote_k: int, targets: bool, within: bool) -> None:
    present = Settings(0.25, 4, "fallback", 0.1, 0.5, dist_type, 100, vote_k, within)
    seen = list(observations(12, dist_type, targets=targets))
    cases = [case_of(each, present) for each in seen]
    tried = grid(present, cases)
    assert present in tried
    assert len(set(tried)) == len(tried)
    # 4 x (1, 2, 3, 4, 5, 10) x (0.1 .. 0.6 and 0.25) x (0, 0.05, 0.1, 0.3, 0.5), the last only with boxes
    assert len(tried) == 4 * 6 * 7 * (5 if targets else 1)
    found = simulate(cases, tried)
    for row, settings in enumerate(tried):
        wanted = [answer(each, settings) for each in seen]
        assert found.scores[row].tolist() == [one.score for one in wanted]
        assert found.right[row].tolist() == [one.right for one in wanted]
        assert found.hidden[row].tolist() == [one.hidden_score for one in wanted]


def test_given_boxes_and_no_boxes_leave_only_the_threshold() -> None:
    for seen in (
        observations(5, "IP", targets=False, whole=False, boxes=1),
        observations(5, "IP", targets=True, boxes=0),
    ):
        cases, failed = cases_of(seen, PRESENT)
        assert grid(PRESENT, cases) == [PRESENT]
        assert not failed


def test_failed_observations_stand_aside() -> None:
    good = next(observations(1, "IP", targets=False))
    bad = Observation(good.query, 0, 0, (), None, np.empty((0, 0)), True, (), error="bad.jpg: no image")
    cases, failed = cases_of([bad, good], PRESENT)
    assert [case.query for case in cases] == [good.query]
    assert failed == [("0.jpg", "bad.jpg: no image")]
