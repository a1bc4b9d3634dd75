"""A gallery of ours written as PaddleClas keeps one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.files import replace_file
from shitu.gallery.base import Facts, GalleryReader
from shitu.gallery.foreign import INDEX, PICKLE
from shitu.gallery.write.lock import writing
from shitu.gallery.write.make_index import build_index, write_index


def export_paddleclas(gallery: GalleryReader, out_dir: str | os.PathLike[str]) -> int:
    """Write `vector.index` and `id_map.pkl` as PaddleClas's build_gallery does; returns the number of entries.

    Ids stay, except for hamming, whose ids PaddleClas counts from 0. Raises GalleryError.
    """
    folder = Path(out_dir)
    if folder.resolve() == Path(gallery.url).resolve():
        raise GalleryError(f"{folder} is the gallery itself: export to another folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        items = list(gallery.items())
        packed = gallery.facts.measure.packed
        numbers = range(len(items)) if packed else [item.id for item in items]
        lines = {number: f"{item.image or '-'}\t{item.label}" for number, item in zip(numbers, items, strict=True)}
        ids = np.array(list(numbers), np.int64)
        # Binary indexes stand without ids in PaddleClas; for floats it wraps them in IDMap2.
        vectors = np.concatenate([block for _, block in gallery.blocks()] or [_none(gallery.facts)])
        rows, facts = np.arange(len(ids)), gallery.facts
        index = build_index(vectors, rows, ids, facts.index_method, facts.measure)
        replace_file(folder / INDEX, lambda file: write_index(index, file, with_ids=not packed))
        replace_file(folder / PICKLE, lambda file: pickle.dump(lines, file, protocol=4))
    return len(items)


def _none(facts: Facts) -> NDArray[Any]:
    return np.empty((0, facts.measure.width(facts.dimension)), facts.measure.dtype)
