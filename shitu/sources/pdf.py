"""The pages of a PDF file, drawn by pdfium in a process of its own, whose memory and time are limited."""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import IO, BinaryIO

import numpy as np

from shitu.errors import ImageError
from shitu.images.formats import INSTALL
from shitu.images.read import Picture

PAGE_SECONDS = 30.0
MAX_PAGES = 1000
HEAD = struct.Struct("<III")  # width, height, bytes that follow: RGB, or with a width of 0 what was wrong


def pdf_pages(stream: BinaryIO, name: str, seconds: float = PAGE_SECONDS) -> Iterator[tuple[str, Picture | ImageError]]:
    """(`NAME#page=1`, picture) of every page, in 150 dots per inch and at most 16 megapixels, drawn when wanted.

    No script of a document ever runs: this pdfium has no JavaScript. A page that takes longer than `seconds` ends the
    document with an error. Raises ImageError where pypdfium2 is missing.
    """
    if find_spec("pypdfium2") is None:
        raise ImageError(f"{name}: a PDF document, whose pages this installation does not read; {INSTALL}")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _drawn); the file may be gone when its pages are wanted
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return _drawn(copy, name, seconds)


def _drawn(document: BinaryIO, name: str, seconds: float) -> Iterator[tuple[str, Picture | ImageError]]:
    path = os.path.join(os.path.dirname(__file__), "pdf_child.py")
    command = [sys.executable, path, str(MAX_PAGES)]
    quiet = subprocess.DEVNULL
    with document, subprocess.Popen(command, stdin=document, stdout=subprocess.PIPE, stderr=quiet) as child:
        assert child.stdout is not None
        try:
            for number in itertools.count(1):
                label = f"{name}#page={number}"
                page = _next(child, child.stdout, seconds)
                if page is None:
                    return
                yield label, ImageError(f"{label}: {page}") if isinstance(page, str) else page
                if child.returncode:  # known only where its end was waited for
                    return
        finally:
            child.kill()


def _next(child: subprocess.Popen[bytes], pipe: IO[bytes], seconds: float) -> Picture | str | None:
    """The next page, or what is wrong with it; None after the last."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        head = pipe.read(HEAD.size)
        if len(head) == HEAD.size:
            width, height, size = HEAD.unpack(head)
            data = pipe.read(size)
            if len(data) == size:
                if not width:
                    return data.decode("utf-8", "replace")
                return np.frombuffer(bytearray(data), np.uint8).reshape(height, width, 3)
    finally:
        timer.cancel()
    status = child.wait()
    if late.is_set():
        return f"takes longer than {seconds:g} s to draw; save it as PNG by another program"
    if status == 0 and not head:
        return None
    return "cannot be drawn within the memory that a page is given; save it as PNG by another program"
