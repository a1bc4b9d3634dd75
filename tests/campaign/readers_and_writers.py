"""Readers in processes of their own beside a writer: each sees one whole moment of the gallery, and never an error."""

from __future__ import annotations

import os
import random
import shutil
import time
import traceback
from pathlib import Path

import numpy as np

from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.gallery.write import changes
from tests.gallery_twin import make

READERS, SECONDS = 2, 4.0


def _items(generation: int) -> list[Item]:
    return [Item(f"{generation} {n}", f"{n}.jpg") for n in range(60)]


def _read(path: Path, vectors: np.ndarray, until: float) -> int:
    """How many times the gallery was opened or refreshed, and found whole."""
    count, gallery = 0, Gallery.open(path)
    while time.monotonic() < until:
        gallery = Gallery.open(path) if count % 3 == 0 else gallery.refreshed()
        labels = {match.label.split()[0] for each in gallery.search(vectors[:3], 30) for match in each}
        assert len(labels) == 1, f"two moments in one answer: {labels}"
        assert len(gallery) in range(40, 200)
        if count % 7 == 0:
            assert not [each for each in Gallery.open(path).verify() if "belongs to no gallery" not in each]
        count += 1
    return count


def trial(seed: int, folder: Path) -> str:
    rng, path = random.Random(seed), folder / "g"
    shutil.rmtree(path, ignore_errors=True)
    changes.LEAST_LAG = 6
    vectors = make(np.random.default_rng(seed), 60, "IP", 0)
    facts = {"index_method": rng.choice(("Flat", "HNSW8")), "dist_type": "IP", "fingerprint": ""}
    gallery, generation = Gallery.create(path, vectors, _items(0), **facts), 0
    until = time.monotonic() + SECONDS
    readers = []
    for number in range(READERS):
        child = os.fork()
        if child == 0:
            try:
                _read(path, vectors, until)
                os._exit(0)
            except BaseException:
                (folder / f"reader{number}").write_text(traceback.format_exc())
                os._exit(1)
        readers.append(child)
    written = 0
    while time.monotonic() < until:
        change = rng.randrange(4)
        if change == 0 or len(gallery) > 100:
            generation += 1
            gallery = Gallery.create(path, vectors, _items(generation), **facts)
        elif change == 1:
            gallery.append(vectors[:10], [Item(f"{generation} x", "x.jpg")] * 10)
        elif change == 2:
            gallery.compact()
        elif len(gallery) > 50:
            gallery.remove([item.id for item in list(gallery.items())[-5:]])
        written += 1
    statuses = [os.waitpid(child, 0)[1] for child in readers]
    told = [(folder / f"reader{number}").read_text() for number, status in enumerate(statuses) if status]
    assert not told, told[0][-1500:]
    return f"{written // 20 * 20}+ changes"
