"""What `index_method: auto` makes of a gallery: by the number of entries, and the memory that the index may take.

By measurement (docs/performance.md, "Galleries from 10^4 to 10^7"): short codes of all vectors, all compared, and then
the nearest exactly, find more in less time than a graph or lists do, and are quickly made.
"""

from __future__ import annotations

from dataclasses import dataclass

from shitu.errors import GalleryError
from shitu.measure import Measure

AUTO = "auto"
EXACT = 20_000  # vectors of which all are compared exactly in 2 ms for six queries of 512 components
USUAL_LIMIT = 2 * 10**9  # bytes
FINE_TO = 500_000  # vectors; codes of more leave a cache of 32 MB, and half as long ones take a third of the time
ID_BYTES = 8


@dataclass(frozen=True)
class Choice:
    """A method in faiss's words, the bytes that its index takes, and why it was chosen, as a clause."""

    method: str
    bytes: int
    why: str


def is_auto(method: str) -> bool:
    return method.strip().lower() == AUTO


def choose(count: int, dimension: int, measure: Measure, limit: int = 0) -> Choice:
    """Raises GalleryError where no index of so many vectors is as small as the limit, in bytes."""
    limit = limit or USUAL_LIMIT
    if measure.packed:
        return Choice("Flat", 0, "comparing packed bits with all of them is quick")
    if count <= EXACT:
        return Choice("Flat", 0, f"{count:,} vectors are compared exactly in no time")
    kinds = [(parts, count * (parts // 2 + ID_BYTES)) for parts in _parts(dimension)]
    if not kinds:
        return Choice("SQ8", count * (dimension + ID_BYTES), f"{dimension} components cannot be divided into fours")
    if count > FINE_TO:
        kinds = kinds[1:] or kinds
    for parts, size in kinds:
        if size <= limit:
            why = f"codes of {parts // 2} bytes for {count:,} vectors take {_size(size)}"
            return Choice(f"PQ{parts}x4fs", size, f"{why}, and IndexProcess.memory_limit is {_size(limit)}")
    raise GalleryError(
        f"an index of {count:,} vectors takes {_size(kinds[-1][1])} at least, and IndexProcess.memory_limit is "
        f"{_size(limit)}: raise it, or use index_method Flat, which takes none and compares with every vector on disk"
    )


def _parts(dimension: int) -> list[int]:
    """Into how many pieces of 4, 8 and 16 components a vector can be cut, each a code of four bits."""
    return [dimension // size for size in (4, 8, 16) if dimension % size == 0 and dimension // size % 2 == 0]


def _size(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size >= 10**8 else f"{size / 1e6:.2g} MB"
