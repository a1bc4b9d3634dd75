"""Fetching a file over HTTP: it appears when all of it has arrived and is what it should be, or not at all."""

from __future__ import annotations

import http.client
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from shitu.digest import sha256_of
from shitu.errors import DownloadError
from shitu.files import make_room

TIMEOUT_S = 30.0  # without a single byte
PACE_S, PACE_BYTES = 60.0, 60 << 10  # so much at least in each such time: a server may drip a byte a second
PAUSES_S = (1.0, 2.0, 4.0)  # before the second, third and fourth try
_BLOCK = 1 << 16
_MAX_BYTES = 4 << 30  # a server that never stops must not fill the disk
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
_LOG = logging.getLogger(__name__)


class BrokenOffError(Exception):
    """The connection failed; worth another try."""


class _NoFTP(urllib.request.FTPHandler):
    """The one place off the web to which the standard library follows a redirect."""

    def ftp_open(self, req: urllib.request.Request) -> Any:
        raise DownloadError(f"redirected (302) to {req.full_url}; wanted http:// or https://")


class _Following(urllib.request.HTTPRedirectHandler):
    """Redirects to the addresses that `follow` accepts."""

    def __init__(self, follow: Callable[[str], bool]) -> None:
        self._follow = follow

    def redirect_request(self, *given: Any) -> Any:
        if not self._follow(given[-1]):
            raise DownloadError(f"redirected to {given[-1]}, from where nothing may be fetched; give another address")
        return super().redirect_request(*given)


def download(
    url: str, target: Path, *, expected_size: int | None = None, sha256: str | None = None, progress: bool = True
) -> Path:
    """Fetch `url` into `target`. Not for two processes with one target at once: the caller holds a lock.

    Raises DownloadError. A connection that breaks is tried again, from the beginning.
    """
    if not _is_web(url):
        raise DownloadError(f"{url}: wanted an address that begins with http:// or https://")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fetch_with_retries(url, part, progress)
            _check(url, part, expected_size, sha256)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = f"cannot write {error.filename or target}: {error.strerror}"
        raise DownloadError(f"{url}: {reason}. {make_room(target.parent)}, or choose another place") from error
    return target


def _check(url: str, part: Path, expected_size: int | None, sha256: str | None) -> None:
    size, advice = part.stat().st_size, "not the file it should be; what arrived was deleted. Try another --url"
    if expected_size not in (None, size):
        raise DownloadError(f"{url}: {size} bytes, wanted {expected_size}: {advice}")
    if sha256 is not None and (digest := sha256_of(part)) != sha256.lower():
        raise DownloadError(f"{url}: SHA-256 is {digest}, wanted {sha256}: {advice}")


def _fetch_with_retries(url: str, part: Path, progress: bool) -> None:
    for pause in (*PAUSES_S, None):
        try:
            return _fetch(url, part, progress)
        except BrokenOffError as error:
            if pause is None:
                raise DownloadError(f"{url}: {error}; run the command again") from error
            _LOG.warning("%s; trying again in %g s", error, pause)
            time.sleep(pause)
    return None


def _fetch(url: str, part: Path, progress: bool) -> None:
    """One try."""
    from tqdm import tqdm

    with open_url(url) as response, part.open("wb") as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() else None
        hidden = not (progress and sys.stderr.isatty())
        name = part.stem
        with tqdm(
            desc=name, total=total, unit="B", unit_scale=True, disable=hidden, file=sys.stderr, leave=False
        ) as bar:
            pace = _Pace()
            while block := read_some(response):
                pace.check(len(block))
                file.write(block)
                bar.update(len(block))
                if file.tell() > _MAX_BYTES:
                    raise DownloadError(f"{url}: the server sends more than 4 GB; try another --url")
        # http.client says nothing when a connection ends before the announced length.
        if total is not None and file.tell() < total:
            raise BrokenOffError(f"the connection ended after {file.tell()} of {total} bytes")


class _Pace:
    """Whether bytes come quickly enough to be waited for."""

    def __init__(self) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def check(self, count: int) -> None:
        """Raises BrokenOffError."""
        self._bytes += count
        seconds = time.monotonic() - self._since
        if self._bytes >= PACE_BYTES:
            self._since, self._bytes = time.monotonic(), 0
        elif seconds > PACE_S:
            raise BrokenOffError(f"the server sent only {self._bytes} bytes in {seconds:.0f} s")


def open_url(url: str, follow: Callable[[str], bool] = lambda address: True) -> Any:
    """The server's answer, by the standard library's handlers, so that http_proxy and its like are heeded.

    follow: to which addresses a redirect may lead.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "shitu", "Accept-Encoding": "identity"})
    try:
        opener = urllib.request.build_opener(_NoFTP, _Following(follow))
        return _within(PACE_S, lambda: opener.open(request, timeout=TIMEOUT_S))
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in _TRANSIENT_STATUS:
            raise BrokenOffError(answer) from error
        raise DownloadError(f"{url}: {answer}; try another --url") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{url}: not an address: {error}; give one that begins with https://") from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOffError(f"no connection: {getattr(error, 'reason', None) or error}") from error


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises; TimeoutError where it takes longer. Headers may drip, too, and no timeout of a
    socket ends that: the thread is left to itself.
    """
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True, name="shitu-open").start()
    try:
        answer, error = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer


def read_some(response: Any) -> bytes:
    try:
        return bytes(response.read1(_BLOCK))
    except (http.client.HTTPException, OSError) as error:
        raise BrokenOffError(f"the connection broke: {str(error) or type(error).__name__}") from error


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
