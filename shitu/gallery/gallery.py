"""The gallery in one folder as one object, for programs that read it and change it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.gallery.base import Block, Facts, GalleryReader, Item, LabelCount
from shitu.gallery.change import Changed, new_facts
from shitu.gallery.reader import FolderReader
from shitu.gallery.write.writer import FolderWriter
from shitu.measure import measure_of
from shitu.results import Match


class Gallery(GalleryReader):
    """An open gallery, a `GalleryReader` that can also be changed; all threads of a process may share it.

    Every call works on the gallery of one moment. What this object changes is seen by the calls that begin later, what
    another process changes by the reader that `refreshed` returns. Galleries that PaddleClas or PaddleX made are opened
    in place and become one of ours with their first change.
    """

    def __init__(self, now: FolderReader, delimiter: str = "\t") -> None:
        self._now, self._delimiter = now, delimiter

    @classmethod
    def open(
        cls,
        index_dir: str | os.PathLike[str],
        *,
        efSearch: int | None = None,  # noqa: N803 (the key of the configuration)
        nprobe: int | None = None,
        delimiter: str = "\t",
        load_index: bool = True,
    ) -> Gallery:
        """Open a gallery of ours, of PaddleClas (vector.index, id_map.pkl) or of PaddleX (vector.index, id_map.yaml).

        efSearch, nprobe: how thoroughly HNSW and IVF look; None for values that rarely miss.
        delimiter: what separates path and label in PaddleClas's entries.
        load_index: False puts reading the index off until the first search (append and remove need none).
        Raises: GalleryError where it is missing, damaged or of another version.
        """
        now = FolderReader.open(index_dir, efSearch=efSearch, nprobe=nprobe, delimiter=delimiter, load_index=load_index)
        return cls(now, delimiter)

    @classmethod
    def create(
        cls,
        index_dir: str | os.PathLike[str],
        vectors: NDArray[Any],
        items: Iterable[Item],
        *,
        index_method: str,
        dist_type: str,
        fingerprint: str,
        model_name: str = "",
    ) -> Gallery:
        """Make a gallery of (n, d) float32 unit vectors, or (n, d / 8) uint8 codes, and their items, in that order.

        Replaces a gallery that is there, at one moment; until then that one stays whole. The vectors may be a memory
        map larger than memory. Ids count from 0.
        Raises: GalleryError (index method, full disk), GalleryBusyError, ValueError (zero or infinite vectors).
        """
        if vectors.ndim != 2:
            raise ValueError(f"vectors have shape {vectors.shape}, wanted (n, d)")
        dimension = measure_of(dist_type).dimension(vectors.shape[1])
        facts = new_facts(dimension, dist_type, index_method, fingerprint, model_name)
        with FolderWriter(Path(index_dir)) as writer:
            change = writer.begin(facts)
            change.add(vectors, items)
            change.commit()
            return cls.open(index_dir, load_index=False)

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        return self._now.path

    @property
    def url(self) -> str:
        return self._now.url

    @property
    def facts(self) -> Facts:
        return self._now.facts

    def __len__(self) -> int:
        return len(self._now)

    def search(self, vectors: NDArray[Any], k: int) -> list[list[Match]]:
        return self._now.search(vectors, k)

    def find(
        self,
        *,
        ids: Iterable[int] | None = None,
        labels: Iterable[str] | None = None,
        images: Iterable[str] | None = None,
        sha256s: Iterable[str] | None = None,
    ) -> list[int]:
        return self._now.find(ids=ids, labels=labels, images=images, sha256s=sha256s)

    def lookup(self, ids: Iterable[int]) -> dict[int, Item]:
        return self._now.lookup(ids)

    def items(self) -> Iterator[Item]:
        return self._now.items()

    def page(self, *, after: int = -1, limit: int = 100, label: str | None = None, text: str = "") -> list[Item]:
        return self._now.page(after=after, limit=limit, label=label, text=text)

    def labels(self, *, text: str = "", after: str = "", limit: int | None = None) -> list[LabelCount]:
        return self._now.labels(text=text, after=after, limit=limit)

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        return self._now.vectors_of(ids)

    def blocks(self) -> Iterator[Block]:
        return self._now.blocks()

    def vectors(self) -> NDArray[Any]:
        """The live vectors in the order of the ids, read-only: a memory map, or a copy where entries were removed."""
        return self._now.store.stored_vectors()

    def refreshed(self) -> Gallery:
        now = self._now.refreshed()
        return self if now is self._now else Gallery(now, self._delimiter)

    def info(self) -> dict[str, Any]:
        return self._now.info()

    def verify(self) -> list[str]:
        return self._now.verify()

    def unchecked(self) -> list[str]:
        return self._now.unchecked()

    def close(self) -> None:
        """Free the database at once; without it that happens when nothing uses the gallery any more."""
        self._now.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- changing -----------------------------------------------------------------------------------------------------

    def append(self, vectors: NDArray[Any], items: Iterable[Item]) -> list[int]:
        """Add entries; returns their ids. All of them are there afterwards, or none.

        Raises: GalleryError, GalleryBusyError, ValueError (shapes, zero or infinite vectors).
        """
        return list(self._change(np.asarray(vectors), items, ()).ids)

    def remove(self, ids: Iterable[int]) -> int:
        """Remove the entries of those ids; returns how many there were. Raises: GalleryError, GalleryBusyError."""
        return self._change(None, (), ids).removed

    def _change(self, vectors: NDArray[Any] | None, items: Iterable[Item], ids: Iterable[int]) -> Changed:
        with self._writer() as writer:
            change = writer.begin()
            if vectors is not None:
                change.add(vectors, items)
            change.remove(ids)
            changed = change.commit()
            self._now = self._now.renewed()
            return changed

    def compact(self) -> None:
        """Write the gallery anew: what was removed leaves the disk, and the index is rebuilt. Ids stay."""
        with self._writer() as writer:
            writer.compact()
            self._now = self._now.renewed()

    def undo(self) -> None:
        """Take the last change back; twice, and it is as before. Raises: GalleryError where there is none."""
        with self._writer() as writer:
            writer.undo()
            self._now = self._now.renewed()

    def _writer(self) -> FolderWriter:
        return FolderWriter(self.path, delimiter=self._delimiter, known=self._now.store)
