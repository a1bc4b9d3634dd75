"""OpenCV's VideoCapture, opened with limits: video files, cameras by number, and streams by address."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from shitu.errors import ShituError, UsageError
from shitu.images.read import Picture, open_image

MAX_PIXELS = 7680 * 4320  # 8K
TIMEOUT_MS = 10_000  # for an answer of a stream's server
STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https")
# Of a file FFmpeg is let try these containers alone: playlists (HLS, concat) would make it read what they name.
_CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mjpeg,gif"
_FILE_OPTIONS = f"format_whitelist;{_CONTAINERS}|protocol_whitelist;file"
_OPTIONS_LOCK = Lock()


@dataclass(frozen=True)
class Frame:
    """`t`: seconds since the first; `picture`: (h, w, 3) uint8 RGB, upright."""

    t: float
    picture: Picture


class Capture:
    """An open video: `grab` goes to the next frame, `picture` decodes it. Raises ShituError if it cannot be opened."""

    def __init__(self, source: str) -> None:
        self.source, self.name = source, shown_name(source)
        self._video = _open(source, self.name)
        width, height, rate, count = (self._video.get(key) for key in _properties())
        if width * height > MAX_PIXELS:
            self._video.release()
            raise ShituError(f"{self.name}: {width:.0f} x {height:.0f} pixels, at most 8K is read; make it smaller")
        self.rate: float = rate if math.isfinite(rate) and 0.1 <= rate <= 1000 else 25.0  # frames per second
        self.count: int = int(count) if math.isfinite(count) and 0 < count < 1 << 40 else 0  # 0: nobody knows

    def grab(self) -> bool:
        """Go to the next frame; False at the end, and where the connection is lost."""
        return bool(self._video.grab())

    def time(self) -> float:
        """Where the file says that the frame belongs, in seconds; may be nonsense."""
        import cv2

        return float(self._video.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def picture(self) -> Picture | None:
        done, frame = self._video.retrieve()
        if not done or frame is None or frame.ndim != 3:
            return None
        return np.ascontiguousarray(frame[:, :, ::-1])  # OpenCV's are BGR

    def close(self) -> None:
        self._video.release()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def is_stream(source: str) -> bool:
    """
    >>> is_stream("RTSP://192.168.1.9/live"), is_stream("file:///a.mp4"), is_stream("a.mp4")
    (True, False, False)
    """
    return source.partition("://")[0].lower() in STREAMS and "://" in source


def is_camera(source: str) -> bool:
    return source.isascii() and source.isdigit() and not os.path.exists(source)


def shown_name(source: str) -> str:
    """What messages, records and file names call it: without the password that an address may hold.

    >>> shown_name("rtsp://admin:secret@192.168.1.9:554/live?token=1"), shown_name("0")
    ('rtsp://192.168.1.9:554/live', 'camera 0')
    """
    if is_camera(source):
        return f"camera {source}"
    if not is_stream(source):
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        raise UsageError("not an address; give one such as rtsp://192.168.1.9/live") from None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _open(source: str, name: str) -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once; its own words on stderr help nobody
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if is_camera(source):
        video = cv2.VideoCapture(int(source))
        wanted = "is it connected, and may you read /dev/video*?"
    elif is_stream(source):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        video = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        wanted = "check the address, name and password; does another player show it?"
    else:
        with open_image(source):  # says what is wrong with a path
            video = _open_file(cv2, os.path.abspath(source))
        wanted = "damaged, or no video; convert it: ffmpeg -i FILE out.mp4"
    if not video.isOpened():
        raise ShituError(f"{name}: cannot be opened as a video: {wanted}")
    return video


def _open_file(cv2: Any, path: str) -> Any:
    key = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # OpenCV's only way to FFmpeg's options; read while it opens
    with _OPTIONS_LOCK:
        before = os.environ.get(key)
        os.environ[key] = _FILE_OPTIONS
        try:
            return cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        finally:
            if before is None:
                del os.environ[key]
            else:
                os.environ[key] = before


def _properties() -> tuple[int, int, int, int]:
    import cv2

    return cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT
