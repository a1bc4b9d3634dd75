"""What is refused before its pixels are read: files of a few bytes that would take all memory, or hours.

Each limit is beyond what any encoder of the format writes for a real picture.
"""

from __future__ import annotations

import re
import time
from io import BytesIO
from typing import Any, BinaryIO

from PIL import Image

SECONDS_PER_IMAGE = 60.0  # 256 megapixels of PNG take 10 s
MAX_SCANS = 100  # libjpeg's own progressive script has 10
_MAX_SCANNED = 4_000_000_000  # scans x pixels
_LONGEST_PPM_HEADER = 1 << 16
_PPM_HEADER = re.compile(rb"P[1-6y](\s|#[^\r\n]*[\r\n])*\d")
_ALWAYS_READ = 1_000_000  # pixels: too few to harm

# The most pixels that a byte can stand for. JPEG: a bit for a block of 64. PNG: deflate makes 1032 bytes of one, and
# bits may be pixels. GIF: codes of 12 bits for at most 4096 pixels. BMP: runs of 255 in two bytes. TIFF (a blank page
# in G4 is a bit per row) and WebP (one colour may need no bits at all) have no such bound;
# 600 dpi of blank paper need 40,000.
_PIXELS_PER_BYTE = {"JPEG": 512, "MPO": 512, "PNG": 8_256, "GIF": 2_732, "BMP": 128, "DIB": 128, "PPM": 8}
_OTHERS = 40_000


class RefusedError(Exception):
    """Why the file is not read, in words that go on a sentence about it."""


class TimedStream:
    """A stream whose `read` raises RefusedError once the picture has had its time: Pillow reads as it decodes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._end = stream, time.monotonic() + SECONDS_PER_IMAGE

    def read(self, *size: int) -> bytes:
        if time.monotonic() > self._end:
            raise RefusedError(f"takes longer than {SECONDS_PER_IMAGE:.0f} s to read; save it again")
        return self._stream.read(*size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def check_head(head: bytes, stream: BinaryIO) -> None:
    """Before Pillow opens it: a PPM may begin with a comment without end, which is read byte by byte."""
    if re.match(rb"P[1-6y]\s", head):
        stream.seek(0)
        if not _PPM_HEADER.match(stream.read(_LONGEST_PPM_HEADER)):
            raise RefusedError("damaged PPM image: no size in its first 64 kB; save it again")
        stream.seek(0)


def check_pixels(image: Image.Image, stream: BinaryIO) -> None:
    """Before its pixels are read. Raises RefusedError where they cannot be in the file, or would take for ever."""
    pixels, place = image.width * image.height, stream.tell()
    size = stream.seek(0, 2)
    most = max(_ALWAYS_READ, size * _PIXELS_PER_BYTE.get(image.format or "", _OTHERS))
    if pixels > most:
        raise RefusedError(
            f"says that it has {image.width} x {image.height} pixels, which cannot be in its {size} bytes; "
            "copy or download it again"
        )
    if image.format in ("JPEG", "MPO") and (scans := _scans(stream)) > min(MAX_SCANS, _MAX_SCANNED // pixels):
        raise RefusedError(f"{scans} scans of {image.width} x {image.height} pixels: too many to read; save it again")
    stream.seek(place)


def _scans(stream: BinaryIO) -> int:
    """How many scans a JPEG has, thumbnails' included."""
    stream.seek(0)
    count, last = 0, b""
    while block := stream.read(1 << 20):
        count += (last + block).count(b"\xff\xda")
        last = block[-1:]
    return count


def lacks_data(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether a JPEG that was read ends before its header says: libjpeg makes the rest grey, without an error.

    A grey last pixel is the sign. Whether it is the picture's own shows where more data follow the first scan's: a
    picture that had all of its own stays as it is.
    """
    corner = image.getpixel((image.width - 1, image.height - 1))
    if set(corner if isinstance(corner, tuple) else (corner,)) != {128}:
        return False
    stream.seek(0)
    data = stream.read()
    start = data.find(b"\xff\xda", _after_segments(data))
    end = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, start + 2)
    if start < 0 or end is None:
        return True
    noise = bytes(range(1, 200))
    if restarts := re.findall(rb"\xff([\xd0-\xd7])", data[start : end.start()]):
        noise += bytes([0xFF, 0xD0 + (restarts[-1][0] + 1) % 8]) + noise  # 0xD0 is a multiple of 8
    more = data[: end.start()] + noise + data[end.start() :]
    with Image.open(BytesIO(more), formats=("JPEG",)) as other:
        other.load()
        boxes = ((0, top, image.width, min(top + 64, image.height)) for top in range(0, image.height, 64))
        return any(image.crop(box).tobytes() != other.crop(box).tobytes() for box in boxes)


def _after_segments(data: bytes) -> int:
    """Where the first scan of a JPEG begins: behind its segments, of which a thumbnail may be one."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in (b"\xda", b""):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return place


def hush_libtiff() -> None:
    """libtiff's own words go nowhere: what is wrong is in our error. Without effect where it is built in."""
    import ctypes

    from PIL import _imaging

    try:
        library = ctypes.CDLL(_imaging.__file__)  # finds what it is linked with, whatever its name is
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
    except (AttributeError, OSError):
        pass
