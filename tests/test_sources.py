"""Sources as people have them: web addresses, pages, HEIC and AVIF, pictures in memory, and what is passed over."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shitu.errors import ImageError, UsageError
from shitu.images import formats
from shitu.images.find import find_images
from shitu.images.read import read_image
from shitu.sources import pdf, tiff, web
from shitu.sources.memory import picture_of
from shitu.sources.read import find_sources, read_source, read_sources
from tests.conftest import DEMO

NAMES = ("beach", "desk", "fridge")
PHOTOS = [Image.open(DEMO / "photos" / f"{name}.jpg").convert("RGB") for name in NAMES]
JPEG = (DEMO / "photos" / "beach.jpg").read_bytes()


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.server.act(self)

    def answer(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(act: Callable[[Handler], None]) -> Iterator[str]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.act, server.daemon_threads = act, True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def outcome(source: str) -> str:
    ((name, error),) = read_source(source)
    assert name.partition("#")[0] == source
    assert isinstance(error, ImageError)
    return str(error)


# --- web ---


def test_a_web_address_is_read_like_the_file_behind_it(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with serving(lambda handler: handler.answer(JPEG)) as url:
        names = list(find_sources([str(tmp_path / "a.jpg"), f"{url}/b.jpg?size=1"]))
        assert names == [str(tmp_path / "a.jpg"), f"{url}/b.jpg?size=1"]
        (_, first), (_, second) = read_sources(names)
    np.testing.assert_array_equal(first, second)


def test_redirects_stay_on_the_web(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG)

    def act(handler: Handler) -> None:
        to = {"/web": "/end", "/file": secret.as_uri(), "/ftp": "ftp://127.0.0.1/a.jpg"}
        if handler.path in to:
            handler.answer(b"", 302, Location=to[handler.path])
        else:
            handler.answer(JPEG)

    with serving(act) as url:
        ((_, picture),) = read_source(f"{url}/web")
        np.testing.assert_array_equal(picture, read_image(secret))
        assert "302" in outcome(f"{url}/file")
        assert "302" in outcome(f"{url}/ftp")


def drip(handler: Handler, head: bytes) -> None:
    """A byte now and then for ever, and before that all of `head`."""
    handler.wfile.write(head)
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
def test_a_server_that_drips_is_left_alone(head: bytes) -> None:
    """In its status line, its headers or its content: no single read ever times out."""
    with serving(lambda handler: drip(handler, head)) as url, pytest.raises(ImageError, match=r"within 0\.5 s"):
        web.fetch(f"{url}/a.jpg", seconds=0.5)


def test_a_web_address_that_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_BYTES", 1000)
    pages = {
        "/html": lambda handler: handler.answer(b"<html>no</html>"),
        "/gone": lambda handler: handler.answer(b"", 404),
        "/large": lambda handler: handler.answer(JPEG),
        "/cut": lambda handler: handler.answer(JPEG[:900], **{"Content-Length": "950"}),
    }
    with serving(lambda handler: pages[handler.path](handler)) as url:
        assert "a web page" in outcome(f"{url}/html")
        assert "404" in outcome(f"{url}/gone")
        assert "more than 0 MB" in outcome(f"{url}/large")
        assert "ended after 900 of 950" in outcome(f"{url}/cut")
    assert "no connection" in outcome("http://127.0.0.1:9/a.jpg")
    for inputs in (["ftp://127.0.0.1/a.jpg"], ["http://127.0.0.1:9/a.jpg", "gone.jpg"]):
        with pytest.raises(UsageError, match="no such file"):
            find_sources(inputs)  # not consumed


# --- pages ---


@pytest.mark.parametrize("big", [False, True])
def test_each_page_of_a_tiff_is_a_picture(tmp_path: Path, big: bool) -> None:
    path = str(tmp_path / "扫描.tif")
    PHOTOS[0].save(path, save_all=True, append_images=PHOTOS[1:], compression=None if big else "tiff_lzw", big_tiff=big)
    assert (Path(path).read_bytes()[2] == 43) == big
    pages = list(read_source(path))
    assert [name for name, _ in pages] == [f"{path}#page={number}" for number in (1, 2, 3)]
    for (_, picture), photo in zip(pages, PHOTOS, strict=True):
        np.testing.assert_array_equal(picture, photo)


def test_one_page_keeps_the_name_and_previews_are_no_pages(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tif")
    PHOTOS[0].save(path)
    assert [name for name, _ in read_source(path)] == [path]
    preview = PHOTOS[0].resize((90, 60))
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    PHOTOS[0].save(path, save_all=True, append_images=[preview])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert [name for name, _ in read_source(path)] == [path]


def test_damaged_tiffs_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories that go round in a circle, are cut off, or too many; a page that is damaged leaves the others."""
    path = tmp_path / "a.tif"
    PHOTOS[0].resize((30, 20)).save(path, save_all=True, append_images=[photo.resize((30, 20)) for photo in PHOTOS[1:]])
    data = path.read_bytes()
    with path.open("rb") as stream:
        layout = tiff._layout(stream)
        first, second, third = tiff._directories(stream, layout)
    end = third + 2 + 12 * layout.read(BytesIO(data), third, "H")
    circle = bytearray(data)
    circle[end : end + 4] = first.to_bytes(4, "little")
    path.write_bytes(circle)
    assert len(list(read_source(str(path)))) == 3
    broken = bytearray(data)
    broken[second : second + 40] = bytes(40)
    broken[second] = 1
    path.write_bytes(broken)
    kinds = [isinstance(picture, ImageError) for _, picture in read_source(str(path))]
    assert kinds[0] is False
    rng = np.random.default_rng(0)
    for _ in range(80):
        mixed = bytearray(data)
        for place in rng.integers(0, len(data), 20):
            mixed[place] = rng.integers(256)
        path.write_bytes(mixed[: rng.integers(8, len(data) + 1)])
        assert len(list(read_source(str(path)))) <= 4
    monkeypatch.setattr(tiff, "MAX_PAGES", 2)
    path.write_bytes(data)
    *pages, (_, last) = read_source(str(path))
    assert len(pages) == 2
    assert "more than 2 pages" in str(last)


