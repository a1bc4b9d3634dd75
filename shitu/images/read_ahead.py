"""Work done ahead in threads, a bounded number of items ahead: reading images while the network is busy."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import BinaryIO, TypeVar

from shitu.cores import available_cores
from shitu.errors import ImageError, UsageError
from shitu.images.read import Picture, decode_image, read_image
from shitu.images.room import PIXELS_AHEAD, Room

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PATH = 1 << 16
MAX_STDIN = 1 << 30  # bytes
PICTURES_AHEAD = max(8, available_cores())  # a 12-megapixel photo is 36 MB

# Headers of which the first line can pass for text: PPM, GIF, and those that hold a size right after the name.
_TEXT_LIKE_IMAGE = re.compile(r"P[1-6]\s|GIF8[79]a|(BM|RIFF).{0,3}\n", re.DOTALL)


def map_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    window: int,
    threads: int | None = None,
    pixels: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """`work(item)` for every item, in order, at most `window` items ahead of the consumer; a thread for each core.

    Images that `work` reads have to find room (room.py), which they give back when they are handed over; `pixels` are
    those that an item holds already.
    """
    waiting: deque[Future[Result]] = deque()
    held: deque[int] = deque()
    room, next_out = Room(), 0
    pool = ThreadPoolExecutor(threads or available_cores(), thread_name_prefix="shitu-ahead")

    def job(number: int, item: Item) -> Result:
        room.enter(number)
        return work(item)

    def first() -> Result:
        nonlocal next_out
        room.wanted(next_out)
        result = waiting.popleft().result()
        held.popleft()
        room.give_back(next_out)
        next_out += 1
        return result

    try:
        for number, item in enumerate(items):
            waiting.append(pool.submit(job, number, item))
            held.append(pixels(item))
            while len(waiting) >= window or sum(held) > PIXELS_AHEAD:
                yield first()
        while waiting:
            yield first()
    finally:
        room.wanted(next_out + window)  # nobody waits for room any more
        pool.shutdown(wait=False, cancel_futures=True)


def read_ahead(names: Iterable[str]) -> Iterator[tuple[str, Picture | ImageError]]:
    """(name, image) in order; the error instead of an image that cannot be read."""
    return map_ahead(_read, names, PICTURES_AHEAD)


def _read(name: str) -> tuple[str, Picture | ImageError]:
    try:
        return name, read_image(name)
    except ImageError as error:
        return name, error


def read_stdin(stream: BinaryIO) -> Iterator[tuple[str, Picture | ImageError]]:
    """Standard input: a list of paths, one per line, read as they come; or, where its start is not text, one image.

    Raises UsageError when there is nothing.
    """
    first = stream.readline(MAX_PATH)
    if not first:
        raise UsageError("standard input is empty; pipe an image into it, or paths, one per line")
    if _is_text(first):
        # not ahead: whoever pipes in paths as they appear waits for each answer
        yield from map_ahead(_read, _paths(first, stream), window=1)
        return
    try:
        data = first + stream.read(MAX_STDIN)
        if len(data) > MAX_STDIN:
            raise ImageError("standard input: goes on after 1 GB, which no image does; give its file")
        yield "-", decode_image(data, "standard input")
    except ImageError as error:
        yield "-", error


def paths_in(stream: BinaryIO) -> Iterator[str]:
    """A list of paths, one per line. Raises UsageError where it is something else."""
    first = stream.readline(MAX_PATH)
    if not first or not _is_text(first):
        raise UsageError("standard input is no list of paths; pipe in paths, one per line")
    return _paths(first, stream)


def _paths(first: bytes, stream: BinaryIO) -> Iterator[str]:
    lines = chain([first.removeprefix(b"\xef\xbb\xbf")], stream)
    return filter(None, (os.fsdecode(line.strip(b"\r\n")) for line in lines))


def _is_text(first: bytes) -> bool:
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return "\0" not in text and not _TEXT_LIKE_IMAGE.match(text)
