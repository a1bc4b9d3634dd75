"""A gallery of ours written as PaddleClas or PaddleX keeps one."""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
import yaml
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.files import replace_file, sync_folder
from shitu.gallery.base import Facts, GalleryReader, Item
from shitu.gallery.foreign import INDEX, PICKLE, YAML
from shitu.gallery.read.store import POINTER
from shitu.gallery.write.choose import is_auto
from shitu.gallery.write.lock import writing
from shitu.gallery.write.make_index import build_index, write_index

log = logging.getLogger(__name__)
Write = Callable[[BinaryIO], Any]
_STAGED = ".shitu-export-"  # before a file's name, until all are whole


def export_gallery(gallery: GalleryReader, out_dir: str | os.PathLike[str], form: str) -> int:
    """Write `vector.index` and the id_map of `form` (a key of FORMS) as that program does; returns how many entries.

    Ids stay, except for hamming, whose ids both programs count from 0. An earlier export is replaced: whoever reads
    finds it, the new one or, for as long as two files are renamed, no id_map, which both programs refuse; never the
    names of one with the vectors of the other. Raises GalleryError.
    """
    folder = Path(out_dir)
    if folder.resolve() == Path(gallery.url).resolve() or (folder / POINTER).exists():
        raise GalleryError(f"{folder} is a gallery of shitu: export to another folder")
    name, entries_of = FORMS[form]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        items = list(gallery.items())
        packed = gallery.facts.measure.packed
        numbers = range(len(items)) if packed else [item.id for item in items]
        ids = np.array(list(numbers), np.int64)
        # Binary indexes stand without ids there; for floats both programs wrap them in IDMap2.
        vectors = np.concatenate([block for _, block in gallery.blocks()] or [_none(gallery.facts)])
        rows, facts = np.arange(len(ids)), gallery.facts
        facts = replace(facts, index_method=_plain(facts)) if is_auto(facts.index_method) else facts
        index = build_index(vectors, rows, ids, facts.index_method, facts.measure, for_others=True)
        write = entries_of(dict(zip(numbers, items, strict=True)), facts)
        _put(folder, {INDEX: lambda file: write_index(index, file, with_ids=not packed), name: write})
    return len(items)


def _plain(facts: Facts) -> str:
    """The method for those who know no `auto`."""
    return "Flat" if facts.measure.packed else "HNSW32"


def _put(folder: Path, files: dict[str, Write]) -> None:
    """Write the files beside their places; then take away what names entries, put the index, and its names last."""
    try:
        for name, write in files.items():
            replace_file(folder / (_STAGED + name), write)
        for name in (PICKLE, YAML):
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)  # no id_map of before may outlive the coming index, even where the power fails
        for name in files:
            os.replace(folder / (_STAGED + name), folder / name)
            sync_folder(folder)
    except BaseException:
        for name in files:
            with suppress(OSError):
                (folder / (_STAGED + name)).unlink(missing_ok=True)
        raise


def _paddleclas(items: dict[int, Item], facts: Facts) -> Write:
    """PaddleClas cuts an entry at any white space: the second piece is the name."""
    cut = sorted({item.label for item in items.values() if len(item.label.split()) != 1})
    if cut:
        shown = ", ".join(f"{label!r} as {(label.split() or ['nothing'])[0]!r}" for label in cut[:3])
        log.warning(
            "PaddleClas cuts labels at the first blank; it will show %s%s. `--format paddlex` keeps them whole, or "
            "change these %d labels",
            *(shown, ", ..." if len(cut) > 3 else "", len(cut)),
        )
    lines = {number: f"{_uncut(item.image) or '-'}\t{item.label}" for number, item in items.items()}
    return lambda file: pickle.dump(lines, file, protocol=4)


def _uncut(path: str) -> str:
    """The path with its white space as in a URL: `a b.jpg` -> `a%20b.jpg`; PaddleClas opens none of them."""
    return re.sub(r"\s", lambda found: quote(found[0]), path)


def _paddlex(items: dict[int, Item], facts: Facts) -> Write:
    """PaddleX keeps labels alone; of the index's kind it asks whether it is HNSW32, which nothing is removed from."""
    content = {
        "index_type": "IVF" if facts.index_method.startswith("IVF") else facts.index_method,
        "metric_type": facts.dist_type,
        "id_map": {number: item.label for number, item in items.items()},
    }
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(content, Dumper=dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return lambda file: file.write(text.encode("utf-8"))


def _none(facts: Facts) -> NDArray[Any]:
    return np.empty((0, facts.measure.width(facts.dimension)), facts.measure.dtype)


FORMS: dict[str, tuple[str, Callable[[dict[int, Item], Facts], Write]]] = {
    "paddleclas": (PICKLE, _paddleclas),
    "paddlex": (YAML, _paddlex),
}
