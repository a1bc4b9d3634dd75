"""What others take for the vectors and queries of scale.py: PaddleClas's HNSW32 and IVF, hnswlib, usearch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale import recall, timed
from shitu.cores import available_cores
from shitu.gallery.gallery import Gallery

Search = Callable[[np.ndarray, int], np.ndarray]
EFFORTS = (None, 32, 64, 128, 256, 512, 1024)  # None: as it comes


def peers(folder: Path, rounds: int, wanted: float, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Of each: seconds to build, its recall and time as it comes, and where its recall reaches `wanted`."""
    known = np.load(folder / "truth.npz")
    vectors = Gallery.open(folder / "gallery", load_index=False).vectors()
    result = {}
    for name, make in MAKERS.items():
        if only and name not in only:
            continue
        print(name, file=sys.stderr)
        start, cpu = time.perf_counter(), time.process_time()
        try:
            search, set_effort = make(vectors)
        except ImportError:
            result[name] = {"missing": True}
            continue
        made = {"build s": round(time.perf_counter() - start, 1), "build cpu s": round(time.process_time() - cpu, 1)}
        result[name] = made | _measured(search, set_effort, known["queries"], known["ids"], rounds, wanted)
    return result


def _measured(  # noqa: PLR0917
    search: Search,
    set_effort: Callable[[int], None],
    queries: np.ndarray,
    truth: np.ndarray,
    rounds: int,
    wanted: float,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for effort in EFFORTS:
        if effort is not None:
            set_effort(effort)
        ids = [search(query[None], 10)[0].tolist() for query in queries]
        one = {"effort": effort, "recall@1": recall(truth, ids, 1), "recall@10": recall(truth, ids, 10)}
        enough = one["recall@1"] >= wanted
        if effort is None or enough or effort == EFFORTS[-1]:
            for size in (1, 6):
                calls = (lambda n=n, size=size: search(_at(queries, n, size), 5) for n in range(rounds))
                one[f"{size} ms"] = timed(calls)
            found["as it comes" if effort is None else "as thorough" if enough else "most thorough"] = one
        if enough:
            break
    return found


def _at(queries: np.ndarray, number: int, size: int) -> np.ndarray:
    start = number * size % (len(queries) - size)
    return queries[start : start + size]


def _faiss(method: str) -> Callable[[np.ndarray], tuple[Search, Callable[[int], None]]]:
    def make(vectors: np.ndarray) -> tuple[Search, Callable[[int], None]]:
        import faiss

        text = method.format(lists=min(len(vectors) // 8, 65536))  # as in PaddleClas's build_gallery.py
        faiss.omp_set_num_threads(available_cores())
        index = faiss.index_factory(vectors.shape[1], text, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(np.ascontiguousarray(vectors))
        for start in range(0, len(vectors), 16384):
            index.add(np.ascontiguousarray(vectors[start : start + 16384]))
        faiss.omp_set_num_threads(1)  # few queries: a thread more costs more than it brings

        def set_effort(effort: int) -> None:
            if hasattr(index, "hnsw"):
                index.hnsw.efSearch = effort
            else:
                index.nprobe = effort

        return (lambda queries, k: index.search(queries, k)[1]), set_effort

    return make


def _hnswlib(vectors: np.ndarray) -> tuple[Search, Callable[[int], None]]:
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=32)
    index.set_num_threads(available_cores())
    for start in range(0, len(vectors), 16384):
        index.add_items(vectors[start : start + 16384])
    index.set_num_threads(1)
    return (lambda queries, k: index.knn_query(queries, k)[0].astype(np.int64)), index.set_ef


def _usearch(vectors: np.ndarray) -> tuple[Search, Callable[[int], None]]:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="i8", connectivity=32)
    for start in range(0, len(vectors), 16384):
        block = np.ascontiguousarray(vectors[start : start + 16384])
        index.add(np.arange(start, start + len(block)), block, threads=available_cores())

    def set_effort(effort: int) -> None:
        index.expansion_search = effort

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        """Its codes are bytes: a hundred are scored again from the vectors, as ours."""
        keys = index.search(queries, 10 * k, threads=1).keys.reshape(len(queries), -1).astype(np.int64)
        scores = np.einsum("qkd,qd->qk", vectors[keys], queries)
        return np.take_along_axis(keys, np.argsort(-scores, axis=1)[:, :k], 1)

    return search, set_effort


MAKERS: dict[str, Callable[[np.ndarray], tuple[Search, Callable[[int], None]]]] = {
    "PaddleClas HNSW32": _faiss("HNSW32"),
    "PaddleClas IVF": _faiss("IVF{lists},Flat"),
    "hnswlib": _hnswlib,
    "usearch, int8": _usearch,
}
