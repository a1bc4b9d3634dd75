"""The report's numbers in words, plots and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.report_markup import Markup, element, join, name_of
from shitu.evaluation.report_plots import Mark, histogram, open_set_plot, shares_bar
from shitu.evaluation.report_tables import percent, table

_DETECTOR = {
    "on": "as the config says",
    "off": "not used: whole photos were recognised",
    "given": "not used: the boxes of the query list were cut out",
}


def facts(evaluation: Evaluation, date: str, detector_model: str) -> Markup:
    """What was evaluated."""
    gallery = evaluation.gallery
    rows: list[tuple[str, object]] = [
        ("Queries", f"{evaluation.queries}: {evaluation.known} whose label the gallery has, {evaluation.unknown} of "
                    "something unknown to it"),
        ("Gallery", f"{gallery['entries']} entries, {gallery['labels']} labels"),
        ("Model", name_of(gallery["model"] or "unknown", "path")),
        ("Config", name_of(evaluation.config_source, "path")),
        ("Detector", name_of(detector_model, "path") if detector_model and evaluation.detector == "on"
                     else _DETECTOR[evaluation.detector]),
    ]  # fmt: skip
    if date:
        rows.append(("Date", date))
    listed = element("dl", *(join(element("dt", name), element("dd", value)) for name, value in rows), class_="facts")
    return join(listed, *(element("p", warning, class_="warning") for warning in _warnings(evaluation)))


def _warnings(evaluation: Evaluation) -> list[str]:
    found = []
    if evaluation.failed:
        found.append(f"{evaluation.failed} photos could not be read; they are in none of the figures.")
    if evaluation.in_gallery and evaluation.leave_one_out:
        found.append(f"{evaluation.in_gallery} query photos lie in the gallery; each was left out of its own answer.")
    elif evaluation.in_gallery:
        found.append(
            f"{evaluation.in_gallery} query photos lie in the gallery themselves and find themselves: the figures are "
            "better than with new photos. --leave-one-out leaves them out."
        )
    return found


def figures(evaluation: Evaluation) -> Markup:
    """The main figures with one sentence each."""
    low, high = evaluation.recall_interval
    cards = [
        _figure("Recall@1", percent(evaluation.recall.get(1)), "the nearest gallery picture shows the right thing",
                f"95\u00a0% interval {percent(low)} to {percent(high)}"),
        *(_figure(f"Recall@{k}", percent(recall), f"the right thing is among the {k} nearest gallery pictures")
          for k, recall in sorted(evaluation.recall.items()) if k > 1),
        _figure("mAP", percent(evaluation.mean_average_precision),
                "how early all gallery pictures of the right thing come (mean average precision)"
                if evaluation.mean_average_precision is not None else "not computed for this gallery; --map does it"),
        _figure("Not found", f"{evaluation.not_found}", "known things for which no region of the photo counted"),
    ]  # fmt: skip
    note = f"Shares of the {evaluation.known} queries whose label the gallery has, whatever the threshold."
    return element(
        "section",
        element("h2", "How often is it right?"),
        element("p", note, class_="note"),
        element("div", *cards, class_="figures"),
    )


def threshold(evaluation: Evaluation) -> Markup:
    """What a user of the config as it is would see."""
    at = evaluation.at_threshold
    known = [
        ("named rightly", "right", at.named_right),
        ("named wrongly", "wrong", at.named_wrong),
        ("not named", "nothing", at.not_named),
    ]
    bars = [_shares("Known things", evaluation.known, known)]
    found = evaluation.open_set
    if found is not None and at.unknown_named is not None:
        unknown = [
            ("named though unknown", "wrong", at.unknown_named),
            ("rightly not named", "nothing", 1 - at.unknown_named),
        ]
        title = "Unknown things" if found.kind == "listed" else "The same things, their own label hidden"
        bars.append(_shares(title, found.unknown, unknown))
    note = "What the config as it is answers: a thing is named when its score reaches the threshold."
    quantity = evaluation.settings.measure.score_name
    return element(
        "section",
        element("h2", f"At the config’s threshold: {quantity} {at.threshold:g}"),
        element("p", note, class_="note"),
        element("div", *bars, class_="bars"),
    )


def _shares(title: str, queries: int, shares: Sequence[tuple[str, str, float]]) -> Markup:
    words = [(f"{name} {percent(share)} ({round(share * queries)})", kind) for name, kind, share in shares]
    key = element("ul", *(element("li", each, class_=kind) for each, kind in words), class_="key")
    return element("div", element("b", f"{title} ({queries})"), shares_bar(shares, title), key)


def _figure(name: str, value: str, meaning: str, interval: str | None = None) -> Markup:
    return element(
        "div",
        element("div", name, class_="name"),
        element("div", value, class_="value"),
        None if interval is None else element("div", interval, class_="interval"),
        element("p", meaning),
        class_="figure",
    )


def open_set(evaluation: Evaluation) -> Markup:
    """How well scores tell known from unknown things; nothing without unknown queries."""
    found = evaluation.open_set
    if found is None:
        return Markup()
    low, high = found.auroc_interval
    cards = [
        _figure("AUROC", f"{found.auroc:.3f}", "how often a known query scores above an unknown one (0.5: by chance)",
                f"95\u00a0% interval {low:.3f} to {high:.3f}"),
        _figure("FPR95", percent(found.fpr95), "of the unknown things are named at the threshold that names "
                "95\u00a0% of the known ones"),
    ]  # fmt: skip
    kind = (
        "The unknown things are the queries whose label the gallery does not have."
        if found.kind == "listed"
        else "The query list has no unknown things, so every query was asked again with its own label hidden from the "
        "gallery: what it then finds is an unknown thing’s score."
    )
    curve, scores = _curve(evaluation), _histogram(evaluation)
    return element(
        "section",
        element("h2", "Known or unknown?"),
        element("p", kind, class_="note"),
        element("div", *cards, class_="figures"),
        element("div", curve, scores, class_="plots"),
        _recall_at(evaluation),
    )


def _recall_at(evaluation: Evaluation) -> Markup:
    """The table that helps to choose a threshold."""
    assert evaluation.open_set is not None
    sign = evaluation.settings.sign
    rows = [
        (percent(at.false_accept_rate), _native(at.threshold, sign), percent(at.recall), _range(at.low, at.high))
        for at in evaluation.open_set.recall_at
    ]
    note = "shitu calibrate chooses the threshold for a share of unknown things that you allow."
    body = table(("Unknown named, at most", "Threshold", "Known named rightly", "95\u00a0% interval"), rows, texts=1)
    return join(element("h3", "Thresholds to choose from"), body, element("p", note, class_="note"))


def _curve(evaluation: Evaluation) -> Markup:
    found, at, sign = evaluation.open_set, evaluation.at_threshold, evaluation.settings.sign
    assert found is not None
    marks = [
        Mark(one.false_accept_rate, one.recall, f"threshold {_native(one.threshold, sign)}: at most "
             f"{percent(one.false_accept_rate)} of the unknown named, {percent(one.recall)} of the known named rightly")
        for one in found.recall_at
    ]  # fmt: skip
    if at.unknown_named is not None:
        title = f"this config: {percent(at.unknown_named)} of the unknown named, {percent(at.named_right)} of the known"
        marks.append(Mark(at.unknown_named, at.named_right, title + " named rightly", configured=True))
    plot = open_set_plot(found.curve.false_accept_rate.tolist(), found.curve.recall.tolist(), marks, found.unknown)
    words = (
        "Known things named rightly (upwards) against unknown things named, for every threshold. High and left is good."
    )
    return element("figure", plot, element("figcaption", words))


def _histogram(evaluation: Evaluation) -> Markup:
    groups = [
        ("right", "right", evaluation.known_scores),
        ("wrong", "wrong", evaluation.wrong_scores),
        ("unknown", "unknown", evaluation.unknown_scores),
    ]
    settings = evaluation.settings
    threshold = settings.sign * evaluation.at_threshold.threshold
    plot = histogram(groups, threshold, settings.sign, settings.measure.score_name)
    words = "How many queries had which score. A threshold is good where right lies beyond it and unknown before it."
    return element("figure", plot, element("figcaption", words))


def _range(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def _native(threshold: float, sign: float) -> str:
    return f"{sign * threshold:.4g}" if np.isfinite(threshold) else "none"
