"""Routes that look at pictures: recognise, detect, embed, search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request

from shitu.serve import schema
from shitu.serve.common import TheGallery, TheService, errors, pictures_body
from shitu.serve.galleries import Served
from shitu.serve.incoming import boxes_of, files_in, images_in, is_form, json_of
from shitu.serve.pictures import shown_name
from shitu.serve.problems import HttpError
from shitu.serve.recognising import Options, Upload, detected, embedded, recognised
from shitu.serve.service import Service

router = APIRouter(prefix="/v1", tags=["recognise"])
Regions = Annotated[
    str | None,
    Query(description="Boxes in place of the detector's: JSON", max_length=20_000, examples=["[[10, 20, 200, 240]]"]),
]
Work = Callable[[Service, Served, Upload, Options], dict[str, Any]]


async def uploads(request: Request, service: Service) -> list[Upload]:
    """The pictures of a request. Raises HttpError."""
    if is_form(request):
        async with request.form(max_files=service.settings.max_files, max_fields=50) as form:
            return await files_in(form, service.settings)
    body = await json_of(request, schema.ImagesIn)
    return await images_in(body.images, service.settings)


async def each(service: Service, gallery: Served, pictures: Sequence[Upload], options: Options, work: Work) -> Any:
    """`work` for every picture, side by side. Raises HttpError 400 where none of them can be read."""
    found = await service.run_all(lambda picture: work(service, gallery, picture, options), pictures)
    if all(one.get("error") for one in found):
        raise HttpError(400, "bad_image", found[0]["error"])
    return {"answers": found}


@router.post(
    "/galleries/{gallery}/recognise",
    response_model=schema.Answers,
    response_model_exclude_unset=True,
    responses=errors(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=pictures_body(),
)
async def recognise(  # noqa: PLR0917
    request: Request,
    service: TheService,
    gallery: TheGallery,
    return_k: Annotated[int | None, Query(ge=1, le=1000)] = None,
    score_thres: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    threshold: Annotated[float | None, Query(ge=0, le=1, description="How sure the detector must be")] = None,
    whole_image: Literal["always", "compete", "fallback", "never"] | None = None,
    unnamed: bool = True,
    regions: Regions = None,
) -> Any:
    """Find the objects in pictures and name them, as `shitu predict` does: an answer for each, in order."""
    boxes = boxes_of(regions)
    options = Options(return_k, score_thres, threshold, whole_image, unnamed, boxes)
    return await each(service, gallery, await uploads(request, service), options, recognised)


@router.post(
    "/detect",
    response_model=schema.AllObjects,
    response_model_exclude_unset=True,
    responses=errors(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=pictures_body(),
)
async def detect(
    request: Request,
    service: TheService,
    threshold: Annotated[float | None, Query(ge=0, le=1)] = None,
    gallery: Annotated[
        str | None, Query(description="Whose thresholds hold; by default the first that was served")
    ] = None,
) -> Any:
    """Only find the objects, as `shitu predict-det` does."""
    served = await asyncio.to_thread(any_gallery, service, gallery)
    return await each(service, served, await uploads(request, service), Options(threshold=threshold), detected)


@router.post(
    "/embed",
    response_model=schema.AllEmbedded,
    response_model_exclude_unset=True,
    responses=errors(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=pictures_body(),
)
async def embed(
    request: Request,
    service: TheService,
    regions: Regions = None,
    gallery: Annotated[str | None, Query(description="Whose model; by default the first that was served")] = None,
) -> Any:
    """The vector of each picture, or of each of its `regions`."""
    served = await asyncio.to_thread(any_gallery, service, gallery)
    return await each(service, served, await uploads(request, service), Options(regions=boxes_of(regions)), embedded)


def any_gallery(service: Service, name: str | None) -> Served:
    return service.galleries.get(service.galleries.default() if name is None else name)


@router.post(
    "/galleries/{gallery}/search", response_model=schema.SearchOut, responses=errors(400, 404, 409, 413, 422, 503)
)
async def search(service: TheService, gallery: TheGallery, body: schema.SearchIn) -> Any:
    """The nearest entries of vectors, such as `embed` answers."""
    return {"results": await service.run(_nearest, gallery, body.vectors, body.k)}


def _nearest(gallery: Served, vectors: list[list[float]], k: int) -> list[list[dict[str, Any]]]:
    reader = gallery.reader()
    measure, dimension = reader.facts.measure, reader.facts.dimension
    width = measure.width(dimension)
    if any(len(vector) != width for vector in vectors):
        raise HttpError(422, "bad_vector", f"a vector of {len(vectors[0])} numbers; this gallery's have {width}")
    try:
        found = reader.search(np.asarray(vectors, measure.dtype), k)
    except (ValueError, OverflowError) as error:
        raise HttpError(422, "bad_vector", f"{error}; wanted are vectors as /v1/embed answers them") from None
    return [[match.to_dict() | {"image": shown_name(match.image)} for match in matches] for matches in found]
