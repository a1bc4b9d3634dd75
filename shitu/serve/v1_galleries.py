"""Routes of galleries as a whole: list, make, rename, delete, labels, undo."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from shitu.serve import schema
from shitu.serve.common import TheGallery, TheService, errors, who
from shitu.serve.service import Service
from shitu.serve.teaching import check_label, rename_label, undo

router = APIRouter(prefix="/v1/galleries", tags=["galleries"])


def describe(service: Service, name: str) -> dict[str, Any]:
    told = service.galleries.described(name)
    return told | {"error": told["error"] and service.told(told["error"])}


@router.get("", response_model=schema.Galleries, responses=errors())
def listed(service: TheService) -> Any:
    return {"galleries": [describe(service, name) for name in service.galleries.names()]}


@router.post("", status_code=201, response_model=schema.GalleryOut, responses=errors(409, 413, 422, 503, 507))
def make(request: Request, service: TheService, body: schema.GalleryIn) -> Any:
    """An empty gallery, of the model and thresholds that the service was started with."""
    service.galleries.create(body.name)
    service.noted(body.name, "create", {}, who(request))
    return describe(service, body.name)


@router.get("/{gallery}", response_model=schema.GalleryInfo, responses=errors(404, 409, 422))
def info(service: TheService, gallery: TheGallery) -> Any:
    recogniser = gallery.recogniser()
    facts = recogniser.gallery.facts
    told = {key: value for key, value in recogniser.gallery.info().items() if key != "path"}
    index, section = gallery.config.IndexProcess, gallery.config.Global
    settings = {
        "return_k": recogniser.return_k,
        "score_thres": facts.measure.threshold(index.score_thres, index.hamming_radius),
        "threshold": section.threshold,
        "whole_image": section.whole_image,
        "dist_type": index.dist_type,
        "crop": index.crop,
    }
    return describe(service, gallery.name) | {"info": told, "settings": settings}


@router.patch("/{gallery}", response_model=schema.GalleryOut, responses=errors(404, 409, 413, 422, 503))
def rename(request: Request, service: TheService, gallery: TheGallery, body: schema.GalleryIn) -> Any:
    service.galleries.rename(gallery.name, body.name)
    service.noted(gallery.name, "rename", {"to": body.name}, who(request))
    return describe(service, body.name)


@router.delete("/{gallery}", response_model=schema.Status, responses=errors(404, 409, 422, 503))
def delete(request: Request, service: TheService, gallery: TheGallery) -> Any:
    """With all its entries and the pictures that it was taught from; there is no undo."""
    service.galleries.delete(gallery.name)
    service.noted(gallery.name, "delete", {}, who(request))
    return {"status": "ok"}


@router.get("/{gallery}/labels", response_model=schema.Labels, responses=errors(404, 409, 422))
def labels(
    gallery: TheGallery,
    text: Annotated[str, Query(max_length=200)] = "",
    sort: Literal["name", "count", "newest"] = "name",
    after: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """What the gallery knows, a page at a time; `after` is the last label of the page before."""
    found = gallery.reader().labels(text=text)
    if sort == "count":
        found.sort(key=lambda each: (-each.count, each.label))
    elif sort == "newest":
        found.sort(key=lambda each: -each.newest)
    start = 0
    if after:
        labels = [each.label for each in found]
        here = bisect_right(labels, after) if sort == "name" else len(labels)
        start = labels.index(after) + 1 if after in labels else here  # it may have gone since
    page = found[start : start + limit]
    told = [{"label": one.label, "count": one.count, "first": one.first, "newest": one.newest} for one in page]
    more = page[-1].label if page and start + limit < len(found) else None
    return {"labels": told, "total": len(found), "next": more}


@router.post("/{gallery}/labels/rename", response_model=schema.Changed, responses=errors(404, 409, 413, 422, 503, 507))
async def rename_one(request: Request, service: TheService, gallery: TheGallery, body: schema.Rename) -> Any:
    """All entries of a label under another; where that is there already, only with `merge`."""
    new = check_label(body.to)

    def note(done: tuple[list[int], int]) -> tuple[str, dict[str, Any], str]:
        return "rename_label", {"from": body.from_, "to": new, "count": len(done[0])}, who(request)

    ids, entries = await service.change(gallery, rename_label(gallery, body.from_, new, body.merge), note)
    return {"ids": ids, "entries": entries}


@router.post("/{gallery}/undo", response_model=schema.Undone, responses=errors(404, 409, 422, 503, 507))
async def take_back(request: Request, service: TheService, gallery: TheGallery) -> Any:
    """Take the last change back; twice, and it is as before."""
    entries = await service.change(gallery, undo(gallery), lambda left: ("undo", {"entries": left}, who(request)))
    return {"entries": entries}


async def changed(request: Request, service: Service, gallery: str, change: str, told: dict[str, Any]) -> None:
    """A change that was made without a note."""
    await asyncio.to_thread(service.noted, gallery, change, told, who(request))
