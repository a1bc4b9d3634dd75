"""Routes of photos that were recognised with doubt: look through, judge, name."""

from __future__ import annotations

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from shitu.serve import schema, schema_jobs
from shitu.serve.common import TheService, errors
from shitu.serve.pictures import thumbnail
from shitu.serve.problems import HttpError
from shitu.serve.recognising import Upload
from shitu.serve.teaching import check_label
from shitu.serve.v1_items import learn

router = APIRouter(prefix="/v1/review", tags=["review"])


@router.get("", response_model=schema_jobs.Reviews, responses=errors(404, 409, 422))
def reviews(
    service: TheService,
    gallery: schema.GalleryName,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Any:
    """Photos that were recognised with doubt, not looked through yet (--collect)."""
    service.galleries.url_of(gallery)
    page, total = service.review.pending(gallery, after, limit)
    return {"photos": page, "total": total}


@router.get(
    "/{id}/picture",
    response_class=Response,
    responses=errors(404, 422) | {200: {"content": {"image/jpeg": {}}, "description": "A JPEG"}},
)
async def review_picture(
    service: TheService, id: str, gallery: schema.GalleryName, size: Annotated[int, Query(ge=16, le=4096)] = 1280
) -> Response:
    data = await run_sync(service.review.picture, gallery, id)
    return Response(await service.show(thumbnail, data, None, size), media_type="image/jpeg")


@router.post("/{id}", response_model=schema_jobs.Judged, responses=errors(404, 409, 413, 422, 503))
async def judge(
    request: Request, service: TheService, id: str, gallery: schema.GalleryName, body: schema_jobs.Verdict
) -> Any:
    """right: what was named is so; wrong: it is not; name: the region is `label`, and is learnt."""
    kept = await run_sync(service.review.get, gallery, id)
    if body.verdict != "name":
        await run_sync(service.review.judge, gallery, id, body.verdict, None, 0)
        return {"id": id, "verdict": body.verdict, "ids": []}
    regions = [*kept["record"]["regions"], *kept["record"].get("unnamed", ())]
    if not body.label or body.region is None or body.region >= len(regions):
        raise HttpError(422, "bad_region", f"wanted are a label and a region below {len(regions)}")
    served = await run_sync(service.galleries.get, gallery)
    data = await run_sync(service.review.picture, gallery, id)
    asked = [Upload(kept["name"], data)], check_label(body.label), [regions[body.region]["bbox"]]
    done = await learn(request, service, served, asked)
    await run_sync(service.review.judge, gallery, id, "name", body.label, body.region)
    return {"id": id, "verdict": "name", "ids": done.ids}
