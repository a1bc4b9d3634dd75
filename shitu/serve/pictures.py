"""The photos that a gallery was taught from, kept beside it by their content; and those of recent answers, in memory.

A photo lies at photos/ab/abcdef….jpg in the gallery's folder, where no command of shitu's clears up, and its entries
name it by that path from where the gallery remembers that its pictures lie, so that `gallery map` finds it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from shitu.errors import ImageError
from shitu.files import replace_file, sync_folder
from shitu.gallery.base import Item
from shitu.gallery.write.lock import writing
from shitu.images.read import Picture, decode_image
from shitu.results import Box

PHOTOS = "photos"
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif"}
_SUFFIXES |= {"BMP": ".bmp", "DIB": ".bmp", "PPM": ".ppm", "HEIF": ".heic", "AVIF": ".avif"}
_LARGEST = 256 << 20  # bytes of a file that is shown


class PhotoStore:
    """The photos of one gallery. `image_root`: where it remembers that the paths of its entries begin, or "".

    usual_root: where those begin of which it does not.
    """

    def __init__(self, folder: Path, image_root: str, usual_root: str = "") -> None:
        self.folder, self.image_root, self._usual_root = folder / PHOTOS, image_root, usual_root

    def put(self, data: bytes | Path, sha256: str) -> str:
        """Keep an image file, given or to be read, durably; what its entry calls it. Raises GalleryError."""
        data = data if isinstance(data, bytes) else data.read_bytes()
        place = self.folder / sha256[:2]
        path = place / (sha256 + suffix_of(data))
        with writing(self.folder.parent):
            if path.is_file():
                os.utime(path)  # wanted again: `clear` leaves it
            else:
                place.mkdir(parents=True, exist_ok=True)
                replace_file(path, lambda file: file.write(data))
                sync_folder(self.folder)
        return self.name_of(path)

    def clear(self, wanted: Callable[[list[str]], set[str]]) -> int:
        """Delete the photos that no entry names any more; how many.

        wanted: which of some sha256 entries have. What came within the last hour stays: its entry may be under way.
        """
        old, count = time.time() - 3600, 0
        for place in sorted(self.folder.glob("??")):
            found = {path: path.name.partition(".")[0] for path in place.iterdir() if path.stat().st_mtime < old}
            there = wanted(sorted(set(found.values())))
            for path, sha256 in found.items():
                if sha256 not in there:
                    path.unlink(missing_ok=True)
                    count += 1
        return count

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("??/*.*"))

    def name_of(self, path: Path) -> str:
        if not self.image_root:
            return f"{PHOTOS}/{path.parent.name}/{path.name}"
        return Path(os.path.relpath(path, self.image_root)).as_posix()

    def read(self, item: Item) -> bytes | None:
        """The file of an entry; None where it is gone, or is another file by now."""
        found = self.find(item)
        return found[1] if found else None

    def find(self, item: Item) -> tuple[Path, bytes] | None:
        """Only a file with the content that the entry was made of: a stranger's gallery may name any path."""
        candidates = sorted((self.folder / item.sha256[:2]).glob(f"{item.sha256}.*")) if item.sha256.isalnum() else []
        if item.image and item.sha256:
            candidates.append(Path(self.image_root or self._usual_root, item.image))
        for path in candidates:
            try:
                if path.is_file() and path.stat().st_size <= _LARGEST:
                    data = path.read_bytes()
                    if hashlib.sha256(data).hexdigest() == item.sha256:
                        return path, data
            except (OSError, ValueError):
                continue
        return None


def suffix_of(data: bytes) -> str:
    """By its content, whatever it was called; it has been decoded before."""
    try:
        with Image.open(BytesIO(data)) as image:
            return _SUFFIXES.get(image.format or "", ".img")
    except Exception:
        return ".img"


def shown_name(image: str) -> str:
    """What an answer calls an entry's image: as in the list, but no path of this machine.

    >>> shown_name("tea/1.jpg"), shown_name("/home/me/tea/1.jpg"), shown_name("../tea/photos/ab/abc.jpg")
    ('tea/1.jpg', '1.jpg', 'photos/ab/abc.jpg')
    """
    parts = image.replace("\\", "/").split("/")
    if parts[-4:-3] and parts[-3] == PHOTOS and parts[0] == "..":
        return "/".join(parts[-3:])
    if image.startswith(("/", "\\", "~")) or image[1:2] == ":" or ".." in parts:
        return parts[-1]
    return image


def thumbnail(data: bytes, box: Box | None, side: int) -> bytes:
    """A JPEG of the box, or of all, at most `side` pixels high and wide. Raises ImageError."""
    return as_jpeg(cut(decode_image(data, "the picture"), box), side)


def as_jpeg(picture: Picture, side: int) -> bytes:
    image, out = Image.fromarray(picture), BytesIO()
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def cut(picture: Picture, box: Box | None) -> Picture:
    if box is None:
        return picture
    left, top, right, bottom = box
    part = picture[top:bottom, left:right]
    if not part.size:
        raise ImageError("the box lies outside of the picture")
    return part


@dataclass(frozen=True)
class Answered:
    """A picture that was recognised: its file, and the boxes of what was told of it, named ones first."""

    data: bytes
    sha256: str
    name: str
    width: int
    height: int
    boxes: tuple[Box, ...]


class Answers:
    """Recent answers by an id that nobody guesses: for some minutes, and within some bytes, oldest out first."""

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._most, self._seconds = most_bytes, seconds
        self._kept: OrderedDict[str, tuple[float, Answered]] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def keep(self, answered: Answered) -> str:
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._kept[key] = (time.monotonic() + self._seconds, answered)
            self._bytes += len(answered.data)
            self._drop()
        return key

    def get(self, key: str) -> Answered | None:
        with self._lock:
            self._drop()
            found = self._kept.get(key)
        return found[1] if found else None

    def _drop(self) -> None:
        now = time.monotonic()
        while self._kept:
            key, (until, oldest) = next(iter(self._kept.items()))
            if until > now and self._bytes <= self._most:
                return
            del self._kept[key]
            self._bytes -= len(oldest.data)
