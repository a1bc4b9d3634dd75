"""Pictures on their way to a service: a file as it is, all else as a PNG of its pixels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from shitu.api.given import Keep, as_jpeg, itself, nothing, several
from shitu.errors import ImageError
from shitu.images.read import Picture, open_image
from shitu.sources.memory import picture_of
from shitu.sources.read import find_sources, is_one_picture, is_web, read_source
from shitu.sources.web import MAX_BYTES


@dataclass(frozen=True)
class Upload:
    """`content` is what is sent, or why there is nothing to send; `kept` what an Answer keeps of the picture."""

    name: str
    content: bytes | ImageError
    kept: Picture | bytes | None = None


def uploads(source: Any, bgr: bool) -> Iterator[Iterable[Upload]]:
    """Those of all that is meant (see `Client.predict`), a document's pages together. Raises UsageError."""
    numbers = itertools.count(1)
    for named, group in itertools.groupby(several(source), key=lambda one: isinstance(one, str | os.PathLike)):
        if named:
            yield from (_of_name(name) for name in find_sources([os.fspath(one) for one in group]))
            continue
        for one in group:
            name = f"picture-{next(numbers)}"
            try:
                yield [upload_of(name, picture_of(one, name, bgr=bgr), itself)]
            except ImageError as error:
                yield [Upload(name, error)]


def _of_name(name: str) -> Iterable[Upload]:
    """A generator, so that it is read where it is sent."""
    try:
        if not (is_web(name) and not os.path.lexists(name)) and is_one_picture(name):
            yield Upload(name, read_file(name))
            return
    except ImageError as error:
        yield Upload(name, error)
        return
    for page, picture in read_source(name):
        yield upload_of(page, picture, as_jpeg)


def upload_of(name: str, picture: Picture | ImageError, keep: Keep = nothing) -> Upload:
    """Of a picture, or of why there is none."""
    if isinstance(picture, ImageError):
        return Upload(name, picture)
    data = BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=1)
    return Upload(name, data.getvalue(), keep(picture))


def read_file(path: str) -> bytes:
    """Raises ImageError."""
    with open_image(path) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError(f"{path}: is larger than {MAX_BYTES >> 20} MB; shrink the image")
    return content
