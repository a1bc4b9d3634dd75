"""The report's tables, and the figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.figures import ClassFigures
from shitu.evaluation.report_markup import Markup, element, join, name_of
from shitu.evaluation.report_plots import share_bar

MANY_ROWS = 30  # longer tables are closed at first
MOST_CLASSES = 2000  # rows of the table; the JSON has all
MOST_CONFUSIONS = 100
MOST_JSON = 1_000_000  # characters


def confusions(evaluation: Evaluation) -> Markup:
    """Which labels are taken for which."""
    if not evaluation.confusions:
        return Markup()
    rows = [
        (name_of(one.label), name_of(one.taken_for), str(one.count), percent(one.share))
        for one in evaluation.confusions[:MOST_CONFUSIONS]
    ]
    body = table(("Label", "Taken for", "Times", "Share of its queries"), rows, texts=2)
    return _section("What is taken for what?", "", body, len(rows), len(evaluation.confusions))


def per_class(evaluation: Evaluation) -> Markup:
    """Every label, the worst first."""
    rows = [_class_row(one) for one in evaluation.per_class[:MOST_CLASSES]]
    if not rows:
        return Markup()
    heads = ("Label", "Queries", "In the gallery", "Recall@1", "Recall@5", "AP", "Named rightly at the threshold")
    note = "The worst first. Few queries say little about a label."
    return _section("Label by label", note, table(heads, rows, texts=1), len(rows), len(evaluation.per_class))


def _class_row(one: ClassFigures) -> tuple[object, ...]:
    return (
        name_of(one.label),
        str(one.queries),
        str(one.gallery_entries),
        join(share_bar(one.recall1, "right"), percent(one.recall1)),
        percent(one.recall5),
        percent(one.ap),
        percent(one.named_right),
    )


def full_json(evaluation: Evaluation) -> Markup:
    """All figures as `shitu evaluate` prints them, unless they are megabytes."""
    written = json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=1)
    if len(written) > MOST_JSON:
        return element(
            "p", "The figures as JSON are too long for this page; shitu evaluate prints them.", class_="note"
        )
    return element("details", element("summary", "All figures as JSON"), element("pre", written), class_="json")


def _section(title: str, note: str, table: Markup, rows: int, of: int) -> Markup:
    """A table with its heading, closed at first where it is long."""
    left_out = element("p", f"The first {rows} of {of} rows; the JSON has all.", class_="note") if rows < of else None
    if rows > MANY_ROWS:
        table = element("details", element("summary", f"Show {rows} rows"), table)
    return element(
        "section", element("h2", title), element("p", note, class_="note") if note else None, table, left_out
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], texts: int) -> Markup:
    """`texts`: that many columns from the left hold words, the others numbers."""
    style = ["text" if column < texts else None for column in range(len(heads))]
    head = element("tr", *(element("th", name, class_=kind) for name, kind in zip(heads, style, strict=True)))
    body = [
        element("tr", *(element("td", cell, class_=kind) for cell, kind in zip(row, style, strict=True)))
        for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def percent(share: float | None) -> str:
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.1f}\u00a0%"
