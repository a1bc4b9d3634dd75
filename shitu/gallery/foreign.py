"""Galleries of PaddleClas and PaddleX, read without trusting them.

PaddleClas keeps `vector.index` (faiss) and `id_map.pkl`, a pickled {id: "path<delimiter>label"}; PaddleX keeps
`vector.index` and `id_map.yaml` with `index_type`, `metric_type` and `id_map: {id: label}`. A pickle can run code, so
ours knows integers and strings and refuses everything else.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import yaml
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block, Item
from shitu.gallery.read.faiss_index import VectorIndex, core_of, faiss, faiss_errors
from shitu.gallery.read.files import size_of
from shitu.gallery.read.items import ItemDb, Meta, Table
from shitu.gallery.read.store import BLOCK_ROWS, POINTER, among, places_of, rows_among
from shitu.gallery.unpickle import ADVICE, IntsAndStrings
from shitu.gallery.write.items import ItemWriter
from shitu.list_line import split_label

INDEX, PICKLE, YAML = "vector.index", "id_map.pkl", "id_map.yaml"
MOST_BYTES = 2**31


@dataclass
class ForeignStore:
    """A gallery of another program in memory: the same items and facts as one of ours, vectors only in its index.

    rows: where in the index each of `ids` stands, (n,) int64.
    """

    format: str
    folder: Path
    db: ItemDb
    meta: Meta
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    index: VectorIndex
    state: tuple[float, ...]
    vectors: None = None

    @property
    def index_key(self) -> str:
        return self.format

    @property
    def count(self) -> int:
        return len(self.ids)

    def located(self, column: str, numbers: NDArray[np.int64]) -> Table:
        found: Table = among((self.ids, self.rows, np.zeros_like(self.ids)), column, numbers)
        return found

    def likely_rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows_among((self.ids, self.rows, self.rows), ids)

    def load(self) -> None:
        """Nothing: it is in memory."""

    def is_current(self) -> bool:
        """Whether the folder still holds these files, and no gallery of ours."""
        return self.state == _state(self.folder)

    def read_index(self, *, mapped: bool = False) -> VectorIndex:
        return self.index

    def stored_vectors(self) -> NDArray[Any]:
        """The vectors in the order of `ids`; GalleryError where the index has compressed them."""
        vectors = vectors_in(self.index)[self.rows]
        vectors.flags.writeable = False
        return vectors

    def close(self) -> None:
        """Nothing: its memory is free when nobody uses it any more, and others may (`open_foreign`)."""

    def vectors_of(self, ids: Iterable[int]) -> NDArray[Any]:
        return vectors_in(self.index)[self.rows[places_of(self.ids, np.fromiter(ids, np.int64))]]

    def blocks(self) -> Iterator[Block]:
        vectors = self.stored_vectors()
        for start in range(0, len(self.ids), BLOCK_ROWS):
            yield self.ids[start : start + BLOCK_ROWS], vectors[start : start + BLOCK_ROWS]

    def files(self) -> list[Path]:
        return [path for name in (INDEX, PICKLE, YAML) if (path := self.folder / name).exists()]


# Those in use, so that a command that reads a gallery and then changes it reads its files once.
_IN_USE: WeakValueDictionary[tuple[Path, str, tuple[float, ...]], ForeignStore] = WeakValueDictionary()


def open_foreign(folder: Path, delimiter: str) -> ForeignStore | None:
    """Open what PaddleClas or PaddleX left in the folder; None where there is neither. Raises GalleryError."""
    key = folder.absolute(), delimiter, _state(folder)
    store = _IN_USE.get(key) or _open(folder, delimiter, key[2])
    if store is not None:
        _IN_USE[key] = store
    return store


def _open(folder: Path, delimiter: str, state: tuple[float, ...]) -> ForeignStore | None:
    path = folder / INDEX
    entries: dict[int, tuple[str, str]]
    if (folder / PICKLE).exists():
        form, id_map = "paddleclas", read_pickle(folder / PICKLE)
        entries = {number: split_entry(line, delimiter) for number, line in id_map.items()}
    elif (folder / YAML).exists():
        form, id_map = "paddlex", read_yaml(folder / YAML)
        entries = {number: ("", label) for number, label in id_map.items()}
    else:
        return None
    if not path.exists():
        raise GalleryError(f"{path} is missing beside its id_map; {ADVICE}")
    index = VectorIndex.read(path, ADVICE)
    _check_order(path, index)
    in_index = index.ids()
    order = np.argsort(in_index, kind="stable")
    ids = np.array(sorted(entries), np.int64)
    if not np.array_equal(in_index[order], ids):
        raise GalleryError(
            f"{path} has {len(in_index)} vectors and the id_map {len(ids)} ids, or other ids: "
            f"they do not belong together; {ADVICE}"
        )
    meta = Meta(
        index.dimension,
        index.measure.name,
        index.describe(),
        uid=uuid.uuid4().hex,
        next_id=int(ids[-1]) + 1 if len(ids) else 0,
        rows=len(ids),
    )
    db = ItemWriter.create(None)
    with db.transaction():
        made = (Item(entries[number][1], entries[number][0], id=number) for number in ids.tolist())
        db.insert((item, row, 0) for row, item in enumerate(made))
    return ForeignStore(form, folder, db, meta, ids, order.astype(np.int64), index, state)


def _check_order(path: Path, index: VectorIndex) -> None:
    """GalleryError for an IVF from which entries were removed: its names belong to other vectors.

    faiss's IDMap takes the id of a vector from its place in the order of adding, and closes the gaps of removal; an IVF
    does not, and counts on from the number of vectors, so that the places it tells are no longer 0 to n - 1.
    """
    core = core_of(index.raw)
    if not getattr(core, "nlist", 0):
        return
    lists = faiss.downcast_InvertedLists(core.invlists)
    sizes = [lists.list_size(number) for number in range(lists.nlist)]
    places = [faiss.rev_swig_ptr(lists.get_ids(n), size).copy() for n, size in enumerate(sizes) if size]
    if not np.array_equal(np.sort(np.concatenate(places or [np.empty(0, np.int64)])), np.arange(index.count)):
        raise GalleryError(
            f"{path} is an IVF index from which entries were removed by PaddleClas or PaddleX: since then its vectors "
            f"have the labels of others (faiss's IDMap closes the gaps, an IVF does not), and nobody can tell which; "
            f"{ADVICE}, whose galleries can be removed from under every index_method"
        )


def vectors_in(index: VectorIndex) -> NDArray[Any]:
    """The vectors as they were added, in the order of `index.ids()`; GalleryError where it keeps no originals."""
    binary = index.measure.packed
    inner = index.raw.index if hasattr(index.raw, "id_map") else index.raw
    core = faiss.downcast_IndexBinary(inner) if binary else faiss.downcast_index(inner)
    exact = ("IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexHNSWFlat", "IndexIVFFlat")
    if type(core).__name__ not in (*exact, "IndexBinaryFlat", "IndexBinaryHNSW", "IndexBinaryIVF"):
        raise GalleryError(
            f"the vectors cannot be taken out of this index ({type(core).__name__}): "
            "make the gallery anew from its images with `shitu build-gallery`"
        )
    with faiss_errors("the vectors cannot be taken out of this index: run `shitu build-gallery`"):
        if hasattr(core, "make_direct_map"):
            core.make_direct_map()
        if not binary:
            return np.asarray(core.reconstruct_n(0, index.count), np.float32)
        rows = [core.reconstruct(row) for row in range(index.count)]
        return np.array(rows, np.uint8).reshape(index.count, index.dimension // 8)


def _state(folder: Path) -> tuple[float, ...]:
    paths = [folder / name for name in (INDEX, PICKLE, YAML, POINTER)]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def split_entry(line: str, delimiter: str) -> tuple[str, str]:
    """(path, label) of an entry: label is what follows the first delimiter, up to a TAB, spaces included.

    A line without the delimiter is split at its first white space.

    >>> split_entry("a b/1.jpg\\tgreen tea\\t7", "\\t")
    ('a b/1.jpg', 'green tea')
    >>> split_entry("1.jpg  green tea", "\\t")
    ('1.jpg', 'green tea')
    """
    line = line.strip()
    if not (delimiter and delimiter in line):
        line, delimiter = "\t".join(line.split(None, 1)), "\t"
    path, label = [*split_label(line, delimiter), ""][:2]
    return path, label


def read_pickle(path: Path) -> dict[int, str]:
    """The id_map of PaddleClas, without running what is in it. Raises GalleryError."""
    content = _content(path)
    try:
        found = IntsAndStrings(io.BytesIO(content)).load()
    except GalleryError as error:
        raise GalleryError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise GalleryError(f"{path} is damaged or no pickle ({error!r}); {ADVICE}") from error
    return _id_map(path, found)


def read_yaml(path: Path) -> dict[int, str]:
    """The id_map of PaddleX. Raises GalleryError."""
    try:
        # BaseLoader: a label `no` or `1e3` is the string that stands there. libyaml's reads 100,000 in a second, and
        # refuses what is nested 1,000 deep.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        found = yaml.load(_content(path).decode("utf-8"), Loader=loader)
        id_map = {int(number): label for number, label in found["id_map"].items()}
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GalleryError(f"{path} is damaged or no id_map of PaddleX ({error!r}); {ADVICE}") from error
    return _id_map(path, id_map)


def _content(path: Path) -> bytes:
    if size_of(path) > MOST_BYTES:
        raise GalleryError(f"{path} is larger than {MOST_BYTES} bytes; {ADVICE}")
    return path.read_bytes()


def _id_map(path: Path, found: Any) -> dict[int, str]:
    if not isinstance(found, dict):
        raise GalleryError(f"{path} holds a {type(found).__name__}, wanted a dictionary of ids; {ADVICE}")
    id_map: dict[int, str] = {}
    for key, value in found.items():
        whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
        if not whole or not 0 <= key < 2**63 or not isinstance(value, str):
            raise GalleryError(f"{path} has the entry {key!r}: {value!r:.80}, wanted a number and a text; {ADVICE}")
        id_map[int(key)] = value
    return id_map
