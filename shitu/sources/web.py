"""A web address to the bytes behind it, within a limit of size and of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from shitu.errors import DownloadError, ImageError
from shitu.models.download import BrokenOffError, open_url, read_some

MAX_BYTES = 128 << 20
SECONDS = 60.0  # for all of it, names and headers included


def fetch(url: str, seconds: float = SECONDS, follow: Callable[[str], bool] = lambda address: True) -> bytes:
    """What `url` answers, by http:// or https://, redirected (to what `follow` accepts) or not. Raises ImageError.

    In a thread of its own: a server that sends a byte now and then can hold up the standard library's reading of its
    headers for hours, and nothing but leaving it alone ends that.
    """
    answer: list[bytes | str] = []
    deadline = time.monotonic() + seconds
    thread = threading.Thread(
        target=lambda: answer.append(_fetch(url, deadline, follow)), daemon=True, name="shitu-fetch"
    )
    thread.start()
    thread.join(seconds)
    got = answer[0] if answer else f"has not sent all within {seconds:g} s; download it first"
    if isinstance(got, str):
        raise ImageError(f"{url}: {got}")
    return got


def _fetch(url: str, deadline: float, follow: Callable[[str], bool]) -> bytes | str:
    """The bytes, or what was wrong."""
    parts: list[bytes] = []
    size = 0
    try:
        with open_url(url, follow) as response:
            length = response.headers.get("Content-Length", "")
            while (block := read_some(response)) and time.monotonic() < deadline:
                parts.append(block)
                size += len(block)
                if size > MAX_BYTES:
                    return f"sends more than {MAX_BYTES >> 20} MB; download it first"
    except BrokenOffError as error:
        return f"{error}; check the address, or download it first"
    except DownloadError as error:
        return str(error).removeprefix(f"{url}: ")
    except Exception as error:  # this thread has nobody else to tell it to
        return f"cannot be fetched: {error}; check the address"
    if length.isascii() and length.isdigit() and size < int(length):
        return f"the connection ended after {size} of {length} bytes; try again"
    return b"".join(parts)
