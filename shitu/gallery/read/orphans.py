"""What dead writers left in a gallery's folder: swept by the next writer, told of by `verify`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from shitu.errors import GalleryError
from shitu.files import PARTS
from shitu.gallery.read.items import ItemDb
from shitu.gallery.read.store import GENERATION, ITEMS, POINTER, previous_generation


def orphans(index_dir: Path, folder: Path | None) -> list[Path]:
    """Files and folders of ours that the current generation does not use."""
    kept = {folder, previous_generation(index_dir)}
    found = [*index_dir.glob(POINTER + ".tmp"), *index_dir.glob(PARTS)]
    with suppress(GalleryError, FileNotFoundError):  # a damaged database does not say what it uses
        if folder is not None:
            db = ItemDb.open(folder / ITEMS)
            meta = db.meta()
            db.close()
            found += [path for path in folder.glob("index-*.faiss") if path.name != meta.index_file]
            found += [path for path in folder.glob("undo-*.db*") if not meta.undo or meta.undo not in path.name]
            if meta.undo:  # then that, and not the generation before, is what can be undone
                kept = {folder}
    found += [path for path in index_dir.glob("gen-*") if GENERATION.fullmatch(path.name) and path not in kept]
    return sorted(found)
