"""Reading images: real encoded files, their pixels known from numpy or OpenCV."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from shitu.errors import ImageError
from shitu.images import read as images
from shitu.images.read import decode_image, read_image

# Under pytest the filter that shitu.images.read sets is replaced; a test below checks that in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RNG = np.random.default_rng(0)
# Smooth, so that a lossy format keeps it recognisable, and different in each corner and channel.
ROWS, COLUMNS = np.mgrid[0:37, 0:53]
PHOTO = np.stack([ROWS * 6, COLUMNS * 4, (ROWS + COLUMNS) * 2], axis=2).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand: what its header says need not be true."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def assert_plain(array: np.ndarray, height: int, width: int) -> None:
    assert array.shape == (height, width, 3)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable


@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30}]
)
@pytest.mark.parametrize("shape", [(37, 53), (64, 64), (1, 1), (17, 200)])
def test_a_jpeg_has_the_pixels_of_opencv(tmp_path: Path, options: dict[str, Any], shape: tuple[int, int]) -> None:
    noise = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise, "JPEG", **options))
    array = read_image(path)
    assert_plain(array, *shape)
    assert (array == cv2.imread(str(path))[:, :, ::-1]).all()


def test_a_grey_jpeg_has_the_pixels_of_opencv(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    path.write_bytes(encoded(PHOTO[:, :, 0], "JPEG"))
    assert (read_image(path) == cv2.imread(str(path))[:, :, ::-1]).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "DIB", "TIFF", "PPM"])
def test_lossless_formats(kind: str) -> None:
    array = decode_image(encoded(PHOTO, kind), "photo")
    assert_plain(array, 37, 53)
    assert (array == PHOTO).all()


def test_lossless_webp_and_compressed_tiff() -> None:
    assert (decode_image(encoded(PHOTO, "WEBP", lossless=True), "photo") == PHOTO).all()
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        assert (decode_image(encoded(PHOTO, "TIFF", compression=compression), "photo") == PHOTO).all()


@pytest.mark.parametrize("name", ["苹果.jpg", "ä b.JPG", "no suffix", "wrong.png"])
def test_the_name_does_not_matter(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(PHOTO, "JPEG"))
    assert_plain(read_image(str(tmp_path / name)), 37, 53)


# Where the picture's first row and column come to lie, by the EXIF standard: undoing it gives the upright picture.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(np.ascontiguousarray(STORED[orientation](PHOTO)), kind, exif=exif, **options)
    array = decode_image(data, "photo")
    assert_plain(array, 37, 53)
    assert np.abs(array.astype(int) - PHOTO).max() <= 4
    if kind == "JPEG":
        (tmp_path / "photo.jpg").write_bytes(data)
        assert (array == cv2.imread(str(tmp_path / "photo.jpg"))[:, :, ::-1]).all()


def test_odd_metadata_is_ignored_and_pillow_keeps_silent(tmp_path: Path) -> None:
    (tmp_path / "broken-exif.jpg").write_bytes(encoded(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    (tmp_path / "small-bomb.png").write_bytes(png(20000, 20000))
    # Not a compressed one: of that libtiff itself, in C, writes a line to stderr before the error is ours.
    (tmp_path / "damaged.tif").write_bytes(encoded(PHOTO, "TIFF")[:900])
    script = """
import sys
from shitu.errors import ImageError
from shitu.images.read import read_image
for path in sys.argv[1:]:
    try:
        print(read_image(path).shape)
    except ImageError as error:
        print("ImageError")
