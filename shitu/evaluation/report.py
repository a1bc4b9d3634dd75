"""The evaluation as one HTML file that needs nothing else: no network, no script, no font. Its words: report.html."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from shitu.errors import ShituError, UsageError
from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.report_mistakes import mistakes
from shitu.evaluation.report_plots import PAGES
from shitu.files import replace_file

MANY_ROWS = 30  # longer tables are closed at first
# Characters that neither HTML nor XML can hold; a half of a surrogate pair cannot even be written as UTF-8.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


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
    write_page(
        path,
        "report.html",
        e=evaluation,
        command=command,
        date=date,
        detector_model=detector_model,
        mistakes=mistakes(evaluation, worst, image_root, delimiter),
        json=json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=1),
        many_rows=MANY_ROWS,
    )


def write_page(path: Path, template: str, **what: Any) -> None:
    """Fill in a template beside this file, whole or not at all. Raises ShituError (full disk)."""
    page = PAGES.get_template(template).render(**what)
    try:
        replace_file(path, lambda file: file.write(_NOT_TEXT.sub("\ufffd", page).encode("utf-8")))
    except OSError as error:
        raise ShituError(f"{path}: cannot write the page: {error.strerror}; check space and permissions") from None
