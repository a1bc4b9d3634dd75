"""A gallery in Postgres with pgvector: a change is one transaction, and one row says which version is the gallery."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery.base import Facts, Item, LabelCount
from shitu.gallery.stores.postgres_connection import SQL, Bits, Connection, Database, Dense, Identifier, UndefinedTable
from shitu.gallery.stores.postgres_sql import COLUMNS, create, index_of, nearest, vector_type
from shitu.gallery.stores.state import FOREVER, FORMAT, Rows, State

AT_ONCE = 4096  # rows fetched at a time
_VISIBLE = SQL("added <= %(version)s AND gone > %(version)s")


class Postgres:
    """The place of one gallery in a database. Nothing is asked of the server before it must be."""

    format = "postgres"
    most = 2**31 - 1

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.url, self.name = self._database.url, self._database.name
        self._tables = f"shitu_{self.name[:20].lower()}_"  # what the names of its tables begin with

    def close(self) -> None:
        self._database.close()

    def head(self) -> State | None:
        try:
            with self._database.nested():  # else a table that is not there would end the writer's transaction
                found = self._ask(SQL("SELECT format, state FROM shitu_gallery WHERE name = %(name)s"), name=self.name)
        except GalleryError as error:
            if isinstance(error.__cause__, UndefinedTable):
                return None
            raise
        if not found:
            return None
        ((version, text),) = found
        if version != FORMAT:
            raise GalleryError(
                f"{self.url} has version {version}, this shitu reads version {FORMAT}: update shitu, or rebuild it "
                "with `shitu build-gallery`"
            )
        return State.from_text(text, self.url, f"{self._tables}[0-9a-f]{{12}}")

    def _ask(self, statement: Any, **values: Any) -> list[Any]:
        return self._database.run(
            lambda connection: connection.cursor(binary=True).execute(statement, values).fetchall()
        )

    def _do(self, statement: Any, **values: Any) -> None:
        self._database.run(lambda connection: connection.execute(statement, values))

    # --- reading ---------------------------------------------------------------------------------------------------

    def nearest(self, state: State, queries: NDArray[Any], k: int, thorough: int | None) -> list[Rows]:
        statement = nearest(state, k)
        wrap = _wrapper(state.facts)

        # Without sorting only the index is left; the planner thinks a scan cheap, since it does not count the vectors,
        # which lie beside the rows (TOAST).
        settings = {"hnsw.ef_search": str(min(max(thorough or 64, k), 1000)), "hnsw.iterative_scan": "strict_order"}
        settings |= {"enable_sort": "off"} if index_of(state) else {}
        set_ = SQL("SELECT {}").format(SQL(", ").join([SQL("set_config(%s, %s, true)")] * len(settings)))

        def search(connection: Connection) -> list[Rows]:
            with connection.transaction():
                connection.execute(set_, [*chain.from_iterable(settings.items())])
                found = [_found(connection, statement, wrap(query), state) for query in queries]
                if any(len(rows.items) < k for rows in found):  # the index has given up: compare with everything
                    connection.execute("SET LOCAL enable_sort = on; SET LOCAL enable_indexscan = off")
                    found = [_found(connection, statement, wrap(query), state) for query in queries]
            return found

        return self._database.run(search)

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
        wanted = [SQL("id > %(after)s"), _VISIBLE]
        if label is not None:
            wanted.append(SQL("label = %(label)s"))
        if text:
            wanted.append(_CONTAINS)
        statement = SQL("SELECT {} FROM {} WHERE {} ORDER BY id LIMIT %(limit)s").format(
            COLUMNS[vectors], Identifier(state.table), SQL(" AND ").join(wanted)
        )
        limit = min(at_once or AT_ONCE, AT_ONCE)
        values = {"version": state.version, "label": label, "text": text, "limit": limit}
        while found := self._ask(statement, after=after, **values):
            yield _rows(found, state.facts, vectors=vectors)
            if len(found) < limit:
                return
            after = found[-1][0]

    def fetch(self, state: State, ids: Collection[int], *, vectors: bool = False) -> Iterator[Rows]:
        wanted = list(ids)
        statement = SQL("SELECT {} FROM {} WHERE id = ANY(%(ids)s) AND {}").format(
            COLUMNS[vectors], Identifier(state.table), _VISIBLE
        )
        for start in range(0, len(wanted), AT_ONCE):
            found = self._ask(statement, ids=wanted[start : start + AT_ONCE], version=state.version)
            if found:
                yield _rows(found, state.facts, vectors=vectors)

    def find(self, state: State, column: str, values: Collection[str]) -> list[int]:
        statement = SQL("SELECT id FROM {} WHERE {} = ANY(%(values)s) AND {}").format(
            Identifier(state.table), Identifier(column), _VISIBLE
        )
        return [number for (number,) in self._ask(statement, values=list(values), version=state.version)]

    def labels(self, state: State, text: str, after: str, limit: int | None) -> list[LabelCount]:
        statement = SQL(
            "SELECT label, count(*), min(id), max(id) FROM {} WHERE label > %(after)s AND {} AND {} "
            "GROUP BY label ORDER BY label LIMIT %(limit)s"
        ).format(Identifier(state.table), _VISIBLE, _CONTAINS)
        found = self._ask(statement, after=after, text=text, limit=limit, version=state.version)
        return [LabelCount(*row) for row in found]

    def told(self, state: State) -> dict[str, Any]:
        ((size,),) = self._ask(SQL("SELECT pg_total_relation_size(%(table)s::regclass)"), table=state.table)
        return {"table": state.table, "next_id": state.next_id, "bytes": size}

    def unchecked(self) -> list[str]:
        return ["Not looked at: Postgres's own files and index, which pg_amcheck checks."]

    # --- changing --------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        database = self._database
        with database.told():
            connection = database.connect()
            try:
                (free,) = connection.execute(
                    "SELECT pg_try_advisory_lock(hashtextextended('shitu ' || current_schema || ' ' || %s, 0))",
                    (self.name,),
                ).fetchone() or (False,)
                if not free:
                    raise GalleryBusyError(f"{self.url} is being written by another process; try again when it is done")
                database.held = connection
                yield
            finally:
                database.held = None
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        assert self._database.held is not None, "only within writing()"
        with self._database.told(), self._database.held.transaction():
            yield

    def make(self, facts: Facts) -> State:
        table = f"{self._tables}{uuid.uuid4().hex[:12]}"

        def run(connection: Connection) -> None:
            for statement in create(table, facts):
                connection.execute(statement)
            self._database.learn(connection)

        self._database.run(run)
        return State(table, facts)

    def numbered(
        self, state: State, items: list[Item], vectors: NDArray[Any], removed: Collection[int]
    ) -> tuple[list[int], list[bool], int]:
        end = state.next_id + len(items)
        return list(range(state.next_id, end)), [True] * len(items), end

    def insert(self, state: State, version: int, items: list[Item], vectors: NDArray[Any], sums: list[int]) -> None:
        wrap = _wrapper(state.facts)

        def run(connection: Connection) -> None:
            statement = SQL("COPY {} ({}, added, gone) FROM STDIN (FORMAT BINARY)").format(
                Identifier(state.table), COLUMNS[True]
            )
            with connection.cursor().copy(statement) as copy:
                copy.set_types(
                    ["int8", "text", "text", "text", "int4[]", "int8", vector_type(state.facts), "int8", "int8"]
                )
                for item, vector, value in zip(items, vectors, sums, strict=True):
                    box = None if item.box is None else list(item.box)
                    row = (item.id, item.label, item.image, item.sha256, box, value, wrap(vector), version, FOREVER)
                    copy.write_row(row)

        self._database.run(run)

    def hide(self, state: State, ids: Collection[int], version: int) -> None:
        statement = SQL("UPDATE {} SET gone = %(version)s WHERE id = ANY(%(ids)s)").format(Identifier(state.table))
        if ids:
            self._do(statement, ids=list(ids), version=version)

    def sweep(self, state: State) -> None:
        table = Identifier(state.table)
        self._do(SQL("DELETE FROM {} WHERE added > %(version)s").format(table), version=state.version)
        back = SQL("UPDATE {} SET gone = %(forever)s WHERE gone > %(version)s AND gone < %(forever)s").format(table)
        self._do(back, version=state.version, forever=FOREVER)

    def finish(self, state: State) -> None:
        if index := index_of(state):
            self._do(index)
        self._do(SQL("ANALYZE {}").format(Identifier(state.table)))  # else the planner would not take the index

    def publish(self, state: State, before: State | None) -> None:
        statement = SQL(
            "INSERT INTO shitu_gallery (name, format, state) VALUES (%(name)s, %(format)s, %(state)s) "
            "ON CONFLICT (name) DO UPDATE SET format = excluded.format, state = excluded.state"
        )
        self._do(statement, name=self.name, format=FORMAT, state=state.to_text())
        if others := self._others_than(state, before):
            self._do(SQL("DROP TABLE {}").format(SQL(", ").join(map(Identifier, others))))

    @staticmethod
    def _others_than(state: State, before: State | None) -> list[str]:
        """Tables that `before` kept for an undo and that nothing needs any more."""
        tables = {one.table for one in (before, before and before.previous) if one}
        return sorted(tables - {one.table for one in (state, state.previous) if one})

    def purge(self, state: State, *, others: bool) -> None:
        self._do(SQL("DELETE FROM {} WHERE gone <= %(oldest)s").format(Identifier(state.table)), oldest=state.oldest)

    def compact(self, state: State) -> None:
        table = Identifier(state.table)
        self._do(SQL("VACUUM (ANALYZE) {}").format(table))
        self._do(SQL("REINDEX TABLE CONCURRENTLY {}").format(table))


_CONTAINS = SQL("(%(text)s = '' OR strpos(lower(label), lower(%(text)s COLLATE \"C\")) > 0)")


def _found(connection: Connection, statement: Any, query: Any, state: State) -> Rows:
    values = {"query": query, "version": state.version}
    # not prepared: a plan for any version would guess that few rows are seen, and not take the index
    found = connection.cursor(binary=True).execute(statement, values, prepare=False).fetchall()
    return _rows(found, state.facts, vectors=True)


def _rows(found: list[Any], facts: Facts, *, vectors: bool) -> Rows:
    items = [Item(row[1], row[2], row[3], row[4] and tuple(row[4]), row[0]) for row in found]
    return Rows(items, [row[5] for row in found], _stacked([row[6] for row in found], facts) if vectors else None)


def _stacked(vectors: list[NDArray[Any]], facts: Facts) -> NDArray[Any]:
    return np.stack(vectors) if vectors else np.empty((0, facts.measure.width(facts.dimension)), facts.measure.dtype)


def _wrapper(facts: Facts) -> type[Dense] | type[Bits]:
    return Bits if facts.measure.packed else Dense
