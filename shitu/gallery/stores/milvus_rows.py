"""A gallery's rows in Milvus: their ids, the filters that choose them, and the index over their vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryError
from shitu.gallery.base import Facts, Item
from shitu.gallery.stores.state import FOREVER, Rows, State
from shitu.results import Box

ITEM = ["id", "label", "image", "sha256", "box", "sum"]
WHOLE = [*ITEM, "added", "vector"]  # all but `gone`, which alone is ever changed
MOST_AT_ONCE, ANSWER_BYTES = 4096, 16 << 20  # a server sends no 64 MB


def key_of(item: Item, vector: NDArray[Any], ordinal: int) -> int:
    """An entry's id, 63 bits of a hash: of the file's content where that is known, else of the vector."""
    content = item.sha256 or vector.tobytes().hex()
    text = json.dumps([content, item.box, item.label, item.image, ordinal], ensure_ascii=True)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def visible(state: State) -> str:
    return f"added <= {state.version} and gone > {state.version}"


def quoted(text: str) -> str:
    """A text in a filter; JSON and Milvus both quote as C does."""
    return json.dumps(text, ensure_ascii=False)


def contains(label: str, text: str) -> bool:
    """Upper and lower case of A to Z alone are the same."""
    return text.encode().lower() in label.encode().lower()


def at_once(facts: Facts) -> int:
    """How many rows with their vectors go into one message."""
    return max(1, min(MOST_AT_ONCE, ANSWER_BYTES // (4 * facts.dimension + 1024)))


def index_of(method: str) -> tuple[str, dict[str, int]]:
    """Milvus's index for a configuration's `index_method`, which is written as faiss writes it."""
    method = method.strip()
    lists, links = re.match(r"IVF(\d*)", method), re.match(r"HNSW(\d+)", method)
    if method == "Flat":
        return "FLAT", {}
    if lists:
        return "IVF_FLAT", {"nlist": min(max(int(lists[1] or 1024), 1), 65_536)}
    return "HNSW", {"M": min(max(int(links[1]) if links else 32, 4), 64), "efConstruction": 200}


def to_rows(items: list[Item], vectors: NDArray[Any], sums: list[int], version: int) -> list[dict[str, Any]]:
    """As they are sent: there from `version` on."""
    return [
        {
            "id": item.id,
            "label": item.label,
            "image": item.image,
            "sha256": item.sha256,
            "box": "" if item.box is None else json.dumps(item.box),
            "sum": value,
            "added": version,
            "gone": FOREVER,
            "vector": vector,
        }
        for item, vector, value in zip(items, vectors, sums, strict=True)
    ]


def from_rows(found: Sequence[dict[str, Any]], facts: Facts, *, vectors: bool) -> Rows:
    """As they come, of which only some fields may have been asked for."""
    items = [
        Item(row["label"], row["image"], row.get("sha256", ""), _box(row.get("box", "")), row["id"]) for row in found
    ]
    data = np.array([row["vector"] for row in found], np.float32).reshape(len(found), -1) if vectors else None
    return Rows(items, [row.get("sum", 0) for row in found], data)


def _box(text: str) -> Box | None:
    if not text:
        return None
    try:
        left, top, right, bottom = (int(edge) for edge in json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise GalleryError(f"an entry has a damaged box {text[:80]!r}; rebuild the gallery") from error
    return left, top, right, bottom
