"""A faiss index made from stored vectors, added to, and written; faiss comes through faiss_index.py."""

from __future__ import annotations

import hashlib
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.read.faiss_index import VectorIndex, core_of, faiss, faiss_errors, metric_of, use_threads
from shitu.gallery.write.choose import is_auto
from shitu.measure import Measure

BLOCK_ROWS = 16384
MAX_TRAINING_ROWS = 262144
MAX_LISTS = 65536
MOST_IN_METHOD = 1 << 20
EXAMPLES = "auto, Flat, HNSW32, IVF, or a faiss factory string such as 'IVF256,Flat' or 'OPQ32,PQ32'"


def build_index(
    vectors: NDArray[Any],
    rows: NDArray[np.int64],
    ids: NDArray[np.int64],
    method: str,
    measure: Measure,
    *,
    for_others: bool = False,
) -> VectorIndex:
    """Index `vectors[rows]` under `ids`; GalleryError where the method is no method or lacks points to learn.

    for_others: wrapped as PaddleClas does it, with a dictionary of the ids that takes 50 bytes for each.
    """
    raw = _make(measure.dimension(vectors.shape[1]), method, measure, len(rows), for_others=for_others)
    use_threads(many=True)
    if not raw.is_trained:
        _train(raw, vectors, rows, method)
    index = VectorIndex(raw, measure)
    with faiss_errors(f"index_method '{method}' takes no vectors with ids: use {EXAMPLES}"):
        add_to(index, vectors, rows, ids)
    return index


def add_to(index: VectorIndex, vectors: NDArray[Any], rows: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
    """Add `vectors[rows]` under `ids`, block by block."""
    use_threads(many=True)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.ascontiguousarray(vectors[rows[start : start + BLOCK_ROWS]])
        index.raw.add_with_ids(block, ids[start : start + BLOCK_ROWS])


def learns(index: VectorIndex) -> bool:
    """Whether the method is trained on the vectors, so that an old training may no longer fit."""
    return not hasattr(core_of(index.raw), "hnsw")


def write_index(index: VectorIndex, file: BinaryIO, *, with_ids: bool = True) -> str:
    """Write the index in faiss's format; returns the sha256 of what was written."""
    raw = index.raw if with_ids else index.raw.index
    digest = hashlib.sha256()

    def sink(data: bytes) -> int:
        digest.update(data)
        return file.write(data)

    # Through Python's file object: faiss's own fopen fails on a Windows path that is not ASCII.
    writer = faiss.PyCallbackIOWriter(sink)
    if index.measure.packed:
        faiss.write_index_binary(raw, writer)
    else:
        faiss.write_index(raw, writer)
    return digest.hexdigest()


def is_flat(method: str) -> bool:
    """Whether the method is a plain scan (`Flat`, however it is written), which needs no index at all."""
    return method.strip().lower() == "flat"


def factory_string(method: str, measure: Measure, count: int) -> str:
    """faiss's name for our `index_method`: case put right, `IVF` given its number of lists, `B` for binary."""
    text = re.sub(r"\bflat\b", "Flat", method.strip(), flags=re.IGNORECASE)
    text = re.sub(r"^(hnsw|ivf)", lambda found: found[0].upper(), text, flags=re.IGNORECASE)
    if text == "IVF":
        lists = max(1, min(count // 8, MAX_LISTS))
        text = f"IVF{lists}" if measure.packed else f"IVF{lists},Flat"
    return f"B{text}" if measure.packed else text


def check_method(method: str, measure: Measure, dimension: int) -> None:
    """GalleryError where no index of this method can be made, before hours go into the vectors for it."""
    if not is_flat(method) and not is_auto(method):
        _make(dimension, method, measure, count=1)


def _check_numbers(method: str) -> None:
    """GalleryError for numbers on which faiss ends the process, at the first vector that is added."""
    graphs = re.findall(r"(HNSW|NSG)(\d{1,9})", method.upper())
    wrong = any(not {"HNSW": 2, "NSG": 4}[kind] <= int(links) <= 512 for kind, links in graphs)
    every = [int(number) for number in re.findall(r"\d{1,9}", method)]
    if 0 in every or max(every, default=1) > MOST_IN_METHOD or wrong:
        raise GalleryError(
            f"index_method {method[:80]!r} has a number that faiss cannot use (0, more than {MOST_IN_METHOD:,}, or an "
            f"HNSW or NSG of less than 2 or 4 or more than 512 links): use {EXAMPLES}"
        )


def _make(dimension: int, method: str, measure: Measure, count: int, *, for_others: bool = False) -> Any:
    """An empty index that takes ids."""
    _check_numbers(method)
    factory = factory_string(method, measure, count)
    advice = f"index_method '{method}' cannot be made for dist_type {measure.name} with {dimension} dimensions: "
    with faiss_errors(f"{advice}use {EXAMPLES}"):
        if measure.packed:
            raw = faiss.index_binary_factory(dimension, factory)
        else:
            raw = faiss.index_factory(dimension, factory, metric_of(measure))
    if getattr(core_of(raw), "nlist", 1) < 1 or hasattr(raw, "id_map"):
        raise GalleryError(f"{advice}use {EXAMPLES}")
    if measure.packed:
        return faiss.IndexBinaryIDMap2(raw) if for_others else faiss.IndexBinaryIDMap(raw)
    return faiss.IndexIDMap2(raw) if for_others else faiss.IndexIDMap(raw)


def _train(raw: Any, vectors: NDArray[Any], rows: NDArray[np.int64], method: str) -> None:
    """Let the index learn from the vectors, or from an even sample of very many."""
    kept = _hush(raw)
    wanted = max(MAX_TRAINING_ROWS, 64 * getattr(core_of(raw), "nlist", 0))
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
    core = core_of(raw)
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
