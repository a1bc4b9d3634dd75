"""The word of the configuration about an index, `index_method`, without faiss."""

from __future__ import annotations

import re

from shitu.measure import Measure

MAX_LISTS = 65536
EXAMPLES = "Flat, HNSW32, IVF, or a faiss factory string such as 'IVF256,Flat' or 'OPQ32,PQ32'"


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
