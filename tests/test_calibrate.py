"""Which settings and thresholds calibration chooses, where the best are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shitu.errors import UsageError
from shitu.evaluation.calibrate import Calibration, calibrate_cases
from shitu.evaluation.choose_settings import Figures, Task, cross_validate
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import Settings
from shitu.evaluation.simulate import Case, Rivals

PRESENT = Settings(0.5, 1, "always", 0.05, 0.5, "IP", 100)


def case(
    number: int, boxes: Sequence[tuple[float, float, bool]], whole: tuple[float, bool], *, known: bool = True
) -> Case:
    """Boxes as (detector's score, score, right), best first; the whole photo as (score, right)."""
    found = [*((score, right) for _, score, right in boxes), whole]
    places = np.arange(len(found), dtype=np.float64)[:, None]
    scores = np.array([score for score, _ in found])
    return Case(
        query=Query(f"{number}.jpg", f"{number}.jpg", f"label {number // 2}", None, number + 1),
        known=known,
        in_gallery=False,
        box_scores=np.array([score for score, _, _ in boxes], np.float64),
        has_whole=True,
        scores=scores,
        right=np.array([right for _, right in found]),
        hidden=scores - 0.3,
        counts=np.ones(len(found), np.bool_),
        overlaps=None,
        xyxy=places * [10, 0, 10, 0] + [0, 0, 9, 9],  # side by side
        rivals=Rivals(scores, scores[-1] > scores),
        hidden_rivals=Rivals(scores - 0.3, scores[-1] > scores),
    )


def unknown_cases(count: int, first: int = 1000) -> list[Case]:
    """They score 0.20, 0.21, ... in the box, 0.1 as a whole."""
    return [case(first + n, [(0.9, 0.2 + n / 100, False)], (0.1, False), known=False) for n in range(count)]


# --- the choice ------------------------------------------------------------------------------------------------


def test_the_best_settings_are_found() -> None:
    """The thing is in the third box, which the detector gives 0.35; the whole photo looks like another thing."""
    known = [
        case(n, [(0.9, 0.3, False), (0.6, 0.35, False), (0.35, 0.7 + n / 1000, True)], (0.8, False)) for n in range(40)
    ]
    found = calibrate_cases([*known, *unknown_cases(20)], PRESENT, 0.1)
    assert (found.before_figures.recall, found.after_figures.recall) == (0.0, 1.0)
    assert found.after_figures.false_accepts == 0.1, "2 of 20, as wanted"
    after = found.after
    assert after.whole_image == "fallback", (
        "two steps from always; one, and the whole photo would win; never is as good"
    )
    assert after.max_det_results == 3, "two is too few, more would be farther away"
    assert after.threshold == 0.3, "the nearest to 0.5 that lets 0.35 pass"
    assert after.score_thres == pytest.approx((0.37 + 0.38) / 2), "unknown: 0.39 and 0.38 may be named, 0.37 not"
    assert found.simulated == 4 * 3 * 6, "boxes 1, 2, 3"
    assert found.searched == ("whole_image", "max_det_results", "threshold")
    assert found.cross_validation is not None
    assert (found.cross_validation.folds, found.cross_validation.same) == (5, 5)
    assert found.cross_validation.figures.recall == 1.0
    assert found.warnings == ()


def test_folds_that_choose_otherwise_are_told() -> None:
    """One of 11 unknown may be named, the one at 0.75, and so those at 0.7 in the second box are recalled.

    Without a fold there are 8 or 9, of which none may: only the fold that holds the one at 0.75 chooses the same.
    """
    known = [case(n, [(0.9, 0.6, False), (0.8, 0.7, True)], (0.1, False)) for n in range(12)]
    scores = [0.75, 0.65, *[0.5] * 9]
    unknown = [case(100 + 2 * n, [(0.9, one, False)], (0.1, False), known=False) for n, one in enumerate(scores)]
    found = calibrate_cases([*known, *unknown], replace(PRESENT, threshold=0.3), 0.1)
    assert (found.after.max_det_results, found.after_figures) == (2, Figures(1.0, 1 / 11))
    assert found.cross_validation is not None
    assert (found.cross_validation.folds, found.cross_validation.same) == (5, 1)
    assert warned(found, "1 of 5 cross-validation folds chose these settings")


@pytest.mark.parametrize(("right", "moved"), [(30, False), (32, False), (40, True)])
def test_what_may_be_noise_changes_nothing(right: int, moved: bool) -> None:
    """With one box 30 of 40 are right, with two boxes `right`; a standard error is 0.06 at 32 of 40."""
    known = [case(n, [(0.9, 0.6, n < 30), (0.8, 0.7, n < right)], (0.1, False)) for n in range(40)]
    present = replace(PRESENT, threshold=0.3)
    found = calibrate_cases([*known, *unknown_cases(20)], present, 0.1)
    assert found.after.max_det_results == (2 if moved else 1)
    assert replace(found.after, max_det_results=1, score_thres=0.5) == present
    if not moved:
        assert found.before_at_rate == found.after_figures


@pytest.mark.parametrize(("dist_type", "before", "after"), [("L2", 1.0, 0.375), ("hamming", 50, 37)])
def test_distances(dist_type: str, before: float, after: float) -> None:
    """Known at 0.2 (20 bits), unknown from 0.35 (35 bits) on; one of ten may be named."""
    scale = 1 if dist_type == "L2" else 100
    known = [case(n, [], (-0.2 * scale, True)) for n in range(10)]
    unknown = [case(50 + n, [], ((-0.35 - 0.05 * n) * scale, False), known=False) for n in range(10)]
    present = replace(PRESENT, dist_type=dist_type, score_thres=1.0, hamming_radius=50)
    found = calibrate_cases([*known, *unknown], present, 0.1)
    key = "IndexProcess.score_thres" if dist_type == "L2" else "IndexProcess.hamming_radius"
    assert found.values == {key: (before, after)}
    assert (found.after_figures.recall, found.after_figures.false_accepts) == (1.0, 0.1)
    assert isinstance(found.values[key][1], float if dist_type == "L2" else int)
    low, high = found.threshold_interval
    assert 0.2 * scale <= low <= after <= high
    assert found.to_dict()["intervals"]["threshold"] == [round(low, 6), round(high, 6)]


def test_hidden_labels_where_no_query_is_unknown() -> None:
    """Each known query scores 0.3 less when its label is hidden: 0.4 .. 0.499 against 0.7 .. 0.799."""
    found = calibrate_cases([case(n, [], (0.7 + n / 1000, True)) for n in range(100)], PRESENT, 0.05)
    assert (found.unknown_kind, found.known, found.unknown) == ("hidden labels", 100, 100)
    assert found.after.score_thres == pytest.approx(0.4945, abs=0.0005)
    assert (found.after_figures.recall, found.after_figures.false_accepts) == (1.0, 0.05)
    assert "asked again with its label hidden" in found.warnings[0]


def test_folds_never_part_a_photo_or_an_unknown_label() -> None:
    known = [case(n, [], (0.5 + n / 100, True)) for n in range(9)]
    twins = [replace(one, query=replace(one.query, label="other")) for one in known]
    task = Task.of([*known, *twins, *unknown_cases(12)], [PRESENT], PRESENT, 0.2)
    assert task.known_groups.tolist() == [*range(9)] * 2, "by photo"
    pairs = task.unknown_groups.reshape(6, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all(), "by label"
    assert len(np.unique(pairs)) == 6


def test_cross_validation_tells_what_other_queries_would_get() -> None:
    """Normal scores: on the queries that chose the threshold the rate is kept to the letter, on others it is not."""
    random = np.random.default_rng(3)
    rates = []
    for _ in range(40):
        known = [case(n, [], (float(score), True)) for n, score in enumerate(random.normal(0.5, 0.1, 20))]
        unknown = [
            case(100 + 2 * n, [], (float(score), False), known=False)
            for n, score in enumerate(random.normal(0.2, 0.1, 20))
        ]
        task = Task.of([*known, *unknown], [PRESENT], PRESENT, 0.1)
        crossed = cross_validate(task, 0)
        assert crossed is not None
        rates.append(crossed.figures.false_accepts)
    # 16 unknown choose: one of them may be named, the second nearest may not, above which 2 of 17 others fall on
    # average; the threshold lies half a step above it, and so between 1 and 2 of 17.
    assert 1 / 17 < float(np.mean(rates)) < 2 / 17 + 0.01


# --- warnings and errors ---------------------------------------------------------------------------------------


def warned(found: Calibration, words: str) -> bool:
    return any(words in warning for warning in found.warnings)


def test_warnings() -> None:
    known = [case(n, [], (0.7, True)) for n in range(10)]
    found = calibrate_cases([*known, *unknown_cases(30)], PRESENT, 0.01)
    assert warned(found, "30 unknown queries cannot tell a false-accept rate of 0.01: at least 100 are needed")
    assert not warned(calibrate_cases([*known, *unknown_cases(20)], PRESENT, 0.05), "cannot tell")
    assert warned(calibrate_cases([*known, *unknown_cases(30)], PRESENT, 0), "95 % confidence it is below 0.1")
    assert warned(calibrate_cases([*known, *unknown_cases(2)], PRESENT, 0.5), "no cross-validation")
    same = [case(500 + 2 * n, [], (1.0, False), known=False) for n in range(4)]
    found = calibrate_cases([*known, *same], PRESENT, 0.25)
    assert warned(found, "cannot be reached: some unknown queries equal a gallery image")
    assert (found.after.score_thres, found.after_figures.false_accepts) == (1.0, 1.0)
    wrong = [case(n, [], (0.7, False)) for n in range(10)]
    assert warned(
        calibrate_cases([*wrong, *unknown_cases(20)], PRESENT, 0.1), "no known query is named rightly at this rate"
    )


def test_errors() -> None:
    with pytest.raises(UsageError, match="no query has a label of the gallery"):
        calibrate_cases(unknown_cases(3), PRESENT, 0.1)
    alone = [replace(case(n, [], (0.7, True)), hidden=np.array([-math.inf])) for n in range(3)]
    with pytest.raises(UsageError, match="the gallery has a single label"):
        calibrate_cases(alone, PRESENT, 0.1)
    nothing = [replace(one, scores=np.array([-math.inf])) for one in alone]
    with pytest.raises(UsageError, match="nothing was found in any query"):
        calibrate_cases(nothing, PRESENT, 0.1)
