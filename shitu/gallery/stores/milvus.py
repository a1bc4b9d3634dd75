"""A gallery in Milvus, `milvus://HOST[:PORT]/NAME`, or milvus-lite, `milvus:///PATH/FILE.db[/NAME]`.

NAME is an alias of the collection that is the gallery, NAME__<12 hex digits>; the collection's properties hold the
state. An entry's id is a hash of what it is, so that an append that is sent twice adds once.
"""

from __future__ import annotations

import platform
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery.base import Facts, Item, LabelCount
from shitu.gallery.stores.milvus_connection import Connection, place_in
from shitu.gallery.stores.milvus_rows import (
    ITEM,
    MOST_AT_ONCE,
    WHOLE,
    at_once,
    contains,
    from_rows,
    index_of,
    key_of,
    quoted,
    to_rows,
    visible,
)
from shitu.gallery.stores.state import FOREVER, FORMAT, Rows, State
from shitu.gallery.stores.url import machine, place_of
from shitu.gallery.write.lock import write_lock

MANY = 500  # values in one filter
_STATE, _FORMAT = "shitu.state", "shitu.format"


class Milvus:
    """The place of one gallery in Milvus. Raises GalleryError where it cannot be reached."""

    format = "milvus"
    most = 16_384  # neighbours of one search, in Milvus

    def __init__(self, url: str) -> None:
        self.url, self._place = url, place_in(url)
        self.name, self.level = self._place.name, self._place.level
        self._connection = Connection(self._place)
        self._client, self._call = self._connection.client, self._connection.call
        self._loaded: set[str] = set()

    def close(self) -> None:
        """The connection is pymilvus's own, and shared."""

    def head(self) -> State | None:
        told = self._connection.describe(self.name)
        if told is None:
            return None
        properties = told.get("properties") or {}
        if _STATE not in properties:
            raise GalleryError(f"{self.url}: that collection is no gallery of shitu; name another one")
        if (version := str(properties.get(_FORMAT))) != str(FORMAT):
            raise GalleryError(
                f"{self.url} has version {version[:20]}, this shitu reads version {FORMAT}: update shitu, or rebuild "
                "it with `shitu build-gallery`"
            )
        return State.from_text(properties[_STATE], self.url, f"{self.name}__[0-9a-f]{{12}}")

    # --- reading ---------------------------------------------------------------------------------------------------

    def nearest(self, state: State, queries: NDArray[Any], k: int, thorough: int | None) -> list[Rows]:
        effort = max(thorough or 64, k)
        found: Any = self._call(
            self._client.search,
            self._ready(state.table),
            data=list(queries),
            anns_field="vector",
            limit=k,
            filter=visible(state),
            output_fields=[*ITEM[1:], "vector"],
            search_params={"metric_type": state.facts.dist_type, "params": {"ef": effort, "nprobe": effort}},
            consistency_level=self.level,
        )
        hits = ([hit["entity"] | {"id": hit["id"]} for hit in one] for one in found)
        return [from_rows(one, state.facts, vectors=True) for one in hits]

    def rows(
        self,
        state: State,
        *,
        after: int = -1,
        label: str | None = None,
        text: str = "",
        vectors: bool = False,
        at_once: int | None = None,
    ) -> Iterator[Rows]:
        wanted = f"{visible(state)} and id > {after}"
        if label is not None:
            wanted += f" and label == {quoted(label)}"
        for found in self._each(state, wanted, ITEM + ["vector"] * vectors, at_once):
            fits = [row for row in found if contains(row["label"], text)]
            if fits:
                yield from_rows(fits, state.facts, vectors=vectors)

    def _each(
        self, state: State, wanted: str, fields: list[str], most: int | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Rows by id; a plain query would be in no order, and end at 16,384."""
        iterator: Any = self._call(
            self._client.query_iterator,
            self._ready(state.table),
            batch_size=min(most or MOST_AT_ONCE, at_once(state.facts) if "vector" in fields else MOST_AT_ONCE),
            filter=wanted,
            output_fields=fields,
            consistency_level=self.level,
        )
        try:
            while True:
                with self._connection.told():
                    found = iterator.next()
                if not found:
                    return
                yield found
        finally:
            iterator.close()

    def fetch(self, state: State, ids: Collection[int], *, vectors: bool = False) -> Iterator[Rows]:
        for found in self._of(state, ids, ITEM + ["vector"] * vectors, visible(state)):
            yield from_rows(found, state.facts, vectors=vectors)

    def _of(self, state: State, ids: Collection[int], fields: list[str], among: str) -> Iterator[list[dict[str, Any]]]:
        wanted, size = sorted(ids), at_once(state.facts)
        for start in range(0, len(wanted), size):
            yield from self._each(state, f"{among} and id in {wanted[start : start + size]}", fields)

    def find(self, state: State, column: str, values: Collection[str]) -> list[int]:
        wanted = sorted(map(quoted, values))
        parts = (wanted[start : start + MANY] for start in range(0, len(wanted), MANY))
        filters = (f"{visible(state)} and {column} in [{', '.join(part)}]" for part in parts)
        return [row["id"] for one in filters for found in self._each(state, one, ["id"]) for row in found]

    def labels(self, state: State, text: str, after: str, limit: int | None) -> list[LabelCount]:
        """By reading every label: Milvus does not group."""
        counts: dict[str, LabelCount] = {}
        for found in self._each(state, visible(state), ["id", "label"]):
            for number, label in ((row["id"], row["label"]) for row in found):
                if label > after and contains(label, text):
                    old = counts.get(label) or LabelCount(label, 0, number, number)
                    counts[label] = LabelCount(label, old.count + 1, old.first, number)
        return [counts[label] for label in sorted(counts)][:limit]

    def told(self, state: State) -> dict[str, Any]:
        stored: Any = self._call(self._client.get_collection_stats, state.table)
        return {"collection": state.table, "rows": int(stored.get("row_count", 0)), "consistency": self.level}

    def unchecked(self) -> list[str]:
        return ["Not looked at: Milvus's own files and index, which are its operator's to check."]

    # --- changing --------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A lock of this machine, and for others a collection, which Milvus makes only once."""
        lock = f"{self.name}__lock"
        with write_lock(place_of(self.url)):
            ours = {"shitu.machine": machine(), "shitu.host": platform.node(), "token": uuid.uuid4().hex}
            holder = self._connection.claim(lock, ours)
            if holder.get("shitu.machine") == ours["shitu.machine"] and holder["token"] != ours["token"]:
                # of a writer that died here: this machine's lock is ours
                self._call(self._client.drop_collection, lock)
                holder = self._connection.claim(lock, ours)
            if holder.get("token") != ours["token"]:
                raise GalleryBusyError(
                    f"{self.url} is being written by another machine ({holder.get('shitu.host', 'unknown')[:80]}); try "
                    f"again when it is done. If that writer died, drop the collection {lock} in Milvus"
                )
            try:
                yield
            finally:
                with suppress(GalleryError):
                    self._call(self._client.drop_collection, lock)

    def transaction(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def make(self, facts: Facts) -> State:
        if facts.measure.packed:
            raise GalleryError(
                f"{self.url}: galleries of {facts.dist_type} are not kept in Milvus; keep them in a folder or in "
                "Postgres"
            )
        self._drop(keep=self.head())
        table = f"{self.name}__{uuid.uuid4().hex[:12]}"
        self._connection.create(table, facts.dimension, facts.dist_type, index_of(facts.index_method))
        return State(table, facts)

    def numbered(
        self, state: State, items: list[Item], vectors: NDArray[Any], removed: Collection[int]
    ) -> tuple[list[int], list[bool], int]:
        ids, fresh, ours = [-1] * len(items), [False] * len(items), set[int]()
        places, ordinal = list(range(len(items))), 0
        while places:
            keys = {place: key_of(items[place], vectors[place], ordinal) for place in places}
            seen = self._taken(state, set(keys.values()))
            places, ordinal = [], ordinal + 1
            for place, key in keys.items():
                there = seen.get(key, False) and key not in removed
                if not there and (key in seen or key in ours):  # that of a removed entry, or of its like in this change
                    places.append(place)
                    continue
                ids[place], fresh[place] = key, not there
                ours.add(key)
        return ids, fresh, 0

    def _taken(self, state: State, keys: Collection[int]) -> dict[int, bool]:
        """Of those ids that any row has: whether it is seen in this state."""
        found = (row for part in self._of(state, keys, ["id", "added", "gone"], "id >= 0") for row in part)
        return {row["id"]: row["added"] <= state.version < row["gone"] for row in found}

    def insert(self, state: State, version: int, items: list[Item], vectors: NDArray[Any], sums: list[int]) -> None:
        self._upsert(state, to_rows(items, vectors, sums, version))

    def _upsert(self, state: State, rows: Sequence[dict[str, Any]]) -> None:
        size = at_once(state.facts)
        for start in range(0, len(rows), size):
            self._call(self._client.upsert, state.table, list(rows[start : start + size]))

    def hide(self, state: State, ids: Collection[int], version: int) -> None:
        self._set_gone(state, self._of(state, ids, WHOLE, visible(state)), version)

    def _set_gone(self, state: State, found: Iterator[list[dict[str, Any]]], version: int) -> None:
        """Each row is written again: Milvus changes no single field."""
        for part in found:
            vectors = (np.asarray(row["vector"], np.float32) for row in part)
            changed = [row | {"vector": vector, "gone": version} for row, vector in zip(part, vectors, strict=True)]
            self._upsert(state, changed)

    def sweep(self, state: State) -> None:
        hidden = f"added <= {state.version} and gone > {state.version} and gone < {FOREVER}"
        self._set_gone(state, iter(list(self._each(state, hidden, WHOLE))), FOREVER)
        self._delete(state.table, f"added > {state.version}")

    def finish(self, state: State) -> None:
        self._call(self._client.flush, state.table)

    def publish(self, state: State, before: State | None) -> None:
        if self.head() != before:
            raise GalleryBusyError(f"{self.url} was changed by another writer meanwhile; run it again")
        properties = {_STATE: state.to_text(), _FORMAT: str(FORMAT)}
        self._call(self._client.alter_collection_properties, state.table, properties=properties)
        if before is None:
            self._call(self._client.create_alias, state.table, self.name)
        elif before.table != state.table:
            self._call(self._client.alter_alias, state.table, self.name)

    def purge(self, state: State, *, others: bool) -> None:
        self._delete(state.table, f"gone <= {state.oldest}")
        if others:
            self._drop(keep=state)

    def compact(self, state: State) -> None:
        self._call(self._client.flush, state.table)
        if not self._place.lite:  # which does so by itself
            self._call(self._client.compact, state.table)

    def _delete(self, table: str, among: str) -> None:
        self._call(self._client.delete, self._ready(table), filter=among)

    def _drop(self, keep: State | None) -> None:
        """Collections of this gallery that neither it nor an undo needs; a build that died has left them."""
        needed = {one.table for one in (keep, keep and keep.previous) if one}
        for table in self._call(self._client.list_collections):
            if re.fullmatch(re.escape(self.name) + "__[0-9a-f]{12}", table) and table not in needed:
                self._call(self._client.drop_collection, table)

    def _ready(self, table: str) -> str:
        """The collection, in the memory of the server."""
        if table not in self._loaded:
            self._call(self._client.load_collection, table)
            self._loaded.add(table)
        return table