"""
    paths = [str(tmp_path / name) for name in ("broken-exif.jpg", "small-bomb.png", "damaged.tif")]
    command = [sys.executable, "-W", "always", "-c", script, *paths]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "(37, 53, 3)\nImageError\nImageError\n"
    assert result.stderr == ""


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "MPO", "PNG"])
def test_the_first_frame_counts(kind: str) -> None:
    red, blue = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    array = decode_image(encoded(red, kind, save_all=True, append_images=[blue], **options), "moving")
    assert_plain(array, 10, 20)
    assert np.abs(array.astype(int) - [255, 0, 0]).max() <= 2


RAMP = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
EIGHT = [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("data", "grey"),
    [
        (encoded(np.array([EIGHT], dtype=np.uint8), "PNG"), EIGHT),
        (encoded(Image.new("1", (2, 1), 1), "PNG"), [255, 255]),
        (encoded(RAMP, "PNG"), EIGHT),
        (encoded(RAMP, "TIFF"), EIGHT),
        (encoded(Image.fromarray(RAMP).convert("I"), "TIFF"), EIGHT),
        (b"P5 4 1 65535\n" + RAMP.astype(">u2").tobytes(), EIGHT),
        (encoded(np.array([[0, 0.5, 1.0]], dtype=np.float32), "TIFF"), [0, 128, 255]),
        (encoded(np.array([[-4, 99.6, 900, np.nan, np.inf]], dtype=np.float32), "TIFF"), [0, 100, 255, 0, 0]),
    ],
    ids=["8 bits", "1 bit", "png 16", "tiff 16", "tiff 32", "pgm 16", "tiff 0..1", "tiff 0..255"],
)
def test_grey(data: bytes, grey: list[int]) -> None:
    assert decode_image(data, "grey").tolist() == [[[value] * 3 for value in grey]]


def test_big_endian_16_bit_tiff(tmp_path: Path) -> None:
    picture = Image.frombytes("I;16B", (4, 1), RAMP.astype(">u2").tobytes())
    assert decode_image(encoded(picture, "TIFF"), "grey")[0, :, 0].tolist() == EIGHT


def test_16_bits_per_channel(tmp_path: Path) -> None:
    wide = PHOTO.astype(np.uint16) * 257
    for name in ("photo.png", "photo.tif"):
        path = tmp_path / name
        cv2.imwrite(str(path), wide[:, :, ::-1])
        assert (read_image(path) == PHOTO).all(), name


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
        ("P", "PNG"),
        ("P", "BMP"),
        ("RGBA", "TIFF"),
    ],
)
@pytest.mark.parametrize("colour", ["red", "lime", "blue", "white", "black"])
def test_colours_stay(mode: str, kind: str, colour: str) -> None:
    plain = Image.new("RGB", (16, 16), colour)
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(plain, srgb, lab, outputMode="LAB")
        assert picture is not None
    else:
        picture = plain.convert(mode)
    # uncompressed, Pillow 12 (the last for Python 3.10) cannot read its own
    options = {"compression": "tiff_lzw"} if mode == "YCbCr" else {}
    array = decode_image(encoded(picture, kind, **options), "colour")
    tolerance = 40 if mode == "LAB" else 3  # LAB's 8 bits cannot hold every pure colour
    assert np.abs(array.astype(int) - plain.getpixel((0, 0))).max() <= tolerance


def test_the_transparent_becomes_white() -> None:
    hidden = np.zeros((1, 3, 4), dtype=np.uint8)
    hidden[0] = [[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]
    over_white = [[10, 20, 30], [255, 255, 255], [204, 204, 204]]
    assert decode_image(encoded(hidden, "PNG"), "cut-out").tolist() == [over_white]
    assert decode_image(encoded(hidden, "WEBP", lossless=True, exact=True), "cut-out").tolist() == [over_white]
    grey = np.array([[[7, 255], [7, 0]]], dtype=np.uint8)
    assert decode_image(encoded(Image.fromarray(grey, "LA"), "PNG"), "LA")[0].tolist() == [[7] * 3, [255] * 3]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(kind: str) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([9, 9, 9, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    array = decode_image(encoded(picture, kind, transparency=0), "cut-out")
    assert array.tolist() == [[[255, 255, 255], [0, 0, 255]]]


JPEG = encoded(PHOTO, "JPEG")
PNG = encoded(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8), "PNG")
BAD = {
    "empty.jpg": (b"", "is empty"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "damaged or cut short JPEG"),
    "cut-early.jpg": (JPEG[:20], "damaged or cut short JPEG"),
    "cut.png": (PNG[: len(PNG) // 2], "damaged or cut short PNG"),
    "no-pixels-follow.png": (png(40, 40), "damaged or cut short PNG"),
    "cut.webp": (encoded(PHOTO, "WEBP")[:60], "damaged or cut short WebP"),
    "cut.bmp": (encoded(PHOTO, "BMP")[:900], "damaged or cut short BMP"),
    "cut.tif": (encoded(PHOTO, "TIFF")[:900], "damaged or cut short TIFF"),
    "cut.ppm": (encoded(PHOTO, "PPM")[:900], "damaged or cut short PPM"),
    "header.gif": (b"GIF89a\x0a\x00\x0a\x00\x00\x00\x00", "damaged or cut short GIF"),
    "text.jpg": (b"these are not the pixels you are looking for", "not an image"),
    "zeros.jpg": (bytes(5000), "not an image"),
    "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "paper.pdf": (b"%PDF-1.7\n", "a PDF document"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "an EPS drawing"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "damaged or cut short HEIC|HEIC images are not read .* pip install"),
    "new.avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "damaged or cut short AVIF|AVIF images are not read"),
    "film.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0", "a video; `shitu predict --every 0.5s VIDEO`"),
    "layers.psd": (b"8BPS\0\x01", "a Photoshop file"),
    "site.ico": (encoded(PHOTO, "ICO"), "an icon"),
    "sgi.jpg": (encoded(PHOTO, "SGI"), "not an image"),  # Pillow could, but is not let
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "bomb.png": (png(60000, 60000), r"too large: 3,600,000,000 pixels, at most 256 million"),
    "small-bomb.png": (png(20000, 20000), r"too large: 20000 x 20000 pixels"),
    "flat.ppm": (b"P6 0 5 255\n", "PPM|no pixels"),
    "flat.png": (png(0, 5), "PNG|no pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_an_image_error(tmp_path: Path, name: str) -> None:
    data, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match=message):
        decode_image(data, name)


def test_a_bad_path_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path / ("x" * 300))
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a\0b")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")

    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(ImageError, match="no permission"):
        read_image("secret.jpg")


def test_a_200_megapixel_photo_is_not_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "check_pixels", lambda image, stream: None)  # nor making them all
    monkeypatch.setattr(images, "upright_rgb", lambda image, stream: image.size)  # without decoding them all
    assert decode_image(png(16320, 12240), "phone") == (16320, 12240)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_random_damage_raises_nothing_but_image_errors(kind: str) -> None:
    rng = np.random.default_rng(3)
    sound = np.frombuffer(encoded(PHOTO, kind), dtype=np.uint8)
    for _ in range(60):
        broken = sound.copy()
        where = rng.integers(0, min(len(broken), 400), 4)
        broken[where] = rng.integers(0, 256, 4)
        try:
            array = decode_image(broken.tobytes(), "broken")
        except ImageError:
            continue
        assert array.ndim == 3


def test_a_library_that_lets_cut_images_pass_does_not_change_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing paddledet sets this for the whole process."""
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    whole = BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, "JPEG")
    with pytest.raises(ImageError, match="cut short"):
        images.decode_image(whole.getvalue()[:1500], "cut.jpg")
