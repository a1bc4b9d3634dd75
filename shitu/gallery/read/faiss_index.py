"""The one door to faiss: an index made from stored vectors, searched, written and read back.

Vectors are as shitu/measure.py says.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shitu.cores import available_cores
from shitu.errors import GalleryError
from shitu.gallery.read.index_method import EXAMPLES, factory_string, is_flat
from shitu.measure import HAMMING, IP, L2, Measure

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells at each start which build it has found
import faiss as _faiss  # noqa: E402

faiss: Any = _faiss  # what its own type hints say differs from version to version
log = logging.getLogger(__name__)

BLOCK_ROWS = 16384
MANY_QUERIES = 20  # from here on faiss itself multiplies matrices, and several threads pay
LEAST_EF_SEARCH = 64  # faiss's own 16 loses neighbours; 64 costs about a millisecond in a million
LEAST_NPROBE = 8
MAX_TRAINING_ROWS = 262144


def use_threads(wanted: int) -> None:
    """Bound faiss's OpenMP threads for what the calling thread does next.

    The bound belongs to the calling thread, and every Python thread that lets OpenMP loose keeps a pool of its own:
    that is how a server grew without end in PaddleClas (#3204). So it is set at each call, and few queries get one.
    """
    faiss.omp_set_num_threads(max(1, min(wanted, available_cores())))


@contextmanager
def _faiss_errors(message: str) -> Iterator[None]:
    """Turn faiss's RuntimeError into a GalleryError: our message and the last part of theirs."""
    try:
        yield
    except (RuntimeError, MemoryError, AssertionError, OverflowError) as error:
        theirs = str(error).rsplit("Error: ", 1)[-1].strip() or type(error).__name__
        raise GalleryError(f"{message} (faiss: {theirs[:200]})") from error


def exact_search(
    queries: NDArray[Any], vectors: NDArray[Any], k: int, measure: Measure
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Nearest rows by comparing with every row; the rows may be a memory map and are not copied.

    Returns: scores (n, k) float32 and row numbers (n, k) int64, nearest first, -1 where there are fewer rows.
    """
    use_threads(1 if len(queries) < MANY_QUERIES else available_cores())
    if measure.packed:
        scores, rows = faiss.knn_hamming(queries, vectors, k)
        return scores.astype(np.float32), rows.astype(np.int64)
    scores, rows = faiss.knn(queries, vectors, k, metric=_metric(measure))
    return scores, rows


def _metric(measure: Measure) -> int:
    return int(faiss.METRIC_INNER_PRODUCT if measure is IP else faiss.METRIC_L2)


class VectorIndex:
    """A faiss index whose ids are the gallery's item ids."""

    def __init__(self, raw: Any, measure: Measure) -> None:
        self._raw = raw
        self.measure = measure
        self.count = int(raw.ntotal)
        self.dimension = int(raw.d)

    @classmethod
    def build(
        cls, vectors: NDArray[Any], rows: NDArray[np.int64], ids: NDArray[np.int64], method: str, measure: Measure
    ) -> VectorIndex:
        """Index `vectors[rows]` under `ids`; GalleryError where the method is no method or lacks points to learn."""
        raw = _make(measure.dimension(vectors.shape[1]), method, measure, len(rows))
        use_threads(available_cores())
        if not raw.is_trained:
            _train(raw, vectors, rows, method)
        index = cls(raw, measure)
        with _faiss_errors(f"index_method '{method}' takes no vectors with ids: use {EXAMPLES}"):
            index.add(vectors, rows, ids)
        return index

    def add(self, vectors: NDArray[Any], rows: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        """Add `vectors[rows]` under `ids`, block by block."""
        use_threads(available_cores())
        for start in range(0, len(rows), BLOCK_ROWS):
            block = np.ascontiguousarray(vectors[rows[start : start + BLOCK_ROWS]])
            self._raw.add_with_ids(block, ids[start : start + BLOCK_ROWS])
        self.count = int(self._raw.ntotal)

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (n, k) float32 and ids (n, k) int64, nearest first, -1 where the index finds no more."""
        use_threads(1 if len(queries) < MANY_QUERIES else available_cores())
        scores, ids = self._raw.search(queries, k)
        return scores.astype(np.float32), ids

    @property
    def learns(self) -> bool:
        """Whether the method is trained on the vectors, so that an old training may no longer fit."""
        return not hasattr(_core(self._raw), "hnsw")

    def tune(self, ef_search: int | None, nprobe: int | None) -> None:
        """Set how thoroughly HNSW and IVF look; None leaves our least values (64; 8 and a 16th of the lists).

        Scanning a 16th of lists that hold n / nlist entries each costs less than finding those lists, which is n / 8
        comparisons in PaddleClas's IVF; its own nprobe of 1 looks at 8 entries of the whole gallery.
        """
        core = _core(self._raw)
        lists = getattr(core, "nlist", 0)
        graph = getattr(core, "hnsw", None) or getattr(_quantizer(core), "hnsw", None)
        for name, value, fits in (("efSearch", ef_search, graph), ("nprobe", nprobe, lists)):
            if value is not None and value < 1:
                raise GalleryError(f"{name} is {value}: it must be 1 or more")
            if value is not None and not fits:
                log.warning("%s has no meaning for this gallery's index (%s); ignored", name, self.describe())
        if graph is not None:
            graph.efSearch = ef_search or max(graph.efSearch, LEAST_EF_SEARCH)
        if lists:
            core.nprobe = min(lists, nprobe or max(core.nprobe, LEAST_NPROBE, lists // 16))

    def describe(self) -> str:
        """A factory string for an index like this one, as near as faiss tells."""
        core = _core(self._raw)
        name = type(core).__name__
        if hasattr(core, "hnsw"):
            return f"HNSW{core.hnsw.nb_neighbors(1)}"
        if name in ("IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexBinaryFlat"):
            return "Flat"
        if name in ("IndexIVFFlat", "IndexBinaryIVF"):
            return f"IVF{core.nlist}" + (",Flat" if name == "IndexIVFFlat" else "")
        return name.removeprefix("Index")

    def ids(self) -> NDArray[np.int64]:
        """The ids in the order in which they were added, (n,) int64."""
        if hasattr(self._raw, "id_map"):
            return np.asarray(faiss.vector_to_array(self._raw.id_map), np.int64)
        return np.arange(self.count, dtype=np.int64)

    def stored_vectors(self) -> NDArray[Any]:
        """The vectors as they were added, in the order of `ids()`; GalleryError where the index keeps no originals."""
        binary = self.measure.packed
        inner = self._raw.index if hasattr(self._raw, "id_map") else self._raw
        core = faiss.downcast_IndexBinary(inner) if binary else faiss.downcast_index(inner)
        exact = ("IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexHNSWFlat", "IndexIVFFlat")
        if type(core).__name__ not in (*exact, "IndexBinaryFlat", "IndexBinaryHNSW", "IndexBinaryIVF"):
            raise GalleryError(
                f"the vectors cannot be taken out of this index ({type(core).__name__}): "
                "make the gallery anew from its images with `shitu build-gallery`"
            )
        with _faiss_errors("the vectors cannot be taken out of this index: run `shitu build-gallery`"):
            if hasattr(core, "make_direct_map"):
                core.make_direct_map()
            if not binary:
                return np.asarray(core.reconstruct_n(0, self.count), np.float32)
            rows = [core.reconstruct(row) for row in range(self.count)]
            return np.array(rows, np.uint8).reshape(self.count, self.dimension // 8)

    def write(self, file: BinaryIO, *, with_ids: bool = True) -> str:
        """Write the index in faiss's format; returns the sha256 of what was written."""
        raw = self._raw if with_ids else self._raw.index
        digest = hashlib.sha256()

        def sink(data: bytes) -> int:
            digest.update(data)
            return file.write(data)

        # Through Python's file object: faiss's own fopen fails on a Windows path that is not ASCII.
        writer = faiss.PyCallbackIOWriter(sink)
        if self.measure.packed:
            faiss.write_index_binary(raw, writer)
        else:
            faiss.write_index(raw, writer)
        return digest.hexdigest()

    @classmethod
    def read(cls, path: Path, advice: str) -> VectorIndex:
        """Read an index file that may be anything; GalleryError ending in `advice` where it is not an index."""
        limited = hasattr(faiss, "set_deserialization_vector_byte_limit")
        before = faiss.get_deserialization_vector_byte_limit() if limited else 0
        with path.open("rb") as file, _faiss_errors(f"{path} cannot be read as a faiss index; {advice}"):
            binary = file.read(2) == b"IB"
            file.seek(0)
            if limited:  # no list in a file is longer than the file: a lying length allocates nothing
                faiss.set_deserialization_vector_byte_limit(path.stat().st_size + 2**20)
            try:
                reader = faiss.PyCallbackIOReader(file.read)
                raw = faiss.read_index_binary(reader) if binary else faiss.read_index(reader)
            finally:
                if limited:
                    faiss.set_deserialization_vector_byte_limit(before)
        core = _core(raw)
        invlists = core.invlists if hasattr(core, "nlist") else None
        if invlists and type(faiss.downcast_InvertedLists(invlists)).__name__ == "OnDiskInvertedLists":
            raise GalleryError(f"{path} keeps its lists in another file, which is not supported; {advice}")
        if not binary and raw.metric_type not in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
            raise GalleryError(f"{path} measures neither IP nor L2 (faiss metric {raw.metric_type}); {advice}")
        if binary:
            return cls(raw, HAMMING)
        return cls(raw, IP if raw.metric_type == faiss.METRIC_INNER_PRODUCT else L2)


def check_method(method: str, measure: Measure, dimension: int) -> None:
    """GalleryError where no index of this method can be made, before hours go into the vectors for it."""
    if not is_flat(method):
        _make(dimension, method, measure, count=1)


def _make(dimension: int, method: str, measure: Measure, count: int) -> Any:
    """An empty index that takes ids."""
    factory = factory_string(method, measure, count)
    advice = f"index_method '{method}' cannot be made for dist_type {measure.name} with {dimension} dimensions: "
    with _faiss_errors(f"{advice}use {EXAMPLES}"):
        if measure.packed:
            raw = faiss.index_binary_factory(dimension, factory)
        else:
            raw = faiss.index_factory(dimension, factory, _metric(measure))
    if getattr(_core(raw), "nlist", 1) < 1 or hasattr(raw, "id_map"):
        raise GalleryError(f"{advice}use {EXAMPLES}")
    return faiss.IndexBinaryIDMap2(raw) if measure.packed else faiss.IndexIDMap2(raw)


def _core(raw: Any) -> Any:
    """The index inside wrappers for ids, for transforms and for re-ranking."""
    while True:
        binary = isinstance(raw, faiss.IndexBinary)
        index = faiss.downcast_IndexBinary(raw) if binary else faiss.downcast_index(raw)
        if hasattr(index, "id_map") or isinstance(index, faiss.IndexPreTransform):
            raw = index.index
        elif isinstance(index, faiss.IndexRefine):
            raw = index.base_index
        else:
            return index


def _quantizer(core: Any) -> Any:
    """What an IVF finds its lists with; None for other indexes."""
    return _core(core.quantizer) if hasattr(core, "quantizer") else None


def _train(raw: Any, vectors: NDArray[Any], rows: NDArray[np.int64], method: str) -> None:
    """Let the index learn from the vectors, or from an even sample of very many."""
    kept = _hush(raw)
    wanted = max(MAX_TRAINING_ROWS, 64 * getattr(_core(raw), "nlist", 0))
    chosen = rows if len(rows) <= wanted else rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]
    whole = len(chosen) == len(vectors)
    try:
        raw.train(vectors if whole else np.ascontiguousarray(vectors[chosen]))
    except (RuntimeError, AssertionError) as error:
        found = re.search(r"\((\d+)\) should be at least as large as number of clusters \((\d+)\)", str(error))
        need = f"at least {found[2]}" if found else "more"
        raise GalleryError(
            f"index_method '{method}' has to learn from {need} images, and the gallery has {len(rows)}: "
            "use Flat or HNSW32, or add images"
        ) from error
    finally:
        for transform in kept:
            transform.pq = None  # it is not the transform's own, and would be freed under it


def _hush(raw: Any) -> list[Any]:
    """Make faiss accept few points per cluster in silence: it writes hundreds of lines below 39, and PaddleClas's own
    IVF always has 8. Returns the transforms that were lent a quantizer to train with.
    """
    core = _core(raw)
    learners: list[Any] = [core, getattr(core, "pq", None)]
    inner = faiss.downcast_index(raw.index) if isinstance(raw, faiss.IndexIDMap) else None
    kept = []
    if isinstance(inner, faiss.IndexPreTransform):
        for number in range(inner.chain.size()):
            transform = faiss.downcast_VectorTransform(inner.chain.at(number))
            if isinstance(transform, faiss.OPQMatrix):
                quantizer = faiss.ProductQuantizer(transform.d_out, transform.M, 8)
                transform.pq = quantizer
                learners.append(quantizer)
                kept.append(transform)
    for learner in learners:
        if hasattr(learner, "cp"):
            learner.cp.min_points_per_centroid = 1
    return kept