def test_each_page_of_a_pdf_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    path = str(tmp_path / "目录.pdf")
    PHOTOS[0].save(path, save_all=True, append_images=PHOTOS[1:], resolution=150)
    pages = list(read_source(path))
    assert [name for name, _ in pages] == [f"{path}#page={number}" for number in (1, 2, 3)]
    for (_, picture), photo in zip(pages, PHOTOS, strict=True):
        assert not isinstance(picture, ImageError)
        assert picture.shape[:2] == pytest.approx((photo.height, photo.width), abs=1)
        same = picture[: photo.height, : photo.width].astype(int) - np.asarray(photo)[: len(picture)]
        assert np.abs(same).mean() < 12  # JPEG inside, and resampled by a pixel


def test_a_document_that_hangs_or_bursts_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pypdfium2")
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7\nnothing that a PDF has")
    assert "not a PDF document that can be read" in outcome(str(path))
    child = tmp_path / "child.py"
    monkeypatch.setattr(pdf.os.path, "join", lambda *parts: str(child))  # its own program, as if pdfium went wrong
    child.write_text("import time; time.sleep(60)")
    with path.open("rb") as stream:
        ((_, error),) = pdf.pdf_pages(stream, "a.pdf", seconds=0.3)
    assert "takes longer than 0.3 s" in str(error)
    child.write_text("import os; os.abort()")
    assert "within the memory" in outcome(str(path))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    monkeypatch.setattr(formats, "reads_suffix", lambda suffix: False)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    for name in ("a.pdf", "a.heic"):
        assert "pip install 'shitu[formats]'" in outcome(str(tmp_path / name))


# --- HEIC, AVIF, what is passed over ---


@pytest.mark.parametrize("suffix", ["heic", "avif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photos_of_phones_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    if not formats.reads_suffix(f".{suffix}"):
        pytest.skip(f"no library for {suffix} is installed")
    formats.more_formats(b"\0\0\0\x18ftypheic")  # so that Pillow can write one
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = tmp_path / f"IMG_1.{suffix.upper()}"
    photo = PHOTOS[0].resize((360, 270))
    photo.save(path, "HEIF" if suffix == "heic" else "AVIF", quality=80, exif=tags.tobytes())
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    wanted = photo.transpose(turns[orientation]) if orientation in turns else photo
    assert list(find_images([str(tmp_path)])) == [str(path)]
    picture = read_image(path)
    assert picture.shape == (wanted.height, wanted.width, 3)
    assert np.abs(picture.astype(int) - np.asarray(wanted)).mean() < 6


def test_a_folder_says_what_it_passes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, a folder of iPhone photos was passed over without a word."""
    monkeypatch.setattr("shitu.images.find.reads_suffix", lambda suffix: False)
    for name in ("a.jpg", "IMG_1.HEIC", "b/IMG_2.heic", "b/film.MOV", "scan.pdf", "IMG_3.CR2", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING, "shitu"):
        assert list(find_images([str(tmp_path)])) == [str(tmp_path / "a.jpg")]
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "2 HEIC photos (.heic .heif .hif) passed over: to read them: pip install 'shitu[formats]'" in told
    assert "1 video" in told
    assert "--every" in told
    assert "1 PDF document" in told
    assert "1 raw photo" in told
    assert "notes" not in told
    with pytest.raises(UsageError, match=r"no image in this folder.*1 HEIC photo .*1 video"):
        find_images([str(tmp_path / "b")])


# --- memory ---


def test_pictures_in_memory() -> None:
    photo = np.asarray(PHOTOS[0])
    np.testing.assert_array_equal(picture_of(photo, "a"), photo)
    np.testing.assert_array_equal(picture_of(photo[:, :, ::-1], "a", bgr=True), photo)
    np.testing.assert_array_equal(picture_of(PHOTOS[0], "a", bgr=True), photo)  # of arrays alone
    np.testing.assert_array_equal(picture_of(JPEG, "a"), read_image(DEMO / "photos" / "beach.jpg"))
    grey = picture_of(photo[:, :, 0], "a")
    np.testing.assert_array_equal(grey, np.repeat(photo[:, :, :1], 3, axis=2))
    clear = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    assert (picture_of(clear, "a") == 255).all()
    assert (picture_of(clear, "a", bgr=True) == 255).all()


@pytest.mark.parametrize(
    "source", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), 7]
)
def test_what_is_no_picture_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match=r"wanted is a path.*RGB unless bgr=True"):
        picture_of(source, "a")
    with pytest.raises(ImageError, match="not an image"):
        picture_of(b"nothing", "a")
