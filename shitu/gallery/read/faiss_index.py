"""The one door to faiss: an index read from a file and searched. What makes one is write/make_index.py.

Vectors are as shitu/measure.py says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.cores import available_cores
from shitu.errors import GalleryError
from shitu.gallery.read.files import size_of
from shitu.measure import HAMMING, IP, L2, Measure

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells at each start which build it has found
import faiss as _faiss  # noqa: E402

faiss: Any = _faiss  # what its own type hints say differs from version to version
log = logging.getLogger(__name__)
Nearest = tuple[NDArray[np.float32], NDArray[np.int64]]

PRODUCTS_FROM = 4  # queries
MANY_QUERIES = 20  # from here on faiss itself multiplies matrices, and several threads pay
PART = 2**24  # components, compared in about the time that starting a thread takes where others want the cores
MANY_VECTORS = 200_000  # in an index; from here on the queries of one photo are worth a thread each
LEAST_EF_SEARCH = 64  # faiss's own 16 loses neighbours; 64 costs about a millisecond in a million
LEAST_NPROBE = 8
USUAL_DEPTH = 100  # of entries that a rough index names; twice as many where its codes have less than a bit a component
MAPPED_FROM = 64 * 2**20  # bytes of a file
_USUAL_THRESHOLD = int(faiss.cvar.distance_compute_blas_threshold)


def use_threads(*, many: bool) -> None:
    """Let faiss use one OpenMP thread, or all cores, for what the calling thread does next.

    The bound belongs to the calling thread, and every Python thread that lets OpenMP loose keeps a pool of its own:
    that is how a server grew without end in PaddleClas (#3204). So it is set at each call, and few queries get one.
    """
    faiss.omp_set_num_threads(available_cores() if many else 1)


@contextmanager
def faiss_errors(message: str) -> Iterator[None]:
    """Turn faiss's RuntimeError into a GalleryError: our message and the last part of theirs."""
    try:
        yield
    except (RuntimeError, MemoryError, AssertionError, OverflowError) as error:
        theirs = str(error).rsplit("Error: ", 1)[-1].strip() or type(error).__name__
        raise GalleryError(f"{message} (faiss: {theirs[:200]})") from error


def exact_search(queries: NDArray[Any], vectors: NDArray[Any], k: int, measure: Measure) -> Nearest:
    """Nearest rows by comparing with every row; the rows may be a memory map and are not copied.

    Few queries go through the rows together, as a product of matrices, and each core takes a share of the rows: reading
    them is what takes the time. Returns: scores (n, k) float32 and row numbers (n, k) int64, nearest first, -1 where
    there are fewer rows.
    """
    if len(queries) >= MANY_QUERIES:
        use_threads(many=True)
        return _nearest_rows(queries, vectors, k, measure)
    parts = _parts(len(vectors), min(available_cores(), vectors.size // PART))
    found = _side_by_side(lambda part: _nearest_rows(queries, vectors[part], k, measure), parts)
    if len(found) == 1:
        return found[0]
    scores = np.concatenate([each for each, _ in found], axis=1)
    rows = np.concatenate(
        [np.where(each < 0, -1, each + part.start) for (_, each), part in zip(found, parts, strict=True)], axis=1
    )
    far = np.where(rows < 0, np.inf, -measure.sign * scores)
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _nearest_rows(queries: NDArray[Any], vectors: NDArray[Any], k: int, measure: Measure) -> Nearest:
    if measure.packed:
        scores, rows = faiss.knn_hamming(queries, vectors, k)
        return scores.astype(np.float32), rows.astype(np.int64)
    # Several queries as a product of matrices, where the rows leave the cache: two thirds of the time. The limit is the
    # whole process's, and an index built under this one may have equal vectors in two lists; so it stands back at once.
    if len(queries) >= PRODUCTS_FROM and vectors.size >= PART:
        faiss.cvar.distance_compute_blas_threshold = 1
    try:
        scores, rows = faiss.knn(queries, vectors, k, metric=metric_of(measure))
    finally:
        faiss.cvar.distance_compute_blas_threshold = _USUAL_THRESHOLD
    return scores, rows


def _parts(count: int, most: int) -> list[slice]:
    """`count` things in so many parts at most, and one at least."""
    step = -(-count // max(most, 1)) or 1
    return [slice(start, start + step) for start in range(0, max(count, 1), step)]


def _side_by_side(work: Callable[[slice], Nearest], parts: list[slice]) -> list[Nearest]:
    """`work` of each part, in a thread for each; OpenMP has no threads in them."""

    def alone(part: slice) -> Nearest:
        use_threads(many=False)
        return work(part)

    if len(parts) == 1:
        return [alone(parts[0])]
    # Threads of this call alone: lasting ones would not outlive a fork.
    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(alone, parts))


def metric_of(measure: Measure) -> int:
    return int(faiss.METRIC_INNER_PRODUCT if measure is IP else faiss.METRIC_L2)


class VectorIndex:
    """A faiss index whose ids are the gallery's item ids."""

    def __init__(self, raw: Any, measure: Measure) -> None:
        self.raw = raw
        self.measure = measure
        self.dimension = int(raw.d)
        self.depth = usual_depth(core_of(raw))

    @property
    def count(self) -> int:
        return int(self.raw.ntotal)

    def search(self, queries: NDArray[Any], k: int) -> Nearest:
        """Scores (n, k) float32 and ids (n, k) int64, nearest first, -1 where the index finds no more."""
        few = len(queries) < MANY_QUERIES
        use_threads(many=not few)
        if few and self.count >= MANY_VECTORS:
            parts = _parts(len(queries), available_cores())
            found = _side_by_side(lambda part: self._search(queries[part], k), parts)
            return np.concatenate([scores for scores, _ in found]), np.concatenate([ids for _, ids in found])
        return self._search(queries, k)

    def _search(self, queries: NDArray[Any], k: int) -> Nearest:
        scores, ids = self.raw.search(queries, k)
        return scores.astype(np.float32), ids

    @property
    def knob(self) -> str:
        """Which of efSearch, nprobe and depth decides how much is found; "" where everything is compared exactly."""
        core = core_of(self.raw)
        if hasattr(core, "hnsw"):
            return "efSearch"
        return "nprobe" if getattr(core, "nlist", 0) else "depth" if usual_depth(core) else ""

    @property
    def most(self) -> int:
        """From which value of that on nothing more can be found."""
        return int(core_of(self.raw).nlist) if self.knob == "nprobe" else max(self.count, 1)

    def tune(self, ef_search: int | None, nprobe: int | None, depth: int | None = None) -> None:
        """Set how thoroughly HNSW and IVF look; None leaves our least values (64; 8 and a 16th of the lists).

        depth: so many are asked for at least, and scored from the stored vectors.

        Scanning a 16th of lists that hold n / nlist entries each costs less than finding those lists, which is n / 8
        comparisons in PaddleClas's IVF; its own nprobe of 1 looks at 8 entries of the whole gallery.
        """
        core = core_of(self.raw)
        lists = getattr(core, "nlist", 0)
        graph = getattr(core, "hnsw", None) or getattr(_quantizer(core), "hnsw", None)
        for name, value, fits in (("efSearch", ef_search, graph), ("nprobe", nprobe, lists)):
            if value is not None and value < 1:
                raise GalleryError(f"{name} is {value}: it must be 1 or more")
            if value is not None and not fits:
                log.warning("%s has no meaning for this gallery's index (%s); ignored", name, self.describe())
        self.depth = depth or self.depth
        if graph is not None:
            graph.efSearch = ef_search or max(graph.efSearch, LEAST_EF_SEARCH)
        if lists:
            core.nprobe = min(lists, nprobe or max(core.nprobe, LEAST_NPROBE, lists // 16))

    def describe(self) -> str:
        """A factory string for an index like this one, as near as faiss tells."""
        core = core_of(self.raw)
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
        if hasattr(self.raw, "id_map"):
            return np.asarray(faiss.vector_to_array(self.raw.id_map), np.int64)
        return np.arange(self.count, dtype=np.int64)

    @classmethod
    def read(cls, path: Path, advice: str, *, mapped: bool = False) -> VectorIndex:
        """Read an index file that may be anything; GalleryError ending in `advice` where it is not an index.

        mapped: of a large file only what is searched comes into memory, and nothing may be added to the index.
        """
        size = size_of(path)
        limited = hasattr(faiss, "set_deserialization_vector_byte_limit")
        before = faiss.get_deserialization_vector_byte_limit() if limited else 0
        with path.open("rb") as file, faiss_errors(f"{path} cannot be read as a faiss index; {advice}"):
            binary = file.read(2) == b"IB"
            file.seek(0)
            if limited:  # no list in a file is longer than the file: a lying length allocates nothing
                faiss.set_deserialization_vector_byte_limit(size + 2**20)
            try:
                if mapped and size >= MAPPED_FROM and not binary and path.as_posix().isascii():
                    raw = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
                else:
                    reader = faiss.PyCallbackIOReader(file.read)
                    raw = faiss.read_index_binary(reader) if binary else faiss.read_index(reader)
            finally:
                if limited:
                    faiss.set_deserialization_vector_byte_limit(before)
        core = core_of(raw)
        invlists = core.invlists if hasattr(core, "nlist") else None
        if invlists and type(faiss.downcast_InvertedLists(invlists)).__name__ == "OnDiskInvertedLists":
            raise GalleryError(f"{path} keeps its lists in another file, which is not supported; {advice}")
        if not binary and raw.metric_type not in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
            raise GalleryError(f"{path} measures neither IP nor L2 (faiss metric {raw.metric_type}); {advice}")
        if binary:
            return cls(raw, HAMMING)
        return cls(raw, IP if raw.metric_type == faiss.METRIC_INNER_PRODUCT else L2)


def usual_depth(core: Any) -> int:
    """How many of those that the index names have to be compared exactly; 0 where it knows the vectors themselves."""
    code = getattr(core, "code_size", 0) or getattr(getattr(core, "pq", None), "code_size", 0)
    if isinstance(core, faiss.IndexBinary) or not code or code >= core.d:  # a byte for each component is near enough
        return 0
    return USUAL_DEPTH if code * 8 >= core.d else 2 * USUAL_DEPTH


def core_of(raw: Any) -> Any:
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
    return core_of(core.quantizer) if hasattr(core, "quantizer") else None
