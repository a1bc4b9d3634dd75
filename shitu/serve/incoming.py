"""Pictures as requests bring them: multipart files, base64 in JSON, or addresses of hosts that are allowed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from shitu.errors import ImageError
from shitu.serve.problems import HttpError
from shitu.serve.recognising import Upload
from shitu.serve.schema import Base64Image, ImageIn
from shitu.serve.settings import Settings
from shitu.sources.web import fetch

Body = TypeVar("Body", bound=BaseModel)
LONGEST_NAME = 255


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def json_of(request: Request, kind: type[Body], most: int = 0) -> Body:
    """most: bytes, 0 for what any request may have. Raises HttpError 413, 415, 422."""
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise HttpError(
            415,
            "unsupported_media_type",
            "wanted is multipart/form-data with `files`, or application/json; see /openapi.json",
        )
    data = bytearray()
    async for block in request.stream():
        data += block
        if most and len(data) > most:
            raise HttpError(413, "too_large", f"JSON of more than {most >> 20} MB; files go in multipart/form-data")
    return validated(lambda: kind.model_validate_json(bytes(data)))


def validated(read: Callable[[], Body]) -> Body:
    """Raises HttpError 422 where pydantic does not take it."""
    try:
        return read()
    except ValidationError as error:
        raise HttpError(422, "invalid_request", sentences(error.errors())) from None


def sentences(errors: Sequence[Any]) -> str:
    """What pydantic found, a clause each."""
    told = [f"{'.'.join(str(part) for part in each['loc']) or 'body'}: {each['msg']}" for each in errors[:5]]
    return "; ".join(told) + (f"; and {len(errors) - 5} more" if len(errors) > 5 else "")


async def files_in(form: FormData, settings: Settings) -> list[Upload]:
    """The parts called `files` (or `file`). Raises HttpError 422 where there is none."""
    parts = [part for name in ("files", "file") for part in form.getlist(name) if isinstance(part, UploadFile)]
    if not parts:
        raise HttpError(422, "no_picture", "there is no picture: wanted is at least one part `files` with a file")
    return [Upload(clean(part.filename or "", number), await part.read()) for number, part in enumerate(parts, 1)]


async def images_in(images: Sequence[ImageIn], settings: Settings) -> list[Upload]:
    """Raises HttpError where there are too many, or one is neither of the two."""
    if len(images) > settings.max_files:
        raise HttpError(413, "too_many_pictures", f"{len(images)} pictures in a request, at most {settings.max_files}")
    return [await _image(each, number, settings) for number, each in enumerate(images, start=1)]


async def _image(image: ImageIn, number: int, settings: Settings) -> Upload:
    name = clean(image.name or "", number)
    if isinstance(image, Base64Image):
        try:
            return Upload(name, base64.b64decode(image.base64.partition(",")[2] or image.base64, validate=True))
        except (binascii.Error, ValueError):
            return Upload(name, b"", f"{name}: not base64 of an image file")
    return await fetched(image.url, name if image.name else "", settings)


async def fetched(url: str, name: str, settings: Settings) -> Upload:
    """Only from a host that --allow-url names, whatever it redirects to."""

    def allowed(address: str) -> bool:
        try:
            parts = urlsplit(address)
            return parts.scheme in ("http", "https") and (parts.hostname or "") in settings.allow_urls
        except ValueError:
            return False

    if not allowed(url):
        raise HttpError(
            403,
            "url_refused",
            "this service fetches pictures only from hosts that it was started with (--allow-url HOST); send the file",
        )
    name = name or clean(urlsplit(url).path, 1)
    try:
        data = await asyncio.to_thread(fetch, url, settings.time_limit / 2, allowed)
    except ImageError as error:
        return Upload(name, b"", str(error))
    return Upload(name, data)


def clean(name: str, number: int) -> str:
    """A file's name without folders and control characters, or `picture-1`.

    >>> clean("C:\\\\fakepath\\\\tea.jpg", 1), clean("../../etc/passwd", 1), clean("", 3)
    ('tea.jpg', 'passwd', 'picture-3')
    """
    last = name.replace("\\", "/").split("/")[-1]
    shown = "".join(each for each in last if each.isprintable())[-LONGEST_NAME:].strip()
    return shown or f"picture-{number}"


def boxes_of(text: str | None) -> tuple[tuple[float, float, float, float], ...] | None:
    """`[[x1, y1, x2, y2], ...]` as JSON. Raises HttpError 422."""
    if text is None:
        return None
    try:
        found = json.loads(text)
        boxes = tuple(tuple(float(value) for value in box) for box in found)
        if not boxes or len(boxes) > 1000 or any(len(box) != 4 for box in boxes):
            raise ValueError
    except (ValueError, TypeError, RecursionError, OverflowError):
        raise HttpError(422, "bad_box", f"{text[:80]!r} is no list of boxes: wanted: [[x1, y1, x2, y2], ...]") from None
    return boxes  # type: ignore[return-value]
