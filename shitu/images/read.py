"""Image files to arrays: every kind of pixel to upright 8-bit RGB, every kind of damage to one kind of error."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from shitu.digest import sha256_of_stream
from shitu.errors import ImageError, UsageError
from shitu.images.formats import more_formats
from shitu.images.limits import RefusedError, TimedStream, check_head, check_pixels, hush_libtiff, lacks_data
from shitu.images.room import take_room

Picture = NDArray[np.uint8]

MAX_PIXELS = 256_000_000

# Nothing else is ever tried: Pillow's EPS decoder, for one, would run ghostscript. MPO is opened as JPEG.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
# Pillow refuses above twice this, by default 179 million pixels, and so the photo of a 200-megapixel phone.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# Pillow warns about odd metadata of sound pictures. Once for the process: images are decoded by several threads at
# a time, and `warnings.catch_warnings` holds for all of them alike.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What turns (h, w, 3) upright, by Exif's orientation.
_UPRIGHT: dict[int, Callable[[Picture], Picture]] = {
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.swapaxes(0, 1),
    6: lambda rgb: rgb[::-1].swapaxes(0, 1),
    7: lambda rgb: rgb[::-1, ::-1].swapaxes(0, 1),
    8: lambda rgb: rgb[:, ::-1].swapaxes(0, 1),
}
_STRIP = 1 << 21  # pixels made ready at a time: Pillow holds four bytes for each, and some steps as many again
_ORIENTATION_TAG = 0x0112


def read_image(path: str | Path) -> Picture:
    """The file's first picture, upright: (h, w, 3) uint8 RGB, C-contiguous, writable.

    The pixels of an 8-bit JPEG are those of `cv2.imread`. What is transparent becomes white; 16 bits per channel
    become 8; colour profiles are not applied, as PaddleClas does not.

    Raises ImageError, and nothing else, whatever the file holds.
    """
    with open_image(path) as stream:
        return read_stream(stream, str(path))


def read_with_sha256(path: str | Path) -> tuple[Picture, str]:
    """`read_image` and the SHA-256 of the same bytes."""
    with open_image(path) as stream:
        sha256 = sha256_of_stream(stream)
        stream.seek(0)
        return read_stream(stream, str(path)), sha256


@contextmanager
def open_image(path: str | Path) -> Iterator[BinaryIO]:
    """A regular file to read from; raises ImageError, also where reading fails within the `with`."""
    name = str(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            os.listdir(path)  # a folder that may not be read is reported as that
            raise ImageError(f"{name}: is a folder; name an image, or pass the folder where many are taken")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name}: is not a regular file; save the image to a file first")
        with open(path, "rb") as stream:
            yield stream
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise ImageError(f"{name}: no permission to read it; check its access rights") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"{name}: cannot be opened: {error}; check the path") from None


def several(images: Sequence[Picture]) -> Sequence[Picture]:
    """The images. Raises UsageError for one in place of a list: its rows of pixels would be taken for images."""
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise UsageError(f"one image of shape {images.shape} came, a list of images is wanted: predict([image])")
    return images


def decode_image(data: bytes, name: str) -> Picture:
    """The same from the bytes of a file; `name` is what errors call it."""
    return read_stream(BytesIO(data), name)


def read_stream(stream: BinaryIO, name: str) -> Picture:
    """The same from a stream that can seek; raises ImageError.

    Everything Pillow raises on a malformed file is one kind of news, whatever its type: hence `except Exception`.
    """
    head = stream.read(1024)
    if not head:
        raise ImageError(f"{name}: is empty (0 bytes); copy or download it again")
    stream.seek(0)
    timed: Any = TimedStream(stream)
    try:
        check_head(head, stream)
        image = Image.open(timed, formats=(*_FORMATS, *more_formats(head)))
    except RefusedError as error:
        raise ImageError(f"{name}: {error}") from None
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise _too_large(name, f"{int(count.group()):,}" if count else "too many") from None
    except Exception:
        from shitu.images.not_opened import not_opened

        raise ImageError(not_opened(name, head)) from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _too_large(name, f"{width} x {height}")
        if width < 1 or height < 1:
            raise ImageError(f"{name}: has no pixels ({width} x {height}); save it again")
        try:
            check_pixels(image, stream)
            take_room(width * height)
            return upright_rgb(image, stream)
        except RefusedError as error:
            raise ImageError(f"{name}: {error}") from None
        except MemoryError:
            raise ImageError(f"{name}: {width} x {height} pixels do not fit into memory; shrink the image") from None
        except Exception as error:
            raise ImageError(
                f"{name}: damaged or cut short {image.format} image ({error}); copy or download it again"
            ) from None


def _too_large(name: str, size: str) -> ImageError:
    limit = f"{MAX_PIXELS // 1_000_000} million"
    return ImageError(f"{name}: too large: {size} pixels, at most {limit} are read; shrink the image")


def upright_rgb(image: Image.Image, stream: BinaryIO) -> Picture:
    """Pillow's image, read from `stream`, as `read_image` returns it; its own pixels are freed.

    Raises whatever Pillow does where it is damaged.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # paddledet, once imported, has set it for the whole process
    if image.format == "TIFF":
        hush_libtiff()
    image.load()
    if image.format in ("JPEG", "MPO") and lacks_data(image, stream):
        raise OSError("its header claims more than it holds")
    try:
        # After load(): Pillow itself turns a TIFF, and then removes the tag.
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata of a sound picture
        turn = None
    scale = 255.0 if image.mode == "F" and _greatest(image) <= 1 else 1.0
    if image.width * image.height <= _STRIP:
        rgb = np.array(_rgb(image, scale))
    else:
        rgb = np.empty((image.height, image.width, 3), np.uint8)
        for rows, strip in _strips(image):
            rgb[rows] = _rgb(strip, scale)
    image.im = None  # type: ignore[assignment]  # freed before the turned copy is made
    return rgb if turn is None else np.ascontiguousarray(turn(rgb))


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    step = max(1, _STRIP // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _rgb(image: Image.Image, scale: float) -> NDArray[np.uint8]:
    """What is transparent becomes white. scale: what makes 0..255 of floats."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), scale))
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _greatest(image: Image.Image) -> float:
    """The greatest finite value of a picture of floats."""
    return max(
        float(np.where(np.isfinite(grey), grey, 0).max()) for _, strip in _strips(image) for grey in [np.asarray(strip)]
    )


def _eight_bits(grey: NDArray[Any], scale: float) -> Picture:
    """16-bit whole numbers, or floats of 0..1 (where none exceeds 1) or 0..255, to 0..255."""
    if grey.dtype.kind == "f":
        values = np.where(np.isfinite(grey), grey, 0) * scale
        eight: Picture = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    else:
        eight = ((np.clip(grey, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    return eight
