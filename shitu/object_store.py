"""Objects by URL (s3://bucket/name, gs://, abfs:// ...), through fsspec: the one door to it.

Only what a user typed may be such a URL, and what lies below it: see docs/design.md, "Sources". Credentials are found
by the store's own library, as its documents say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

from shitu.errors import ImageError, ShituError, UsageError

# Stores of objects and their kin. Not http (sources/web.py), not what reads one URL through another (zip::, reference).
SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "tos", "file", "memory")
MAX_BYTES = 256 << 20  # of one object


def is_stored(name: str) -> bool:
    """
    >>> is_stored("s3://bucket/a.jpg"), is_stored("https://example.org/a.jpg"), is_stored("s3/a.jpg")
    (True, False, False)
    """
    scheme, found, _ = name.partition("://")
    return bool(found) and scheme.lower() in SCHEMES


def find_stored(url: str) -> list[str]:
    """URLs of all objects below `url`, in the order of names; of an object, its own. Raises UsageError for none."""
    try:
        system, root = _opened(url)
        found = sorted((path[len(root) :].lstrip("/") for path in system.find(root)), key=lambda name: name.split("/"))
    except UsageError:
        raise
    except Exception as error:  # every store's library has errors of its own
        raise UsageError(
            f"{url}: cannot be listed: {_said(error)}; check the address, and who may read there"
        ) from error
    if not found:
        raise UsageError(f"{url}: no object at or below this address; check it")
    return [f"{url.rstrip('/')}/{name}" if name else url for name in found]


@contextmanager
def open_stored(url: str) -> Iterator[BinaryIO]:
    """An object to read from; raises ImageError, also where reading fails within the `with`."""
    try:
        system, path = _opened(url)
        with system.open(path, "rb") as stream:  # as a whole: it is read twice, and each seek may be another request
            data = stream.read(MAX_BYTES + 1)
    except UsageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{url}: no such object; check the address") from None
    except Exception as error:
        raise ImageError(f"{url}: cannot be read: {_said(error)}; try again, or check who may read it") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{url}: has more than {MAX_BYTES >> 20} MB; store a smaller one")
    yield BytesIO(data)


def identity_of(url: str) -> str:
    """What changes when the object does (size, time or tag, as the store tells), without reading it; "" for none."""
    try:
        system, path = _opened(url)
        return f"{system.ukey(path)} {url}"
    except Exception:
        return ""


def put(url: str, data: bytes) -> None:
    """Write a whole object: readers see all of it or nothing, as stores promise (not file://). Raises ShituError."""
    try:
        system, path = _opened(url)
        system.pipe_file(path, data)
    except ShituError:
        raise
    except Exception as error:
        raise ShituError(f"{url}: cannot be written: {_said(error)}; check the address, and who may write") from error


def delete(url: str) -> None:
    """Delete what lies at `url` and below it, as far as it can be."""
    with suppress(Exception):
        system, path = _opened(url)
        system.rm(path, recursive=True)


@cache
def _system(scheme: str, url: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{scheme}:// needs fsspec: pip install 'shitu[ray]'") from error
    try:
        kind = fsspec.get_filesystem_class(scheme)
        # not fsspec.open(url): of `s3://a/x::http://b` in a stranger's store it would make two addresses
        return kind(**kind._get_kwargs_from_urls(url))
    except ImportError as error:
        raise UsageError(f"{scheme}:// needs a library of its own: {_said(error)}") from error


def _opened(url: str) -> tuple[Any, str]:
    """The store, and the object's path in it."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    system = _system(scheme, f"{scheme}://{rest.partition('/')[0]}/")
    return system, str(system._strip_protocol(f"{scheme}://{rest}"))


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
