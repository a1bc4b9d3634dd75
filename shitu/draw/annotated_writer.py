"""Annotated pictures to files, beside the recognition of the next image; they overwrite only older ones of ours."""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from shitu.cores import available_cores
from shitu.errors import ShituError, UsageError
from shitu.files import make_room, replace_file
from shitu.images.drawn import MARK, is_drawn
from shitu.images.read import Picture
from shitu.images.room import PIXELS_AHEAD

_SUFFIXES = (".jpg", ".jpeg", ".png")
_LONGEST_NAME = 200  # bytes; file systems hold 255


class AnnotatedWriter:
    """Writes the pictures of one run into `output_dir`, which is made if need be.

    A picture keeps the file name of its image. It never replaces a picture of another image of this run, nor any
    file that shitu has not drawn, so neither an image that is read; running again replaces the old pictures.

    Raises UsageError if `output_dir` is not a folder that can be written.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self._folder = Path(output_dir)
        self._paths: dict[str, Path] = {}  # by the real path of the image
        self._names: set[str] = set()  # in lower case: some file systems hold a.jpg and A.jpg for the same
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(f"{output_dir}: is a file, but a folder for pictures is wanted; name another") from None
        except OSError as error:
            raise UsageError(f"{output_dir}: cannot make this folder: {error.strerror}; name another") from None
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise UsageError(f"{output_dir}: no permission to write into this folder; name another")

    def path_for(self, image_name: str) -> Path:
        """Where the picture of that image goes; the same for the same image throughout a run."""
        source = os.path.realpath(image_name)
        if source not in self._paths:
            self._paths[source] = self._folder / next(
                name for name in _candidates(source) if self._is_free(name, source)
            )
            self._names.add(self._paths[source].name.lower())
        return self._paths[source]

    def write(self, image_name: str, picture: Picture) -> Path:
        """Writes (h, w, 3) uint8 RGB, whole or not at all, and returns the path. Raises ShituError."""
        path = self.path_for(image_name)
        image = Image.fromarray(np.ascontiguousarray(picture))
        try:
            replace_file(path, lambda stream: _encode(image, path.suffix, stream), durable=False)
        except (OSError, ValueError) as error:  # ValueError: more pixels to a side than the format allows
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            advice = f". {make_room(path.parent)}" if full else "; check space and permissions"
            raise ShituError(f"{path}: cannot write the picture: {error}{advice}") from None
        return path

    def _is_free(self, name: str, source: str) -> bool:
        path = self._folder / name
        if name.lower() in self._names or os.path.realpath(path) in {source, *self._paths}:
            return False
        return not os.path.lexists(path) or is_drawn(path)


def _candidates(source: str) -> Iterator[str]:
    """photo.jpg, then with the folders it lies in, b__photo.jpg, a__b__photo.jpg, and at last with a number."""
    *folders, base = [part for part in Path(source).parts if part != os.sep] or ["image"]
    if os.path.splitext(base)[1].lower() not in _SUFFIXES:
        base += ".jpg"
    yield _shortened(base)
    for depth in range(1, min(len(folders), 3) + 1):
        yield _shortened("__".join([*folders[-depth:], base]).replace(":", "").replace("\\", ""))
    stem, suffix = os.path.splitext(base)
    for number in itertools.count(2):
        yield _shortened(f"{stem}_{number}{suffix}")


def _shortened(name: str) -> str:
    """A name that file systems take: of a longer one, the end, and a digest in place of the rest."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    tail = encoded[-_LONGEST_NAME // 2 :].decode("utf-8", "ignore")
    return hashlib.sha256(encoded).hexdigest()[:8] + "_" + tail


def _encode(image: Image.Image, suffix: str, stream: BinaryIO) -> None:
    if suffix.lower() == ".png":
        mark = PngImagePlugin.PngInfo()
        mark.add_text("Comment", MARK.decode())
        image.save(stream, "PNG", pnginfo=mark, compress_level=3)
    else:
        # Without subsampling: it blurs coloured letters.
        image.save(stream, "JPEG", quality=95, subsampling=0, comment=MARK)


Draw = Callable[[Picture, Any], Picture]
WAITING = max(4, available_cores())  # pictures kept in memory until they are drawn, fewer where they are large
log = logging.getLogger("shitu")


class PictureWriter:
    """A context in which `write` returns at once; leaving it waits for the last picture.

    With no `output_dir` or no `draw` function nothing is written. `failed` counts pictures that could not be saved.
    """

    def __init__(self, output_dir: str | None, draw: Draw | None) -> None:
        self._draw = draw
        self._writer = AnnotatedWriter(output_dir) if output_dir and draw else None
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="shitu-draw")
        self._waiting: deque[tuple[Future[bool], int]] = deque()  # and its pixels
        self.count = 0
        self.failed = 0

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        while self._waiting:
            self._settle()
        self._pool.shutdown()

    def write(self, name: str, image: Picture, result: Any) -> None:
        """Queue one picture; waits only when too many are queued."""
        if self._writer and self._draw:
            self._writer.path_for(_shown(name))  # in the order of the images, whichever is drawn first
            job = self._pool.submit(self._write, self._writer, self._draw, name, image, result)
            self._waiting.append((job, image.shape[0] * image.shape[1]))
        while len(self._waiting) > WAITING or sum(pixels for _, pixels in self._waiting) > PIXELS_AHEAD:
            self._settle()

    @staticmethod
    def _write(writer: AnnotatedWriter, draw: Draw, name: str, image: Picture, result: Any) -> bool:
        try:
            writer.write(_shown(name), draw(image, result))
        except (ShituError, OSError) as error:
            log.error("%s: the annotated picture could not be saved: %s", name, error)
            return False
        return True

    def _settle(self) -> None:
        done = self._waiting.popleft()[0].result()
        self.count += done
        self.failed += not done


def _shown(name: str) -> str:
    return "stdin" if name == "-" else name
