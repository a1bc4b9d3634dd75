"""`shitu evaluate`: queries with known answers -> figures of the whole pipeline with one config."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.config import Config
from shitu.errors import ShituError, UsageError
from shitu.evaluation.figures import (
    MOST_ENTRIES,
    RECALL_AT,
    AtThreshold,
    ClassFigures,
    Confusion,
    Precision,
    at_threshold,
    confusions,
    hit,
    per_class,
    share,
)
from shitu.evaluation.observe import DetectorUse, Observer
from shitu.evaluation.open_set import Interval, OpenSet, mean_interval, measure_open_set
from shitu.evaluation.queries import Query
from shitu.evaluation.settings import Answer, Settings, answer
from shitu.recognise.from_config import Parts

log = logging.getLogger(__name__)
Scores = NDArray[np.float64]
DIGITS = 6


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation; what each means: docs/evaluation.md.

    `queries` = `known` + `unknown` + `failed`; the failed are in none of the figures. `recall`: by k, of the known.
    Scores in arrays and in `open_set` are such that the greater is nearer; `to_dict` has the gallery's own.
    `known_scores`: of known queries named rightly, `wrong_scores` wrongly; `unknown_scores`: of unknown ones, or of the
    known with their labels hidden; without those that have no answer.
    """

    config_source: str
    detector: str
    leave_one_out: bool
    settings: Settings
    gallery: dict[str, Any]  # path, entries, labels, model
    queries: int
    known: int
    unknown: int
    failed: int
    not_found: int
    in_gallery: int
    recall: dict[int, float]
    recall_interval: Interval
    mean_average_precision: float | None
    at_threshold: AtThreshold
    open_set: OpenSet | None
    per_class: tuple[ClassFigures, ...]
    confusions: tuple[Confusion, ...]
    known_scores: Scores
    wrong_scores: Scores
    unknown_scores: Scores
    answers: tuple[Answer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without answers and scores; numbers to 6 digits."""
        told = (one.name for one in fields(self) if one.name != "answers" and not one.name.endswith("_scores"))
        record = {name: getattr(self, name) for name in told}
        record["open_set"] = None if self.open_set is None else _open_set_record(self.open_set, self.settings.sign)
        return {"config": record.pop("config_source"), **_ready(record)}


def evaluate(
    config: Config,
    queries: Sequence[Query],
    *,
    detector: DetectorUse = "on",
    leave_one_out: bool = False,
    false_accepts: Sequence[float] = (0.01, 0.1),
    with_map: bool | None = None,
    progress: Callable[[int], object] = lambda count: None,
    parts: Callable[[Config], Parts] | None = None,
) -> Evaluation:
    """Ask the pipeline every query and count.

    with_map: None for galleries of up to MOST_ENTRIES. progress: called with the number of queries done. parts: as for
    Observer.
    Raises what SystemPredictor raises; UsageError where no query's label is in the gallery; ShituError where every
    query that could be right failed. One photo that fails is logged and counted.
    """
    observer = Observer(
        config, detector=detector, leave_one_out=leave_one_out, depth=max(RECALL_AT), widen=False, parts=parts
    )
    check_labels(observer, queries)
    warn_of_crowds(queries)
    settings = Settings.from_config(observer.config)
    precision = _precision(observer, with_map)
    answers: list[Answer] = []
    for seen in observer.observe(queries, progress):
        if seen.error is not None and (not answers or answers[-1].error != seen.error):
            log.error("Failed: %s", seen.error)
        answers.append(answer(seen, settings))
        if precision is not None and seen.known and seen.error is None:
            precision.add(seen, answers[-1])
    return _evaluation(observer, settings, answers, precision.finish() if precision else None, false_accepts)


def check_labels(observer: Observer, queries: Iterable[Query]) -> None:
    """Before hours of work: UsageError where the gallery knows none of the labels."""
    labels = list(dict.fromkeys(query.label for query in queries))
    if any(observer.count(label) for label in labels):
        return
    there = next(observer.gallery.items(), None)
    has = f"; the gallery {observer.gallery.url} has, for example, {there.label!r}" if there else ", which is empty"
    shown = ", ".join(map(repr, labels[:3]))
    raise UsageError(
        f"none of the {len(labels)} labels of the queries is in the gallery (wanted, for example: {shown}){has}. "
        "Labels must be spelled alike, and the list have the delimiter of IndexProcess.delimiter"
    )


def warn_of_crowds(queries: Iterable[Query]) -> None:
    """Where several labels are asked of one photo, and nothing says which region is meant."""
    labels: dict[str, set[str]] = {}
    for query in queries:
        if query.box is None:
            labels.setdefault(query.path, set()).add(query.label)
    crowds = sum(len(found) > 1 for found in labels.values())
    if crowds:
        log.warning(
            f"Photos listed with several labels and no boxes: {crowds:,}. Of each only the region nearest to the "
            "gallery answers, so one label at most can be right; add <TAB>x1,y1,x2,y2 to the lines"
        )


def _precision(observer: Observer, wanted: bool | None) -> Precision | None:
    entries = len(observer.gallery)
    if wanted is None and entries > MOST_ENTRIES:
        log.info(f"mAP is left out for a gallery of {entries:,} entries; --map works it out all the same.")
    return Precision(observer.gallery) if wanted or (wanted is None and entries <= MOST_ENTRIES) else None


def _evaluation(
    observer: Observer,
    settings: Settings,
    answers: Sequence[Answer],
    precisions: Sequence[float] | None,
    false_accepts: Sequence[float],
) -> Evaluation:
    asked = [one for one in answers if one.error is None]
    known = [one for one in asked if one.known]
    if not known:
        reason = f"without the {len(answers):,} queries' own images the gallery has none of their labels"
        if len(asked) < len(answers):
            reason = "every query with a label of the gallery failed"
        raise ShituError(f"{reason}; there is nothing to count. List other photos")
    in_gallery = sum(one.in_gallery for one in asked)
    if in_gallery and not observer.leave_one_out:
        log.warning(
            f"{in_gallery:,} of {len(asked):,} queries are images of the gallery and find themselves; "
            "--leave-one-out takes them out of their own answers"
        )
    unknown = [one for one in asked if not one.known]
    others = _scores(one.score for one in unknown) if unknown else _scores(one.hidden_score for one in known)
    scores, right = _scores(one.score for one in known), np.array([one.right for one in known])
    info = observer.gallery.info()
    alone = not unknown and info["labels"] < 2  # hiding the only label leaves nothing to be mistaken for
    if alone:
        log.warning("The gallery has a single label and the list no unknown query; open-set figures are left out.")
    return Evaluation(
        config_source=observer.config.source,
        detector=observer.detector,
        leave_one_out=observer.leave_one_out,
        settings=settings,
        gallery={**{key: info[key] for key in ("path", "entries", "labels")}, "model": info["model_name"]},
        queries=len(answers),
        known=len(known),
        unknown=len(unknown),
        failed=len(answers) - len(asked),
        not_found=sum(not one.regions for one in known),
        in_gallery=in_gallery,
        recall={k: share(known, lambda one, k=k: hit(one, k)) for k in RECALL_AT},  # type: ignore[misc]
        recall_interval=mean_interval(np.array([hit(one, 1) for one in known])),
        mean_average_precision=None if precisions is None else sum(precisions) / len(precisions),
        per_class=per_class(
            known, precisions, settings, {one.query.label: observer.count(one.query.label) for one in known}
        ),
        confusions=confusions(known),
        at_threshold=at_threshold(known, others.tolist(), settings),
        open_set=None
        if alone
        else measure_open_set(scores, right, others, hidden=not unknown, false_accepts=false_accepts),
        known_scores=scores[right & np.isfinite(scores)],
        wrong_scores=scores[~right & np.isfinite(scores)],
        unknown_scores=others[np.isfinite(others)],
        answers=tuple(answers),
    )


def _scores(values: Iterable[float]) -> Scores:
    return np.array(list(values), np.float64)


def _open_set_record(found: OpenSet, sign: float) -> dict[str, Any]:
    """With thresholds in the gallery's own scores."""
    record, curve = asdict(found), found.curve._replace(threshold=sign * found.curve.threshold)
    return {
        "unknown": record.pop("kind"),
        "known_queries": record.pop("known"),
        "unknown_queries": record.pop("unknown"),
        **record,
        "recall_at": [{**one._asdict(), "threshold": sign * one.threshold} for one in found.recall_at],
        "curve": {name: values.tolist() for name, values in curve._asdict().items()},
    }


def _ready(value: Any) -> Any:
    """Ready for JSON, which has no infinity: a threshold that nothing reaches is null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): _ready(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_ready(each) for each in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
