"""An annotated video: frames with boxes and names, put in its place whole when it is complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shitu.errors import ShituError, UsageError
from shitu.images.read import Picture

_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


class VideoRecorder:
    """A context; `write` adds a frame, shown for `seconds`. The first frame's size is that of the video.

    What is there under this name is replaced at the end, also when the run was interrupted. Raises UsageError,
    ShituError.
    """

    def __init__(self, path: str, seconds: float) -> None:
        self._path, self._rate = Path(path), 1 / seconds
        self._part = self._path.with_name(f".{self._path.stem}.part{self._path.suffix}")
        self._writer: Any = None
        self._size = (0, 0)
        if self._path.suffix.lower() not in _CODECS:
            raise UsageError(f"--video {path}: wanted a name that ends in .mp4 or .avi")
        folder = self._path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or self._path.is_dir():
            raise UsageError(f"--video {path}: cannot be written; make the folder first, or name another file")

    def __enter__(self) -> VideoRecorder:
        return self

    def write(self, picture: Picture) -> None:
        """(h, w, 3) uint8 RGB; of another size than the first, it is made to fit."""
        import cv2

        if self._writer is None:
            height, width = picture.shape[:2]
            self._size = (width - width % 2, height - height % 2)  # MPEG-4 wants even sides
            codec = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._part), codec, self._rate, self._size)
            if not self._writer.isOpened():
                raise ShituError(f"--video {self._path}: OpenCV cannot write this kind of video; try .avi")
        if picture.shape[1::-1] != self._size:
            picture = np.asarray(Image.fromarray(picture).resize(self._size))
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.release()
            os.replace(self._part, self._path)
