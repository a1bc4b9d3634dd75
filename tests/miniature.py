"""A public set's original layout with a few images, and the lists that should come of it."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Miniature:
    """`images` are paths, one per line; `files` other files; `lists` the expected list of each split."""

    images: str
    lists: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    tabs: bool = False

    def write(self, root: Path) -> Path:
        for path in _lines(self.images):
            write(root / path, jpeg())
        for path, text in self.files.items():
            write(root / path, text.encode("utf-8"))
        return root

    def expected(self, split: str) -> str:
        mark = "\t" if self.tabs else " "
        return "".join(f"{line.replace('|', mark)}\n" for line in _lines(self.lists[split]))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@functools.cache
def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()
