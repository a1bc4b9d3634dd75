"""A gallery of ours written as PaddleClas keeps one."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shitu.errors import GalleryError
from shitu.gallery.foreign import INDEX, PICKLE
from shitu.gallery.gallery import Gallery
from shitu.gallery.read.faiss_index import VectorIndex
from shitu.gallery.write.lock import writing


def export_paddleclas(gallery: Gallery, out_dir: str | os.PathLike[str]) -> int:
    """Write `vector.index` and `id_map.pkl` as PaddleClas's build_gallery does; returns the number of entries.

    Ids stay, except for hamming, whose ids PaddleClas counts from 0. Raises GalleryError.
    """
    folder = Path(out_dir)
    if folder.resolve() == gallery.path.resolve():
        raise GalleryError(f"{folder} is the gallery itself: export to another folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        items = list(gallery.items())
        numbers = range(len(items)) if gallery.dist_type == "hamming" else [item.id for item in items]
        lines = {number: f"{item.image or '-'}\t{item.label}" for number, item in zip(numbers, items, strict=True)}
        ids = np.array(list(numbers), np.int64)
        # Binary indexes stand without ids in PaddleClas; for floats it wraps them in IDMap2.
        index = VectorIndex.build(gallery.vectors(), np.arange(len(ids)), ids, gallery.index_method, gallery.dist_type)
        _replace(folder / INDEX, lambda file: index.write(file, with_ids=gallery.dist_type != "hamming"))
        _replace(folder / PICKLE, lambda file: pickle.dump(lines, file, protocol=4))
    return len(items)


def _replace(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file beside its place and move it there when it is whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
