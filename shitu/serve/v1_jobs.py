"""Routes of long work, of exports, and of what is to be looked through."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from shitu.serve import job_work, measuring, schema_jobs
from shitu.serve.archive import LIST_SUFFIXES, Sent, entries_of, unpack_zip
from shitu.serve.common import TheGallery, TheService, errors, who
from shitu.serve.export import zipped
from shitu.serve.galleries import Served
from shitu.serve.incoming import clean, is_form, json_of, validated
from shitu.serve.jobs import Job
from shitu.serve.problems import HttpError
from shitu.serve.service import Service

router = APIRouter(prefix="/v1", tags=["jobs"])
REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MOST_FILES = 200  # of which each may have a megabyte in memory; more come as a zip, which lies on disk
Sending = tuple[list[Sent], list[str]]


@router.post(
    "/galleries/{gallery}/jobs",
    status_code=202,
    response_model=schema_jobs.JobStarted,
    responses=errors(400, 404, 409, 413, 415, 422, 503, 507),
    openapi_extra=schema_jobs.JOB_BODY,
)
async def start(request: Request, service: TheService, gallery: TheGallery) -> Any:
    """Start long work. `import`, and `evaluate` or `calibrate` on new photos, bring files: pictures, or a zip of them.

    What they show is said by `label` for all, by a list (path, TAB, label, and for measuring if wanted TAB and a box),
    else by the folders of the zip.
    """
    if not is_form(request):
        asked = await json_of(request, schema_jobs.JobIn, 1 << 20)
        job = Job(asked.kind, gallery.name, _work(service, gallery, asked, ([], [])), by=who(request))
        return {"job": service.jobs.start(job).to_dict()}
    async with request.form(max_files=MOST_FILES, max_fields=10, max_part_size=4 << 20) as form:
        asked = _fields(form)
        folder = await run_sync(_new_folder, service)
        try:
            sending = await run_sync(_received, form, folder)
            job = Job(asked.kind, gallery.name, _work(service, gallery, asked, sending), folder, who(request))
            return {"job": service.jobs.start(job).to_dict()}
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _fields(form: FormData) -> schema_jobs.JobIn:
    given = {key: value for key, value in form.items() if isinstance(value, str) and key != "list"}
    return validated(lambda: schema_jobs.JobIn.model_validate(given))


def _new_folder(service: Service) -> Path:
    service.settings.root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".job-", dir=service.settings.root))


def _received(form: FormData, folder: Path) -> Sending:
    """The pictures of the request on disk, and the texts of its lists. Raises HttpError, UsageError."""
    sent: list[Sent] = []
    lists = [text for text in form.getlist("list") if isinstance(text, str) and text.strip()]
    for part in (part for _, part in form.multi_items() if isinstance(part, UploadFile)):
        name = clean(part.filename or "", len(sent) + 1)
        part.file.seek(0)
        if name.lower().endswith(LIST_SUFFIXES):
            lists.append(part.file.read(64 << 20).decode("utf-8-sig", "replace"))
        elif part.file.read(4) == b"PK\x03\x04":
            part.file.seek(0)
            inside, more = unpack_zip(part.file, folder, len(sent))
            sent, lists = [*sent, *inside], [*lists, *more]
        else:
            part.file.seek(0)
            path = folder / f"{len(sent):06d}"
            with path.open("xb") as file:
                shutil.copyfileobj(part.file, file)
            sent.append(Sent(name, path))
    if not sent:
        raise HttpError(422, "no_picture", "no picture came: wanted are parts `files` with pictures, or a zip of them")
    return sent, lists


def _work(service: Service, gallery: Served, asked: schema_jobs.JobIn, sending: Sending) -> Callable[[Job], Any]:
    """What the job does. Raises HttpError 422 where something is missing for it, UsageError for a wrong list."""
    kind, (sent, lists) = asked.kind, sending
    delimiter = gallery.config.IndexProcess.delimiter
    entries = entries_of(sent, lists, asked.label or "", delimiter) if sent else []
    if kind == "import" and not entries:
        raise HttpError(422, "no_picture", "an import takes files: multipart/form-data with `kind` and `files`")
    simple: dict[str, Callable[[Job], Any]] = {
        "import": lambda job: job_work.add_all(service, gallery, entries, job),
        "compact": lambda job: job_work.compact(service, gallery, job),
        "verify": lambda job: job_work.verify(service, gallery, job),
        "doubtful": lambda job: job_work.doubtful(gallery, job),
        "map": lambda job: job_work.spots(gallery, asked.most, job),
    }
    if kind in simple:
        return simple[kind]
    own = not entries and asked.list != "review"

    def measure(job: Job) -> Any:
        if own:
            queries = measuring.own_queries(gallery)
        elif asked.list == "review":
            queries = service.review.queries(gallery.name)
        else:
            queries = measuring.queries_of(entries)
        if not queries:
            raise HttpError(409, "nothing_reviewed", "no photo has been judged right or named yet")
        return measuring.measured(service, gallery, asked, queries, job)

    return measure


@router.get("/jobs", response_model=schema_jobs.Jobs, responses=errors())
async def listed(service: TheService) -> Any:
    return {"jobs": [job.to_dict() for job in reversed(service.jobs.all())]}


@router.get("/jobs/{job}", response_model=schema_jobs.JobOut, responses=errors(404, 422))
async def one(service: TheService, job: str) -> Any:
    return service.jobs.get(job).to_dict()


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses=errors(404, 422) | {200: {"content": {"text/event-stream": {}}, "description": "The job, as it goes on"}},
)
async def events(service: TheService, job: str) -> StreamingResponse:
    """Server-sent events, `event: job` with the job as JSON, to its end."""
    found = service.jobs.get(job)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(service.jobs.events(found), media_type="text/event-stream", headers=headers)


@router.delete("/jobs/{job}", response_model=schema_jobs.JobOut, responses=errors(404, 422))
async def cancel(service: TheService, job: str) -> Any:
    """Call it off; one that has ended stays as it is."""
    found = service.jobs.get(job)
    found.cancel.set()
    return found.to_dict()


@router.get(
    "/jobs/{job}/report",
    response_class=FileResponse,
    responses=errors(404, 422) | {200: {"content": {"text/html": {}}, "description": "A page"}},
)
async def report(service: TheService, job: str) -> FileResponse:
    """The page of an evaluation, with the worst mistakes as pictures."""
    path = service.reports / f"{service.jobs.get(job).id}.html"
    if not path.is_file():
        raise HttpError(404, "no_report", "this job has made no report")
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get(
    "/galleries/{gallery}/export",
    tags=["galleries"],
    response_class=StreamingResponse,
    responses=errors(404, 409, 422) | {200: {"content": {"application/zip": {}}, "description": "A zip"}},
)
def export(service: TheService, gallery: TheGallery) -> StreamingResponse:
    """The gallery as it is now, with the photos that taught it; unpacked, it is a gallery for every command."""
    from urllib.parse import quote

    name = quote(f"{gallery.name}.zip")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(zipped(gallery, service.settings.root), media_type="application/zip", headers=headers)
