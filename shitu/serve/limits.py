"""Before a route runs: who may ask, how large a request may be, how many may wait, how long one may take."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shitu.serve.archive import FULL
from shitu.serve.metrics import Metrics
from shitu.serve.problems import BUG, HttpError, log_bug, refusal_of
from shitu.serve.settings import Settings

log = logging.getLogger("shitu")
OPEN_PATHS = ("/v1/health", "/v2/health/live", "/v2/health/ready", "/health", "/favicon.ico", "/")  # need no token
OPEN_BELOW = ("/studio/",)
BODIES = 512 << 20  # bytes of all requests that are in work; an import's lie on disk
DRAIN_SECONDS, DRAIN_BYTES = 2.0, 16 << 20
_SAFE = ("GET", "HEAD", "OPTIONS")
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Limits:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, slots: int) -> None:
        self._app, self._settings, self._metrics, self._slots = app, settings, metrics, slots
        self._taken = self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer = _Answer(send, scope["path"])
        start = time.monotonic()
        try:
            self._check(scope)
            await self._limited(scope, receive, answer)
        except HttpError as problem:
            await _drained(receive)
            await answer.problem(problem)
        except ClientDisconnect:
            if answer.over is not None:
                await answer.problem(answer.over)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                await answer.problem(HttpError(507, "disk_full", "the disk is full; nothing was changed"))
                return
            log_bug(f"{scope['method']} {scope['path']}", error)
            await answer.problem(HttpError(500, "internal_error", BUG))
        finally:
            self._count(scope, answer.status, time.monotonic() - start)

    def _check(self, scope: Scope) -> None:
        """Raises HttpError where the request is none of those that are let in."""
        headers, settings = Headers(scope=scope), self._settings
        host = headers.get("host", "")
        if settings.is_loopback and not settings.token and _hostname(host) not in (*_LOCAL, settings.host):
            # a page of another site that has its name point here (DNS rebinding) would pass for one of ours
            raise HttpError(403, "host_refused", "wanted is a request to localhost; another name takes a --token")
        origin = headers.get("origin")
        foreign = (origin is not None and _netloc(origin) != host) or headers.get("sec-fetch-site") == "cross-site"
        # a browser sends a form for any page that asks, but no page of another site makes it send the token
        if foreign and not settings.token and scope["method"] not in _SAFE:
            raise HttpError(403, "origin_refused", "a page of another site may not change anything here")
        path = scope["path"]
        if settings.token and path not in OPEN_PATHS and not path.startswith(OPEN_BELOW):
            given = headers.get("authorization", "")
            wanted = f"Bearer {settings.token}"
            if not secrets.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
                raise HttpError(401, "unauthorized", "no token, or a wrong one: send `Authorization: Bearer TOKEN`")

    async def _limited(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        settings = self._settings
        is_import = scope["path"].endswith("/jobs") and scope["method"] == "POST"
        most = settings.max_import if is_import else settings.max_upload
        counted = _Counted(receive, most, answer, self._may_hold if not is_import else lambda size: True)
        length = Headers(scope=scope).get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > most:
            raise _too_large(most)
        waits = scope["method"] not in _SAFE
        if waits and self._taken >= self._slots:
            self._metrics.refused.inc()
            raise HttpError(429, "too_many_requests", f"{self._taken} requests are waiting; come again", retry=1)
        self._taken += waits
        self._metrics.in_work.set(self._taken)
        try:
            seconds = settings.import_limit if is_import else settings.time_limit
            with anyio.move_on_after(seconds) as limit:
                answer.limit = limit
                await self._app(scope, counted, answer)
            if limit.cancelled_caught and not answer.status:
                raise HttpError(504, "timed_out", f"not done within {seconds:g} s, and given up")
        finally:
            self._taken -= waits
            self._held -= 0 if is_import else counted.count
            self._metrics.in_work.set(self._taken)

    def _may_hold(self, size: int) -> bool:
        """Whether so much more of the bodies that are in work may be in memory."""
        self._held += size
        return self._held <= max(BODIES, self._settings.max_upload)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._metrics.requests.labels(scope["method"], path, str(status)).inc()
        self._metrics.seconds.labels(scope["method"], path).observe(seconds)


class _Answer:
    """`send`, of which it is known whether it has begun; after `over`, something else is answered than the app says."""

    def __init__(self, send: Send, path: str) -> None:
        self._send, self._path, self.status = send, path, 0
        self.limit: anyio.CancelScope | None = None
        self.over: HttpError | None = None

    async def __call__(self, message: Message) -> None:
        if self.over is not None and not self.status:
            return await self.problem(self.over)
        if self.over is not None:
            return None
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.limit is not None:
                self.limit.deadline = float("inf")  # what is streamed may take longer
        await self._send(message)
        return None

    async def problem(self, problem: HttpError) -> None:
        if self.status:
            return
        self.status = problem.status
        data = json.dumps(refusal_of(self._path, problem), ensure_ascii=False).encode()
        headers: dict[str, Any] = {"content-type": "application/json", "content-length": len(data), **problem.headers}
        if problem.status == 413:
            headers["connection"] = "close"  # the rest of the body is not read
        raw = [(name.lower().encode(), str(value).encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": data})


class _Counted:
    """`receive`, which ends the body where it goes on beyond what is allowed."""

    def __init__(self, receive: Receive, most: int, answer: _Answer, taken: Callable[[int], bool]) -> None:
        self._receive, self._most, self._answer, self._taken = receive, most, answer, taken
        self.count = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self.count += size
        fits = self._taken(size)
        if self.count > self._most:
            self._answer.over = _too_large(self._most)
        elif not fits:
            self._answer.over = HttpError(429, "too_many_requests", "too much is being sent; come again", retry=2)
        return message if self._answer.over is None else {"type": "http.disconnect"}


async def _drained(receive: Receive) -> None:
    """Take what is on its way, within reason: who is cut off while sending does not read the answer."""
    count = 0
    with anyio.move_on_after(DRAIN_SECONDS):
        while count < DRAIN_BYTES:
            message = await receive()
            count += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return


def _too_large(most: int) -> HttpError:
    return HttpError(413, "too_large", f"the request has more than {most >> 20} MB; send less at a time")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
