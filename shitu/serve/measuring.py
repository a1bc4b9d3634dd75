"""Jobs that measure a gallery: evaluate and calibrate, on photos that were sent, reviewed, or taught."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from shitu.build.list_file import Entry
from shitu.errors import UsageError
from shitu.evaluation.calibrate import calibrate
from shitu.evaluation.evaluate import evaluate
from shitu.evaluation.observe import DetectorUse
from shitu.evaluation.queries import Query, box_of
from shitu.evaluation.report import write_report
from shitu.serve.galleries import Served
from shitu.serve.jobs import Job
from shitu.serve.schema_jobs import JobIn
from shitu.serve.service import Service

MOST_OWN = 2000  # of the gallery's own pictures, spread evenly
log = logging.getLogger("shitu")


def queries_of(entries: Sequence[Entry]) -> list[Query]:
    """Of a list; its third column is a box. Raises ConfigError."""
    return [
        Query(one.image, one.path, one.label, box_of("".join(one.more[:1]), f"line {one.line} of the list"), one.line)
        for one in entries
    ]


def own_queries(gallery: Served) -> list[Query]:
    """The pictures that the gallery was made of, each with the box of its entry. Raises UsageError."""
    reader, made = gallery.reader(), []
    step = max(1, len(reader) // MOST_OWN)
    for place, item in enumerate(reader.items()):
        if place % step == 0 and (found := gallery.photos.find(item)):
            made.append(Query(item.image, str(found[0]), item.label, item.box, item.id))
    if not made:
        raise UsageError(
            f"the pictures of the gallery {gallery.name} are not where they were; send photos with their labels"
        )
    return made


def measured(service: Service, gallery: Served, asked: JobIn, queries: Sequence[Query], job: Job) -> dict[str, Any]:
    """Pictures of the gallery's own are asked without what was made of them, and by the boxes of their entries."""
    own = asked.list == "gallery" and job.folder is None
    detector: DetectorUse = "given" if own else "on"
    job.total = len(queries)
    names = {query.path: query.image for query in queries}
    given: dict[str, Any] = {"detector": detector, "leave_one_out": own, "progress": job.progress}
    given["parts"] = service.networks.parts
    if asked.kind == "calibrate":
        found = calibrate(gallery.config, queries, false_accept=asked.false_accept, **given)
        told = found.to_dict()
    else:
        evaluated = evaluate(gallery.config, queries, **given)
        told = evaluated.to_dict()
        told["gallery"]["path"] = gallery.name
        page = service.reports / f"{job.id}.html"
        write_report(evaluated, page, date=date.today().isoformat())
        config = gallery.config.source
        _without_paths(page, {**names, **service.galleries.folders(), config: Path(config).name})
        told["report"] = f"/v1/jobs/{job.id}/report"
    return dict(service.told_all(told, names))


def _without_paths(page: Path, names: dict[str, str]) -> None:
    text = page.read_text(encoding="utf-8")
    for path in sorted(names, key=len, reverse=True):
        if path:
            text = text.replace(escape(path), escape(names[path]))
    page.write_text(text, encoding="utf-8")
