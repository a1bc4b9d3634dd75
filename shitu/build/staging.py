"""Embeddings that a build has already computed: what a killed build does not have to do again.

Two append-only files in `index_dir/building`: `rows.jsonl`, one line per image, and `vectors.bin`. A line is written
after its vectors and carries their checksum, so a half-written tail is recognised and dropped.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.gallery.write.lock import writing
from shitu.results import Box


@dataclass(frozen=True, slots=True)
class Staged:
    """One image: content hash, where its vectors start in `vectors.bin` (in rows), one box or None per vector."""

    sha256: str
    start: int
    boxes: tuple[Box | None, ...]


class Staging:
    """Keeps embeddings by `Source.identity`; `key` names the models and settings that made them.

    Raises GalleryError (GalleryWriteError for a full disk).
    """

    def __init__(self, folder: Path, *, key: str, width: int, dtype: str) -> None:
        self.folder, self._width, self._dtype = folder, width, np.dtype(dtype)
        self._key = f"{key} {width} {dtype}"
        self._rows: dict[str, Staged] = {}
        self.count = 0
        with writing(folder):
            self._open()

    def _open(self) -> None:
        folder, header = self.folder, self.folder / "key"
        strange = folder.is_dir() and not all(path.is_file() for path in folder.iterdir())  # a stranger's pipe
        if strange or not header.is_file() or header.read_text(encoding="utf-8") != self._key:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        header.write_text(self._key, encoding="utf-8")
        end = self._read()
        self._lines = (folder / "rows.jsonl").open("r+b")
        self._lines.truncate(end)
        self._lines.seek(end)
        self._vectors = (folder / "vectors.bin").open("r+b")
        self._vectors.truncate(self.count * self._row_bytes)
        self._vectors.seek(0, os.SEEK_END)

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # closing writes what a full disk has refused before
        with suppress(OSError) if error else writing(self.folder):
            self._lines.close()
            self._vectors.close()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, identity: str) -> Staged | None:
        """What is known of an image; None when it is new or was changed since."""
        return self._rows.get(identity)

    def add(self, identity: str, sha256: str, boxes: tuple[Box | None, ...], vectors: NDArray[Any]) -> Staged:
        """Keep `vectors` (len(boxes), width)."""
        data = np.ascontiguousarray(vectors, self._dtype).tobytes()
        line = {"file": identity, "sha256": sha256, "boxes": boxes, "crc": zlib.crc32(data)}
        with writing(self.folder):
            self._vectors.write(data)
            self._vectors.flush()
            self._lines.write(json.dumps(line, ensure_ascii=True, default=int).encode() + b"\n")
            self._lines.flush()
        return self._remember(identity, sha256, boxes)

    def vectors(self) -> NDArray[Any]:
        """All rows, (count, width), mapped from the file rather than read."""
        self._vectors.flush()
        if not self.count:
            return np.empty((0, self._width), self._dtype)
        return np.memmap(self.folder / "vectors.bin", self._dtype, "r", shape=(self.count, self._width))

    def delete(self) -> None:
        self._lines.close()
        self._vectors.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _row_bytes(self) -> int:
        return self._width * self._dtype.itemsize

    def _remember(self, identity: str, sha256: str, boxes: tuple[Box | None, ...]) -> Staged:
        self._rows[identity] = staged = Staged(sha256, self.count, boxes)
        self.count += len(boxes)
        return staged

    def _read(self) -> int:
        """Fill `_rows` from the files; the offset after the last line whose vectors are whole."""
        end = 0
        (self.folder / "rows.jsonl").touch()
        (self.folder / "vectors.bin").touch()
        with (self.folder / "rows.jsonl").open("rb") as lines, (self.folder / "vectors.bin").open("rb") as vectors:
            for line in lines:
                try:
                    row = json.loads(line)
                    boxes = tuple(None if box is None else tuple(box) for box in row["boxes"])
                    data = vectors.read(len(boxes) * self._row_bytes)
                    whole = len(data) == len(boxes) * self._row_bytes and zlib.crc32(data) == row["crc"]
                    if not whole or not line.endswith(b"\n"):
                        break
                    self._remember(row["file"], row["sha256"], boxes)
                except (ValueError, KeyError, TypeError, RecursionError):
                    break
                end += len(line)
        return end
