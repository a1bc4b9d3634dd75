"""Galleries of PaddleClas and PaddleX, read without trusting them.

PaddleClas keeps `vector.index` (faiss) and `id_map.pkl`, a pickled {id: "path<delimiter>label"}; PaddleX keeps
`vector.index` and `id_map.yaml` with `index_type`, `metric_type` and `id_map: {id: label}`. A pickle can run code, so
ours knows integers and strings and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Block, Item
from shitu.gallery.read.faiss_index import VectorIndex, faiss, faiss_errors
from shitu.gallery.read.files import size_of
from shitu.gallery.read.items import ItemDb, Meta
from shitu.gallery.read.store import BLOCK_ROWS, POINTER
from shitu.gallery.write.items import ItemWriter
from shitu.list_line import split_label

INDEX, PICKLE, YAML = "vector.index", "id_map.pkl", "id_map.yaml"
MOST_BYTES = 2**31
ADVICE = "build the gallery anew with `shitu build-gallery`"


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

    def is_current(self) -> bool:
        """Whether the folder still holds these files, and no gallery of ours."""
        return self.state == _state(self.folder)

    def read_index(self) -> VectorIndex:
        return self.index

    def stored_vectors(self) -> NDArray[Any]:
        """The vectors in the order of `ids`; GalleryError where the index has compressed them."""
        vectors = vectors_in(self.index)[self.rows]
        vectors.flags.writeable = False
        return vectors

    def blocks(self) -> Iterator[Block]:
        vectors = self.stored_vectors()
        for start in range(0, len(self.ids), BLOCK_ROWS):
            yield self.ids[start : start + BLOCK_ROWS], vectors[start : start + BLOCK_ROWS]

    def files(self) -> list[Path]:
        return [path for name in (INDEX, PICKLE, YAML) if (path := self.folder / name).exists()]


def open_foreign(folder: Path, delimiter: str) -> ForeignStore | None:
    """Open what PaddleClas or PaddleX left in the folder; None where there is neither. Raises GalleryError."""
    path, state = folder / INDEX, _state(folder)
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
        found = _IntsAndStrings(io.BytesIO(content)).load()
    except GalleryError as error:
        raise GalleryError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise GalleryError(f"{path} is damaged or no pickle ({error!r}); {ADVICE}") from error
    return _id_map(path, found)


def read_yaml(path: Path) -> dict[int, str]:
    """The id_map of PaddleX. Raises GalleryError."""
    try:
        # BaseLoader: a label `no` or `1e3` is the string that stands there.
        found = yaml.load(_content(path).decode("utf-8"), Loader=yaml.BaseLoader)
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


class _Parts(list[Any]):
    """A tuple of the pickle's: arguments and states need no more. It is no key, since it cannot be hashed: that takes
    hours for a tuple of pairs of pairs, sixty deep.
    """


def _tuple_of(count: int) -> Callable[[Any], None]:
    def load(unpickler: Any) -> None:
        stack = unpickler.stack
        stack[len(stack) - count :] = [_Parts(stack[len(stack) - count :])]

    return load


def _marked_tuple(unpickler: Any) -> None:
    parts = _Parts(unpickler.pop_mark())
    unpickler.append(parts)  # which `pop_mark` has replaced


# Python's unpickler in Python: the one in C makes tuples that hash for ever, and a memo of as many GB as it is told.
class _IntsAndStrings(pickle._Unpickler):
    """An unpickler for which there is nothing to call but the making of numpy integers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch | {
        pickle.EMPTY_TUPLE[0]: _tuple_of(0),
        pickle.TUPLE1[0]: _tuple_of(1),
        pickle.TUPLE2[0]: _tuple_of(2),
        pickle.TUPLE3[0]: _tuple_of(3),
        pickle.TUPLE[0]: _marked_tuple,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _integer_dtype
        if (module, name) in (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")):
            return _integer_scalar
        if (module, name) == ("_codecs", "encode"):  # how bytes were pickled for Python 2
            return _latin1
        raise GalleryError(f"it would load {module}.{name}, which an id_map never needs: do not use it; {ADVICE}")

    def persistent_load(self, pid: Any) -> Any:
        raise GalleryError(f"it refers to an object outside itself; {ADVICE}")


class _IntegerDtype:
    """Stands for a numpy integer dtype; numpy's own would take its state from the pickle."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, list) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise GalleryError(f"it describes a number in an unknown way; {ADVICE}")
        self.dtype = self.dtype.newbyteorder(state[1])


def _latin1(*arguments: Any) -> bytes:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise GalleryError(f"it holds bytes in an unknown way; {ADVICE}")
    return arguments[0].encode("latin-1")


def _integer_dtype(*arguments: Any) -> _IntegerDtype:
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or not re.fullmatch(r"[iu][1248]", code):
        raise GalleryError(f"it holds a numpy value of type {code!r:.40}, wanted integers; {ADVICE}")
    return _IntegerDtype(code)


def _integer_scalar(*arguments: Any) -> int:
    if len(arguments) != 2 or not isinstance(arguments[0], _IntegerDtype) or not isinstance(arguments[1], bytes):
        raise GalleryError(f"it holds a numpy value that is no integer; {ADVICE}")
    kind, content = arguments[0].dtype, arguments[1]
    if len(content) != kind.itemsize:
        raise GalleryError(f"it holds a number of {len(content)} bytes as {kind}; {ADVICE}")
    return int(np.frombuffer(content, kind)[0])
