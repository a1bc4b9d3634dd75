"""A disk that becomes full while a gallery is written: an error that says so, and the old gallery whole.

On a tmpfs of its own, where one may be mounted; elsewhere tests/test_gallery_full_disk.py limits the size of files.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from shitu.errors import GalleryWriteError
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery

ROOM = 400_000  # bytes of the tmpfs
COUNT, WIDTH = 200, 64


@cache
def may_mount() -> bool:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    place = folder / "disk"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def trial(seed: int, folder: Path) -> str:
    rng = random.Random(seed)
    method, operation = rng.choice(("Flat", "HNSW8")), rng.choice(("create", "append", "compact", "remove"))
    vectors = np.random.default_rng(seed).standard_normal((COUNT, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [Item(f"label {n}", f"{n}.jpg") for n in range(COUNT)]
    facts = {"index_method": method, "dist_type": "IP", "fingerprint": ""}
    with small_disk(folder, ROOM) as disk:
        gallery = Gallery.create(disk / "g", vectors, items, **facts)
        change = {
            "create": lambda: Gallery.create(disk / "g", vectors[::-1], items, **facts),
            "append": lambda: gallery.append(vectors, items),
            "compact": gallery.compact,
            "remove": lambda: gallery.remove(range(50)),
        }[operation]
        room = rng.choice((0, 4096, 8192, 20_000, 50_000, 80_000, 120_000, ROOM))
        (disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - room)))
        try:
            change()
            outcome = "done"
        except GalleryWriteError as error:
            outcome = (
                "full" if f"mounted at {disk.resolve()}" in str(error) else f"full, of which disk is not told: {error}"
            )
        again = Gallery.open(disk / "g")
        expected = {("append", "done"): 2 * COUNT, ("remove", "done"): COUNT - 50}.get((operation, outcome), COUNT)
        assert len(again) == expected, (operation, outcome, len(again))
        query = vectors[-8 if (operation, outcome) == ("create", "done") else 60]
        wanted = 7 if (operation, outcome) == ("create", "done") else 60
        assert again.search(query[None], 1)[0][0].id == wanted
        (disk / "filler").unlink()
        again.append(vectors[:1], items[:1])
        assert Gallery.open(disk / "g").verify() == []
    return f"{operation}: {outcome}"
