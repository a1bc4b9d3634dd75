"""What went wrong, as an HTTP status and `{"error": {"code", "message"}}`, without a path of this machine."""

from __future__ import annotations

import logging
import os
import re
import traceback
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from shitu.errors import (
    EngineError,
    GalleryBusyError,
    GalleryError,
    GalleryWriteError,
    ImageError,
    ShituError,
    UsageError,
)

log = logging.getLogger("shitu")
BUG = "a mistake of shitu's; the server's log says more"
# by the first class that fits: HTTP status, code
_KINDS: tuple[tuple[type[ShituError], int, str], ...] = (
    (GalleryBusyError, 503, "gallery_busy"),
    (GalleryWriteError, 507, "disk_full"),
    (GalleryError, 409, "gallery_unusable"),
    (ImageError, 400, "bad_image"),
    (EngineError, 400, "not_recognised"),
    (UsageError, 400, "bad_request"),
    (ShituError, 500, "failed"),
)
STATUS_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
    504: "timed_out",
}
_PATH = re.compile(r"(?<![\w./:<])/(?!v1/)(?:[^\s/'\",;()]+/)+([^\s/'\",;:()]*)")


class HttpError(ShituError):
    """An answer other than 200. `retry`: seconds after which to ask again."""

    def __init__(self, status: int, code: str, message: str, *, retry: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry = status, code, retry

    @property
    def headers(self) -> dict[str, str]:
        found = {"Retry-After": str(self.retry)} if self.retry is not None else {}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def log_bug(where: str, error: BaseException) -> None:
    log.error("%s: %s", where, "".join(traceback.format_exception(error)).rstrip())


def problem_of(error: ShituError) -> HttpError:
    if isinstance(error, HttpError):
        return error
    status, code = next((status, code) for kind, status, code in _KINDS if isinstance(error, kind))
    return HttpError(status, code, str(error), retry=2 if status == 503 else None)


def body_of(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def enveloped(status: int, message: str, log_id: str = "") -> dict[str, Any]:
    """The same in PaddleX's envelope."""
    return {"logId": log_id or str(uuid.uuid4()), "errorCode": status, "errorMsg": message}


def refusal_of(path: str, problem: HttpError) -> dict[str, Any]:
    """In the form that the clients of this path read."""
    told = str(problem)
    return enveloped(problem.status, told) if path.startswith("/shitu-") else body_of(problem.code, told)


def without_paths(text: str, names: Mapping[str, str], folders: Iterable[str] = ()) -> str:
    """The text with the folders of galleries as their names, and of any other path its last part alone.

    >>> without_paths("/srv/g/tea is busy, see /etc/x/y.yaml", {"/srv/g/tea": "tea"})
    'tea is busy, see y.yaml'
    >>> without_paths("POST /v1/galleries/tea/undo takes image/jpeg", {})
    'POST /v1/galleries/tea/undo takes image/jpeg'
    """
    for folder, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
        if os.sep in folder:  # else it may be a word
            text = text.replace(folder, name)
    for folder in sorted(folders, key=len, reverse=True):
        if len(folder) > 1:
            text = text.replace(folder.rstrip(os.sep) + os.sep, "")
    return _PATH.sub(lambda found: found[1], text)
