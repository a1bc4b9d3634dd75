"""Requests to a service and its answers, as JSON, by the standard library."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from shitu.errors import ServiceError, UsageError

File = tuple[str, bytes]  # name, content
PAUSE_S = 1.0  # before a refused request is made again, where the service does not say how long
_MAX_JSON = 1 << 28  # bytes
_FULL = (429, 503)  # refused before anything was done, so that asking again is safe


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Else the token would go wherever the answer points, and a POST would become a GET."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class _Heard(http.client.HTTPConnection):
    """Who refuses a large request answers before it has read all, and hangs up: the answer is there to read."""

    def send(self, data: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            super().send(data)


class _HeardSafely(_Heard, http.client.HTTPSConnection):
    pass


class _Web(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Heard, req)


class _SafeWeb(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HeardSafely, req)


class Connection:
    """Where a service is. Any number of threads may ask.

    url: such as http://127.0.0.1:8080, with a path where a reverse proxy has it under one. token: None for none.
    timeout: seconds without a byte, and how long a service that is full is asked again. Raises UsageError.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        try:
            parts = urlsplit(url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
            named = parts.username is not None
        except ValueError:
            wrong, named = True, False
        if wrong or named:
            advice = "; a token goes into $SHITU_TOKEN or token=" if named else ""
            raise UsageError(f"{url}: wanted the address of a service, such as http://127.0.0.1:8080{advice}")
        self.url, self._timeout = url.rstrip("/"), timeout
        self._headers = {"User-Agent": "shitu"} | ({"Authorization": f"Bearer {token}"} if token else {})
        # what http_proxy and its like name cannot reach this machine's own services
        direct = [urllib.request.ProxyHandler({})] if parts.hostname in ("localhost", "127.0.0.1", "::1") else []
        self._opener = urllib.request.build_opener(_NoRedirect, _Web, _SafeWeb, *direct)

    def ask(self, method: str, *path: str | int, body: Any = None, **query: Any) -> Any:
        """The JSON that is answered. `body` is sent as JSON; of `query`, None is left out. Raises ServiceError."""
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        return self._json(method, path, query, data, "application/json")

    def send(self, *path: str | int, files: Sequence[File], fields: Mapping[str, str], **query: Any) -> Any:
        """As `ask`, with (name, content) of files and other fields as a form."""
        boundary = uuid.uuid4().hex
        parts = []
        for name, content in files:
            shown = quote(name, safe=" ()+,;=@&!'~[]{}") if '"' in name or not name.isprintable() else name
            parts += [_head(boundary, f'name="files"; filename="{shown}"', "application/octet-stream"), content]
        for name, text in fields.items():
            parts += [_head(boundary, f'name="{name}"', "text/plain; charset=utf-8"), text.encode()]
        data = b"".join([*parts, f"\r\n--{boundary}--\r\n".encode()])
        return self._json("POST", path, query, data, f"multipart/form-data; boundary={boundary}")

    def blocks(self, *path: str | int) -> Iterator[bytes]:
        """What is answered, as it comes. Raises ServiceError."""
        with self._translated(), self._open(self._request("GET", path, {}, None, "")) as response:
            while block := response.read(1 << 20):
                yield block

    def _json(
        self, method: str, path: Sequence[str | int], query: Mapping[str, Any], data: bytes | None, kind: str
    ) -> Any:
        with self._translated(), self._open(self._request(method, path, query, data, kind)) as response:
            text = response.read(_MAX_JSON)
        try:
            return json.loads(text) if text else {}
        except ValueError:
            raise self._foreign() from None

    def _request(
        self, method: str, path: Sequence[str | int], query: Mapping[str, Any], data: bytes | None, kind: str
    ) -> urllib.request.Request:
        place = "/".join(quote(str(part), safe="") for part in path)
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        headers = self._headers | ({"Content-Type": kind} if data is not None else {})
        return urllib.request.Request(f"{self.url}/{place}" + f"?{asked}" * bool(asked), data, headers, method=method)

    def _open(self, request: urllib.request.Request) -> Any:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._opener.open(request, timeout=self._timeout)
            except urllib.error.HTTPError as error:
                pause = _seconds(error.headers.get("Retry-After"))
                if error.code not in _FULL or time.monotonic() + pause > deadline:
                    raise
                error.close()
                time.sleep(pause)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What goes wrong becomes a ServiceError."""
        try:
            yield
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise ServiceError(
                f"{self.url}: no answer: {reason}; check the address, and that `shitu serve` runs there"
            ) from None

    def _refused(self, error: urllib.error.HTTPError) -> ServiceError:
        try:
            told = json.loads(error.read(1 << 16))["error"]
            return ServiceError(f"{self.url}: {told['message']}", told["code"], error.code, told["message"])
        except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
            pass
        if error.code == 413:  # of which often no more than the first line arrives
            reason = "the request is larger than it takes (--max-upload); shrink the image"
            return ServiceError(f"{self.url}: {reason}", "too_large", error.code, reason)
        if 300 <= error.code < 400:
            place = error.headers.get("Location", "elsewhere")
            return ServiceError(f"{self.url}: redirects to {place}; give that address", "", error.code)
        return ServiceError(f"{self.url}: answers {error.code} {error.reason}; is it `shitu serve`?", "", error.code)

    def _foreign(self) -> ServiceError:
        return ServiceError(f"{self.url}: what it answers is not what `shitu serve` does; check the address")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Where an answer is taken apart: one of another form becomes a ServiceError."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self._foreign() from None


def _head(boundary: str, words: str, kind: str) -> bytes:
    return f"\r\n--{boundary}\r\nContent-Disposition: form-data; {words}\r\nContent-Type: {kind}\r\n\r\n".encode()


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdigit() else PAUSE_S
