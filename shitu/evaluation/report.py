"""The evaluation as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import os
from pathlib import Path
from string import Template

from shitu.errors import ShituError, UsageError
from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.report_figures import facts, figures, open_set, threshold
from shitu.evaluation.report_markup import Markup, element, join, name_of, text
from shitu.evaluation.report_mistakes import KINDS, Cards, GalleryPictures, choose_worst
from shitu.evaluation.report_tables import confusions, full_json, per_class

_TEMPLATE = Path(__file__).with_name("report.html")


def check_report_path(path: Path) -> None:
    """UsageError where no report can be written: to be told before hours of work, not after."""
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder; wanted the name of the HTML file to write, such as {path / 'report.html'}"
        )
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: a report is a web page; wanted a name that ends in .html")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} is not there; make it, or name another place")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: no permission to write into {path.parent}; name another place")


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    worst: int = 24,
    image_root: str | None = None,
    delimiter: str = "\t",
    command: str = "",
    date: str = "",
    detector_model: str = "",
) -> None:
    """Write the report, whole or not at all; equal input gives equal bytes.

    `worst` mistakes are shown as pictures. `image_root` and `delimiter` are those of IndexProcess, `command` what to
    type for the same again; `date` and `detector_model`, a name or folder, stand below the title.
    Raises UsageError, ShituError (full disk).
    """
    check_report_path(path)
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=text(evaluation.gallery["path"]),
        title=name_of(evaluation.gallery["path"], "path"),
        facts=facts(evaluation, date, detector_model),
        figures=figures(evaluation),
        threshold=threshold(evaluation),
        open_set=open_set(evaluation),
        mistakes=_mistakes(evaluation, worst, image_root, delimiter),
        confusions=confusions(evaluation),
        per_class=per_class(evaluation),
        command=_command(command),
        json=full_json(evaluation),
    )
    _write(path, page)


def _write(path: Path, page: str) -> None:
    unfinished = path.with_name(f".shitu-{os.getpid()}.tmp")
    try:
        unfinished.write_text(page, encoding="utf-8", newline="\n")
        os.replace(unfinished, path)
    except OSError as error:
        raise ShituError(f"{path}: cannot write the report: {error.strerror}; check space and permissions") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _mistakes(evaluation: Evaluation, worst: int, image_root: str | None, delimiter: str) -> Markup:
    chosen = choose_worst(evaluation.answers, evaluation.settings, worst)
    gallery = GalleryPictures(evaluation.gallery["path"], image_root, delimiter)
    try:
        cards = Cards(gallery, evaluation.settings)
        sections = [
            join(
                element("h3", heading),
                element("p", meaning, class_="note"),
                *(cards.card(kind, answer) for answer in chosen[kind]),
            )
            for kind, heading, meaning in KINDS
            if chosen[kind]
        ]
    finally:
        gallery.close()
    return join(*sections) if sections else element("p", "There is none: every query was named as it should be.")


def _command(command: str) -> Markup:
    if not command:
        return Markup()
    return element("section", element("h2", "The same again"), element("pre", command))
