"""URLs of galleries in databases: no password stands in them, since they are printed, logged and kept in configs."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from shitu.errors import GalleryError
from shitu.resources import user_cache

_SECRET = re.compile(r"pass|token|secret|api_?key|user_?info", re.I)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


def split_url(url: str, instead: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts of a URL, and what stands behind its `?`. Raises GalleryError, also for one that holds a password.

    instead: where a password belongs.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise GalleryError(f"{shown(url)} is no URL ({error})") from error
    if parts.password is not None or any(_SECRET.search(key) for key in options):
        raise GalleryError(f"{shown(url)}: a password does not belong in a gallery's URL, which is printed: {instead}")
    if port == 0:
        raise GalleryError(f"{shown(url)}: there is no port 0")
    return parts, options


def shown(url: str) -> str:
    """The URL without what could be a password."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    host = place.rpartition("@")
    user = host[0].partition(":")[0]
    kept = re.sub(r"([?&][^=&]*(?:pass|token|secret|key|info)[^=&]*)=[^&]*", r"\1=...", f"{slash}{path}", flags=re.I)
    return f"{scheme}{mark}{user}{host[1]}{host[2]}{kept}"


def checked_name(name: str, url: str) -> str:
    """A gallery's name, which becomes a part of names in the database. Raises GalleryError."""
    if not _NAME.fullmatch(name) or "__" in name:
        raise GalleryError(
            f"{url}: {name!r} is no name for a gallery: wanted letters of A to Z, digits and single underscores, a "
            "letter first, at most 100"
        )
    return name


def machine() -> str:
    """What names this user on this machine to others: made once, and kept with his galleries' locks."""
    from shitu.files import replace_file  # who only reads a folder's gallery needs none of it

    path = user_cache() / "galleries" / "machine"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(uuid.uuid4().hex.encode()))
    return path.read_text(encoding="ascii", errors="replace")[:32]


def place_of(url: str) -> Path:
    """A folder of this user on this machine for what belongs to a gallery elsewhere: its lock, an unfinished build."""
    return user_cache() / "galleries" / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:20]
