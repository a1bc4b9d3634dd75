"""What the routes share: the service behind a request, a gallery by its name, the errors that they tell."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from shitu.serve import schema
from shitu.serve.galleries import Served
from shitu.serve.service import Service

Responses = dict[int | str, dict[str, Any]]
WORDS = {
    400: "A picture that cannot be read, or a request that makes no sense",
    401: "The token is missing or wrong",
    403: "Refused: another host's page, a host that is not this one, or an address that may not be fetched",
    404: "Not there",
    409: "The gallery is in no state for it, such as made by another model",
    413: "Too large, or too many pictures",
    415: "Neither multipart/form-data nor JSON",
    422: "Something in the request is not as wanted",
    429: "Too many at a time; come again after Retry-After seconds",
    500: "A mistake of shitu's; its log says more",
    503: "Another process is changing the gallery, or the service stops; Retry-After",
    504: "Took too long",
    507: "The disk is full; nothing was changed",
}


def errors(*statuses: int) -> Responses:
    """The error answers of a route, besides those that every route has."""
    return {
        status: {"model": schema.Error, "description": WORDS[status]}
        for status in sorted({*statuses, 401, 403, 429, 500, 504})
    }


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


TheService = Annotated[Service, Depends(service_of)]


def gallery_of(service: TheService, gallery: Annotated[str, Path(max_length=64, examples=["drinks"])]) -> Served:
    """In a thread: it may have to be opened."""
    return service.galleries.get(gallery)


TheGallery = Annotated[Served, Depends(gallery_of)]


def who(request: Request) -> str:
    return request.client.host if request.client else ""


def pictures_body(*fields: tuple[str, dict[str, Any]], other: str = "ImagesIn") -> dict[str, Any]:
    """The body of a route that takes files, with these form fields, or JSON."""
    file = {"type": "string", "format": "binary"}
    properties = {"files": {"type": "array", "items": file, "minItems": 1}, **dict(fields)}
    required = ["files", *(name for name, what in fields if what.pop("required", False))]
    form = {"type": "object", "properties": properties, "required": required}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": {"$ref": f"#/components/schemas/{other}"}},
    }
    return {"requestBody": {"required": True, "content": content}}
