"""A gallery copied from one place to another, of whatever kinds: read in blocks that are kept, committed at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.files import replace_file
from shitu.gallery.base import Facts, GalleryReader, Item
from shitu.gallery.change import GalleryWriter, new_facts
from shitu.gallery.open import open_reader, open_writer
from shitu.gallery.stores.state import sum_of
from shitu.gallery.write.lock import writing

BLOCK_ROWS = 4096
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Copied:
    """entries, and how many of them an earlier try had read; checksum: of all that they are, whatever their ids."""

    entries: int
    resumed: int
    checksum: str


def copy_gallery(
    source: GalleryReader, to: str, *, instead: bool = False, progress: Progress = lambda count: None
) -> Copied:
    """Make a gallery at `to` of all entries of `source`, and compare it with what was read.

    Entries keep their order where ids are given in order, and get new ids. What was read is kept beside `to`, so that
    a copy that was broken off goes on. instead: the gallery at `to` is replaced. Raises GalleryError, GalleryBusyError.
    """
    if source.url == to or Path(source.url).resolve() == Path(to).resolve():
        raise GalleryError(f"{to} cannot be copied onto itself; name another place")
    _check_free(to, instead)
    with open_writer(to) as writer, writing(writer.staging):
        kept = _Kept(writer.staging, source)
        resumed = kept.count
        progress(resumed)
        kept.read(progress)
        had_one = _commit(writer, kept, _facts_of(source.facts), to)
        copy = open_reader(to, load_index=False)
        count, checksum = len(copy), _checksum(copy)
        if (count, checksum) != (kept.count, kept.checksum):
            if had_one:
                writer.undo()
            raise GalleryError(
                f"{to} is no copy of {source.url}: {count:,} entries with checksum {checksum:016x}, read were "
                f"{kept.count:,} with {kept.checksum:016x}; {'it is as before' if had_one else 'do not use it'}"
            )
        shutil.rmtree(writer.staging, ignore_errors=True)
    return Copied(count, resumed, f"{checksum:016x}")


def _check_free(to: str, instead: bool) -> None:
    held = 0
    with suppress(GalleryError):  # told by who writes there, if it is not that there is none
        held = len(open_reader(to, load_index=False))
    if held and not instead:
        raise GalleryError(f"{to} holds {held:,} entries already; --yes replaces them, another place keeps both")


def _facts_of(facts: Facts) -> Facts:
    """Those of another gallery of the same model."""
    made = new_facts(facts.dimension, facts.dist_type, facts.index_method, facts.fingerprint)
    told = {field.name: getattr(facts, field.name) for field in fields(Facts)}
    return replace(Facts(**told), uid=made.uid, created=made.created)


def _commit(writer: GalleryWriter, kept: _Kept, facts: Facts, to: str) -> bool:
    """Whether there was a gallery before."""
    had_one = False
    with suppress(GalleryError):
        had_one = bool(open_reader(to, load_index=False).facts.uid)
    change = writer.begin(facts)
    for vectors, items in kept.blocks():
        change.add(vectors, items)
    try:
        change.commit()
    except ValueError as error:
        raise GalleryError(f"{to}: {error}; `shitu gallery verify` of the other names such entries") from error
    return had_one


def _checksum(gallery: GalleryReader) -> int:
    total = 0
    for ids, vectors in gallery.blocks():
        items = gallery.lookup(ids.tolist())
        total += sum(sum_of(items[number], vector) for number, vector in zip(ids.tolist(), vectors, strict=True))
    return total % 2**64


class _Kept:
    """Blocks of entries that were read: NNNNNN.npy, and NNNNNN.jsonl, written last, which says that both are whole."""

    def __init__(self, folder: Path, source: GalleryReader) -> None:
        self._folder, self._source = folder, source
        self._last, self.count, self.checksum, self._blocks = -1, 0, 0, 0
        newest = max((label.newest for label in source.labels()), default=-1)
        key = json.dumps(["copy 1", source.url, source.facts.uid, len(source), newest])
        named = folder / "key"
        strange = folder.is_dir() and not all(path.is_file() for path in folder.iterdir())  # a stranger's pipe
        if strange or not (named.is_file() and named.read_text(encoding="utf-8", errors="replace") == key):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            named.write_text(key, encoding="utf-8")
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # from there on it is read again
            while True:
                self._add(np.load(self._path("npy"), mmap_mode="r"), list(self._items(self._blocks)))

    def _path(self, ending: str, block: int | None = None) -> Path:
        return self._folder / f"{self._blocks if block is None else block:06d}.{ending}"

    def _add(self, vectors: NDArray[np.generic], items: list[Item]) -> None:
        sums = [sum_of(item, vector) for item, vector in zip(items, vectors, strict=True)]
        self.checksum = (self.checksum + sum(sums)) % 2**64
        self.count, self._last, self._blocks = self.count + len(items), items[-1].id, self._blocks + 1

    def read(self, progress: Progress) -> None:
        """All that is not kept yet."""
        while items := self._source.page(after=self._last, limit=BLOCK_ROWS):
            vectors = self._source.vectors_of([item.id for item in items])
            lines = [json.dumps([item.id, item.label, item.image, item.sha256, item.box]) for item in items]
            replace_file(self._path("npy"), lambda file, vectors=vectors: np.save(file, vectors))  # type: ignore[misc]
            replace_file(self._path("jsonl"), lambda file, lines=lines: file.write("\n".join(lines).encode()))  # type: ignore[misc]
            self._add(vectors, items)
            progress(len(items))
        if self.count != len(self._source):
            raise GalleryError(f"{self._source.url} was changed while it was read; run the same command again")

    def blocks(self) -> Iterator[tuple[NDArray[np.generic], Iterator[Item]]]:
        for block in range(self._blocks):
            yield np.load(self._path("npy", block), mmap_mode="r"), self._items(block)

    def _items(self, block: int) -> Iterator[Item]:
        """Read when they are asked for."""
        with self._path("jsonl", block).open(encoding="utf-8") as lines:
            for line in lines:
                number, label, image, sha256, box = json.loads(line)
                yield Item(str(label), str(image), str(sha256), None if box is None else tuple(box), int(number))
