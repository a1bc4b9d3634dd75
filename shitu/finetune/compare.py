"""Whether fine-tuning made it better, and the table and sentences that say so in the report."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shitu.evaluation.calibrate import Calibration
from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.report import Comparison
from shitu.evaluation.report_plots import percent
from shitu.evaluation.settings import Answer
from shitu.finetune.split import Lists

HEADS = {"before": "Bundled model", "after": "Fine-tuned"}


@dataclass(frozen=True)
class Unseen:
    """The things not trained on, each photo against all their others: metrics before, and after the best epoch."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    epoch: int

    @property
    def rose(self) -> bool:
        """By the first metric of the config, which chose the epoch."""
        name = next(iter(self.after))
        return self.after[name] > self.before[name]


def is_better(before: Evaluation, after: Evaluation) -> bool:
    """On the photos that were only asked: Recall@1, mAP or AUROC is greater, and none of them less."""
    pairs = list(zip(_judged(before), _judged(after), strict=True))
    return all(new >= old for old, new in pairs) and any(new > old for old, new in pairs)


def _judged(one: Evaluation) -> tuple[float, ...]:
    return one.recall[1], one.mean_average_precision or 0.0, one.open_set.auroc if one.open_set else 0.0


def compare(
    tried: Mapping[str, Evaluation], unseen: Unseen, lists: Lists, found: Calibration, *, better: bool
) -> Comparison:
    """`tried`: evaluations of "before" and, where there was reason to try it, "after"."""
    both = list(tried.values())
    rows = [("Recall@1, all things", *(_with_interval(one) for one in both))]
    for words, labels in (("not trained on", True), ("trained on, other photos", False)):
        chosen = [[each for each in one.answers if (each.query.label in lists.unseen) == labels] for one in both]
        rows.append((f"Recall@1, things {words} ({len(chosen[0])} photos)", *(_recall(each) for each in chosen)))
    rows.append(("mAP, all things", *(percent(one.mean_average_precision) for one in both)))
    if all(one.open_set for one in both):
        rows.append(("AUROC, known or unknown", *(f"{one.open_set.auroc:.3f}" for one in both if one.open_set)))
        for n, at in enumerate(both[0].open_set.recall_at if both[0].open_set else ()):
            words = f"Known named rightly where {percent(at.false_accept_rate)} of the unknown are named"
            rows.append((words, *(percent(one.open_set.recall_at[n].recall) for one in both if one.open_set)))
    return Comparison(tuple(HEADS[name] for name in tried), rows, tuple(_notes(tried, unseen, lists, found, better)))


def _notes(
    tried: Mapping[str, Evaluation], unseen: Unseen, lists: Lists, found: Calibration, better: bool
) -> list[str]:
    changes = ", ".join(
        f"{words} {percent(unseen.before[name])} before, {percent(unseen.after[name])} after"
        for name, words in (("mAP", "mAP"), ("recall1", "Recall@1"))
        if name in unseen.after
    )
    notes = [
        "Kept: the fine-tuned model."
        if better
        else "Not kept: fine-tuning did not make it better. All below, the "
        "gallery and the config are of the bundled model.",
        f"Trained on {lists.train_photos} photos of {lists.train_things} things. {len(lists.unseen)} other things "
        f"chose the epoch ({unseen.epoch}): {changes}, each photo against all their others.",
        "The table is of photos that were neither trained on nor chose; the gallery holds all others. Unknown: the "
        "same photos with their own label hidden. Kept is what loses neither Recall@1 nor mAP nor AUROC.",
    ]
    if "after" in tried:
        won, lost = _pairs(*(tried[name].answers for name in ("before", "after")))
        notes.append(
            f"Newly right: {won}, newly wrong: {lost} photos. A difference as great comes by chance in "
            f"{percent(_by_chance(won, lost))} of such comparisons."
        )
    notes.append(
        f"The thresholds were chosen by these photos, for {percent(found.false_accept)} of the unknown named, so what "
        "is below “At the config’s threshold” flatters"
        + (
            f"; cross-validated, {percent(found.cross_validation.figures.recall)} are named rightly and "
            f"{percent(found.cross_validation.figures.false_accepts)} of the unknown named."
            if found.cross_validation
            else "."
        )
    )
    return notes


def _recall(answers: Collection[Answer]) -> str:
    known = [one.right for one in answers if one.known and one.error is None]
    return percent(sum(known) / len(known)) if known else "–"


def _with_interval(one: Evaluation) -> str:
    low, high = one.recall_interval
    return f"{percent(one.recall[1])} ({percent(low)} to {percent(high)})"


def _pairs(before: Collection[Answer], after: Collection[Answer]) -> tuple[int, int]:
    """How many became right, and how many wrong."""
    pairs = [(one.right, other.right) for one, other in zip(before, after, strict=True)]
    return pairs.count((False, True)), pairs.count((True, False))


def _by_chance(won: int, lost: int) -> float:
    """The sign test, two-sided (McNemar's exact).

    >>> _by_chance(5, 0), _by_chance(3, 3)
    (0.0625, 1.0)
    """
    count = won + lost
    tail = sum(math.comb(count, k) for k in range(min(won, lost) + 1)) / 2**count
    return float(min(1.0, 2 * tail))
