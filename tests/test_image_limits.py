"""Small files that would take all memory or hours, and more pictures at a time than fit: refused, or one by one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import weakref
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shitu.errors import ImageError
from shitu.images import limits, read_ahead, room
from shitu.images.read import decode_image, read_image
from tests.conftest import DEMO

PHOTO = DEMO / "photos" / "desk.jpg"
GIF = b"GIF89a" + struct.pack("<HHBBB", 16000, 16000, 0x80, 0, 0) + bytes(6)
GIF += b"," + struct.pack("<HHHHB", 0, 0, 16000, 16000, 0) + b"\x02\x02\x4c\x01\x00;"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(size: tuple[int, int] = (256, 192)) -> Image.Image:
    with Image.open(PHOTO) as image:
        return image.convert("RGB").resize(size)


def test_a_gif_of_43_bytes_has_no_256_million_pixels() -> None:
    """It took 4.7 GB."""
    assert len(GIF) < 50
    with pytest.raises(ImageError, match="16000 x 16000 pixels, which cannot be in its"):
        decode_image(GIF, "bomb.gif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_plain_white_pictures_are_no_bombs(kind: str) -> None:
    """The most that an encoder can save: one colour, the best compression it has."""
    white = Image.new("1" if kind in ("PNG", "TIFF", "PPM") else "L", (7016, 4960), 255)
    options: dict[str, Any] = {"TIFF": {"compression": "group4"}, "PNG": {"optimize": True}}.get(kind, {})
    if kind == "JPEG":
        options = {"progressive": True, "optimize": True, "quality": 30}
    assert decode_image(saved(white, kind, **options), "white").min() == 255


def with_scans(data: bytes, count: int) -> bytes:
    """A JPEG whose last scan stands there so often."""
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def test_thousands_of_scans_are_refused() -> None:
    """169 kB took 22 s, 2.9 MB hours."""
    data = saved(photo(), "JPEG", progressive=True)
    assert decode_image(with_scans(data, 20), "many.jpg").shape == (192, 256, 3)
    with pytest.raises(ImageError, match="scans of 256 x 192 pixels: too many"):
        decode_image(with_scans(data, 3000), "more.jpg")


def test_a_picture_has_its_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS_PER_IMAGE", -1.0)
    with pytest.raises(ImageError, match="takes longer than"):
        read_image(PHOTO)


def test_a_comment_without_end() -> None:
    with pytest.raises(ImageError, match="no size in its first 64 kB"):
        decode_image(b"P6 #" + b"x" * 200_000, "comment.ppm")
    assert decode_image(b"P6 # made by hand\n1 1 255\n\1\2\3", "x.ppm").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}, {"subsampling": 0}])
def test_a_jpeg_whose_header_claims_more_than_it_holds(options: dict[str, Any]) -> None:
    """libjpeg made the rest grey, without a word."""
    data = bytearray(saved(photo(), "JPEG", **options))
    place = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0") + 5
    data[place : place + 2] = struct.pack(">H", 192 + 160)
    with pytest.raises(ImageError, match="claims more than it holds"):
        decode_image(bytes(data), "claims.jpg")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_that_end_in_grey_are_sound(options: dict[str, Any], mode: str) -> None:
    image = photo((250, 190))
    image.paste((128, 128, 128), (0, 90, 250, 190))
    assert decode_image(saved(image.convert(mode), "JPEG", **options), "grey.jpg")[-1, -1].tolist() == [128] * 3
    plain = Image.new(mode, (90, 70), (128,) * 3 if mode == "RGB" else 128)
    assert (decode_image(saved(plain, "JPEG", **options), "plain.jpg") == 128).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_make_the_picture_that_one_piece_makes(
    mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65535, (37, 23), np.uint16))
    elif mode == "F":
        image = Image.fromarray(rng.random((37, 23), np.float32))
    else:
        image = Image.fromarray(rng.integers(0, 255, (37, 23, 4), np.uint8), "RGBA").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, "TIFF" if mode in ("F", "CMYK") else "PNG", exif=exif)
    whole = decode_image(data, "whole")
    monkeypatch.setattr("shitu.images.read._STRIP", 50)
    assert np.array_equal(decode_image(data, "strips"), whole)
    assert whole.flags.c_contiguous
    assert whole.flags.writeable
    assert whole.shape == ((37, 23, 3) if orientation < 5 else (23, 37, 3))


def test_no_more_pixels_are_read_ahead_than_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight pictures were, of whatever size: twelve of 256 megapixels took 10.7 GB."""
    for number in range(12):
        photo((200, 200)).save(tmp_path / f"{number:02}.png")
    monkeypatch.setattr(room, "PIXELS_AHEAD", 100_000)  # two pictures and a half
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most, lock = 0, threading.Lock()

    def read(path: Path) -> np.ndarray:
        nonlocal most
        picture = read_image(path)
        with lock:
            alive.add(_Alive(picture))
            most = max(most, len(room_of()._taken))
        return picture

    def room_of() -> room.Room:
        return room._of_thread.place[0]

    paths = sorted(tmp_path.iterdir())
    held = list(read_ahead.map_ahead(read, paths, 8))  # a consumer that lets none go must not wait for ever
    assert len(held) == 12
    assert most <= 3  # two, and the one that the consumer waits for


class _Alive:
    def __init__(self, picture: np.ndarray) -> None:
        self.picture = picture


def test_a_picture_larger_than_all_room_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PIXELS_AHEAD", 10)
    read = list(read_ahead.read_ahead([str(PHOTO)] * 4))
    assert [np.shape(image)[2] for _, image in read] == [3] * 4


def test_libtiff_says_nothing_of_its_own(tmp_path: Path) -> None:
    noise = Image.effect_noise((64, 64), 50)
    data = bytearray(saved(noise, "TIFF", compression="tiff_lzw"))
    data[20:2000] = os.urandom(1980)
    (tmp_path / "broken.tif").write_bytes(data)
    code = "import sys; from shitu.images.read_ahead import read_ahead; print(list(read_ahead(sys.argv[1:])))"
    command = [sys.executable, "-c", code, tmp_path / "broken.tif"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "damaged" in done.stdout
    assert done.stderr == ""
