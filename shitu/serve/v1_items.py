"""Routes of a gallery's entries: list, teach, move, remove, show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response

from shitu.gallery import Item
from shitu.results import Box
from shitu.serve import schema
from shitu.serve.common import TheGallery, TheService, errors, pictures_body, who
from shitu.serve.galleries import Served
from shitu.serve.incoming import boxes_of, files_in, images_in, is_form, json_of
from shitu.serve.pictures import shown_name, thumbnail
from shitu.serve.problems import HttpError
from shitu.serve.recognising import Upload
from shitu.serve.service import Service
from shitu.serve.teaching import Learnt, check_label, lesson, relabel, remove, teach

router = APIRouter(prefix="/v1/galleries/{gallery}/items", tags=["items"])
Boxes = list[list[float]] | None
Asked = tuple[Sequence[Upload], str, Boxes]  # pictures, what they show, where in them


def told(item: Item) -> dict[str, Any]:
    box = list(item.box) if item.box else None
    return {"id": item.id, "label": item.label, "image": shown_name(item.image), "bbox": box, "sha256": item.sha256}


@router.get("", response_model=schema.Items, responses=errors(404, 409, 422))
def listed(
    gallery: TheGallery,
    label: Annotated[str | None, Query(max_length=200)] = None,
    text: Annotated[str, Query(max_length=200, description="In the label")] = "",
    after: Annotated[int, Query(ge=-1, lt=2**63)] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """The entries by id, a page at a time."""
    found = gallery.reader().page(after=after, limit=limit + 1, label=label, text=text)
    more = found[limit - 1].id if len(found) > limit else None
    return {"items": [told(item) for item in found[:limit]], "next": more}


@router.post(
    "",
    status_code=201,
    response_model=schema.Taught,
    responses=errors(400, 404, 409, 413, 415, 422, 503, 507),
    openapi_extra=pictures_body(
        ("label", {"type": "string", "minLength": 1, "maxLength": 200, "required": True}),
        ("bbox", {"type": "string", "description": "x1, y1, x2, y2"}),
        other="Teaching",
    ),
)
async def add(request: Request, service: TheService, gallery: TheGallery) -> Any:
    """Teach: pictures with a label, or a region of an earlier answer. Known when this is answered.

    Without `bbox`, what the gallery's setting `crop` cuts out of a picture. What is there already is counted and left;
    under another label it is moved to this one.
    """
    done = await learn(request, service, gallery, await _asked(request, service))
    return {
        "ids": done.ids,
        "already_there": done.already_there,
        "relabelled": done.relabelled,
        "entries": done.entries,
    }


async def learn(request: Request, service: Service, gallery: Served, asked: Asked) -> Learnt:
    """Teach pictures a label, noted in the audit log."""
    pictures, label, boxes = asked
    lessons = await service.run_all(lambda picture: lesson(gallery, picture, label, boxes), pictures)

    def note(done: Learnt) -> tuple[str, dict[str, Any], str] | None:
        return ("add", {"label": label, "ids": done.ids}, who(request)) if done.ids else None

    return await service.change(gallery, teach(gallery, lessons), note)


async def _asked(request: Request, service: Service) -> Asked:
    """The pictures, their label, and the boxes in them that show it."""
    if is_form(request):
        async with request.form(max_files=service.settings.max_files, max_fields=50) as form:
            label, box = form.get("label"), form.get("bbox") or None
            if not isinstance(label, str) or not (box is None or isinstance(box, str)):
                raise HttpError(422, "bad_label", "wanted is a part `label`: the name of what the pictures show")
            found = boxes_of(f"[{box if '[' in box else f'[{box}]'}]" if box else None)
            boxes = [list(each) for each in found] if found else None
            return await files_in(form, service.settings), check_label(label), boxes
    body = await json_of(request, schema.Teaching)
    taught = body.root
    label, boxes = check_label(taught.label), [taught.bbox] if taught.bbox is not None else None
    if isinstance(taught, schema.ImagesWithLabel):
        return await images_in(taught.images, service.settings), label, boxes
    answer = service.answers.get(taught.answer)
    if answer is None:
        raise HttpError(404, "answer_gone", "that answer is kept no more; send the picture again")
    if boxes is None:
        if taught.region is None or taught.region >= len(answer.boxes):
            there = f"the answer has {len(answer.boxes)} regions, counted from 0"
            raise HttpError(422, "bad_region", f"wanted is a `region` or a `bbox`; {there}")
        boxes = [list(answer.boxes[taught.region])]
    return [Upload(answer.name, answer.data)], label, boxes


@router.patch("", response_model=schema.Changed, responses=errors(404, 409, 413, 422, 503, 507))
async def move(request: Request, service: TheService, gallery: TheGallery, body: schema.Relabel) -> Any:
    """Entries under another label. They get new ids."""
    label = check_label(body.label)

    def note(done: tuple[list[int], int]) -> tuple[str, dict[str, Any], str]:
        return "relabel", {"label": label, "ids": body.ids, "new_ids": done[0]}, who(request)

    ids, entries = await service.change(gallery, relabel(gallery, body.ids, label), note)
    return {"ids": ids, "entries": entries}


async def _removed(request: Request, service: Service, gallery: Served, ids: list[int]) -> Any:
    def note(done: tuple[int, int]) -> tuple[str, dict[str, Any], str] | None:
        return ("remove", {"ids": ids, "removed": done[0]}, who(request)) if done[0] else None

    removed, entries = await service.change(gallery, remove(gallery, ids), note)
    return {"removed": removed, "entries": entries}


@router.delete("", response_model=schema.Removed, responses=errors(404, 409, 413, 422, 503, 507))
async def delete(request: Request, service: TheService, gallery: TheGallery, body: schema.Remove) -> Any:
    """Ids that are not there are passed over."""
    return await _removed(request, service, gallery, body.ids)


@router.post("/remove", response_model=schema.Removed, responses=errors(404, 409, 413, 422, 503, 507))
async def delete_by_post(request: Request, service: TheService, gallery: TheGallery, body: schema.Remove) -> Any:
    """The same, for what drops the body of DELETE."""
    return await _removed(request, service, gallery, body.ids)


@router.get(
    "/{id}/picture",
    response_class=Response,
    responses=errors(404, 409, 422) | {200: {"content": {"image/jpeg": {}}, "description": "A JPEG"}},
)
async def picture(  # noqa: PLR0917
    request: Request,
    service: TheService,
    gallery: TheGallery,
    id: Annotated[int, Path(ge=0, lt=2**63)],
    size: Annotated[int, Query(ge=16, le=2048)] = 160,
    whole: Annotated[bool, Query(description="All of the photo, not only the entry's box")] = False,
) -> Response:
    """What the entry was made of, at most `size` pixels high and wide."""
    item = await run_sync(_item, gallery, id)
    box = None if whole else item.box
    tag = f'"{item.sha256 or id} {box} {size}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}  # ids of a gallery built anew mean other entries
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(await service.show(_shown, gallery, item, box, size), media_type="image/jpeg", headers=headers)


def _item(gallery: Served, number: int) -> Item:
    found = gallery.reader().lookup([number]).get(number)
    if found is None:
        raise HttpError(404, "item_not_found", f"there is no entry {number}; it may have been removed or renamed")
    return found


def _shown(gallery: Served, item: Item, box: Box | None, size: int) -> bytes:
    data = gallery.photos.read(item)
    if data is None:
        raise HttpError(404, "picture_gone", f"the picture of entry {item.id} is not where it was, or has changed")
    return thumbnail(data, box, size)
