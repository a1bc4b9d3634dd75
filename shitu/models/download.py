"""Fetching over HTTP what may break off at any moment: it goes on where it stopped, and never looks finished early."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from shitu.errors import DownloadError
from shitu.files import sha256_of

TIMEOUT_S = 30.0  # without a single byte
PAUSES_S = (1.0, 2.0, 4.0)  # before the second, third and fourth try
_BLOCK = 1 << 16
_MAX_BYTES = 4 << 30  # a server that never stops must not fill the disk
_AGAIN = "run the command again: it goes on where it stopped"
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
_LOG = logging.getLogger(__name__)


class _BrokenOffError(Exception):
    """The connection failed; worth another try."""


class _StaleError(Exception):
    """What has arrived does not belong to what the server has now."""


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone; the standard handler also goes to ftp."""

    def redirect_request(  # noqa: PLR0917, the signature of the standard library
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not _is_web(newurl):
            raise urllib.error.HTTPError(req.full_url, code, f"redirected to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True)
class _Part:
    """The unfinished file, and beside it what the server said of it, by which a changed file is told."""

    target: Path
    url: str

    @property
    def path(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def meta(self) -> Path:
        return self.target.with_name(self.target.name + ".part.meta")

    def resumable(self) -> tuple[int, str | None]:
        """How many bytes can be kept, and the validator to send for them."""
        try:
            meta = json.loads(self.meta.read_text(encoding="utf-8"))
            size = self.path.stat().st_size
            validator = meta["validator"]
            if size > 0 and meta["url"] == self.url and isinstance(validator, str) and validator.isprintable():
                return size, validator
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return 0, None

    def remember(self, headers: http.client.HTTPMessage) -> None:
        """Keep the validator; without one the part cannot be trusted to fit, and will be begun anew."""
        etag = headers.get("ETag", "")
        # RFC 9110, 13.1.5: a weak entity tag may not be used in If-Range
        validator = etag if etag.startswith('"') else headers.get("Last-Modified")
        self.meta.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.meta.unlink(missing_ok=True)


def download(
    url: str, target: Path, *, expected_size: int | None = None, sha256: str | None = None, progress: bool = True
) -> Path:
    """Fetch `url` into `target`. Not for two processes with one target at once: the caller holds a lock."""
    if not _is_web(url):
        raise DownloadError(f"{url}: wanted an address that begins with http:// or https://")
    part = _Part(target, url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_with_retries(part, expected_size, progress)
        if sha256 is not None and (digest := sha256_of(part.path)) != sha256.lower():
            part.discard()
            raise DownloadError(
                f"{url}: SHA-256 is {digest}, wanted {sha256}: not the file it should be; what arrived was "
                "deleted. Try another --url"
            )
        os.replace(part.path, target)
        part.meta.unlink(missing_ok=True)
    except OSError as error:
        raise DownloadError(f"{url}: cannot write {error.filename or target}: {error.strerror}; {_AGAIN}") from error
    return target


def _fetch_with_retries(part: _Part, expected_size: int | None, progress: bool) -> None:
    for pause in (*PAUSES_S, None):
        try:
            return _fetch(part, expected_size, progress)
        except _StaleError:
            part.discard()
            reason = "the file on the server keeps changing"
        except _BrokenOffError as error:
            reason = str(error)
        if pause is None:
            arrived = part.path.stat().st_size if part.path.exists() else 0
            raise DownloadError(f"{part.url}: {reason}; {arrived} bytes have arrived; {_AGAIN}")
        _LOG.warning("%s; trying again in %g s", reason, pause)
        time.sleep(pause)
    return None


def _fetch(part: _Part, expected_size: int | None, progress: bool) -> None:
    """One try, from the first byte that is missing."""
    have, validator = part.resumable()
    request = urllib.request.Request(part.url, headers={"User-Agent": "shitu", "Accept-Encoding": "identity"})
    if validator is not None:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    response = _open(request, part, have)
    if response is None:  # all of it had arrived, and only the renaming had not been done
        return _check_size(part, have, expected_size)
    with response:
        if validator is not None and response.status == 206:
            _check_range(response.headers, have)
        else:
            have = 0  # the server knows no ranges, or has another file by now
            part.path.unlink(missing_ok=True)
            part.remember(response.headers)
        total = _total(response.headers, have)
        _check_size(part, total, expected_size)
        _receive(response, part, have, total, progress)
    return _check_size(part, part.path.stat().st_size, expected_size)


def _open(request: urllib.request.Request, part: _Part, have: int) -> Any:
    """The answer of the server, or None where it says that there is nothing after the `have` bytes."""
    try:
        # With the handlers of the standard library, so that http_proxy and its like are heeded.
        return urllib.request.build_opener(_OnlyWeb).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return None
        if error.code == 416:
            raise _StaleError from error
        if error.code in _TRANSIENT_STATUS:
            raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(f"{part.url}: the server answers {error.code} {error.reason}; try another --url") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{part.url}: not an address: {error}; give one that begins with https://") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"no connection: {getattr(error, 'reason', None) or error}") from error


def _receive(response: Any, part: _Part, have: int, total: int | None, progress: bool) -> None:
    with part.path.open("ab") as file, _bar(part.target.name, have, total, progress) as bar:
        while block := _read(response):
            file.write(block)
            have += len(block)
            bar.update(len(block))
            if have > (_MAX_BYTES if total is None else total):
                raise DownloadError(
                    f"{part.url}: the server sends more than it announced, or more than 4 GB; try another --url"
                )
    # http.client says nothing when a connection ends before the announced length.
    if total is not None and have < total:
        raise _BrokenOffError(f"the connection ended after {have} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(_BLOCK))
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenOffError(f"the connection broke: {str(error) or type(error).__name__}") from error


def _bar(name: str, have: int, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    hidden = not (progress and sys.stderr.isatty())
    return tqdm(
        desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=hidden, file=sys.stderr, leave=False
    )


def _check_range(headers: http.client.HTTPMessage, have: int) -> None:
    if not re.match(rf"bytes {have}-", headers.get("Content-Range", "")):
        raise _StaleError


def _total(headers: http.client.HTTPMessage, have: int) -> int | None:
    length = headers.get("Content-Length", "")
    return have + int(length) if length.isascii() and length.isdigit() else None


def _check_size(part: _Part, size: int | None, expected: int | None) -> None:
    if expected is not None and size is not None and size != expected:
        part.discard()
        raise DownloadError(
            f"{part.url}: {size} bytes, wanted {expected}: not the file it should be; try another --url"
        )


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
