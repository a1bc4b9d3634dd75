"""The tables, the index and the search of a gallery in Postgres, as SQL."""

from __future__ import annotations

import re
from typing import Any

from shitu.gallery.base import Facts
from shitu.gallery.stores.postgres_connection import SQL, Identifier, Literal
from shitu.gallery.stores.state import FOREVER, State
from shitu.measure import HAMMING, IP, L2

_OPERATORS = {IP: "<#>", L2: "<->", HAMMING: "<~>"}
_DENSE, _HALF = 2_000, 4_000  # dimensions that pgvector indexes as float32, and as half precision
_PLAIN = SQL("id, label, image, sha256, box, sum")
COLUMNS = {False: _PLAIN, True: SQL("{}, vector").format(_PLAIN)}


def vector_type(facts: Facts) -> str:
    return "bit" if facts.measure.packed else "vector"


def create(table: str, facts: Facts) -> list[Any]:
    """What makes a gallery's table, and whatever the database lacks.

    Labels are compared byte by byte ("C"), as Python does; a hash index takes texts of any length.
    """
    name, kind = Identifier(table), SQL(f"{vector_type(facts)}({int(facts.dimension)})")
    return [
        SQL("CREATE EXTENSION IF NOT EXISTS vector"),
        SQL(
            "CREATE TABLE IF NOT EXISTS shitu_gallery (name text PRIMARY KEY, format int NOT NULL, state text NOT NULL)"
        ),
        SQL(
            'CREATE TABLE {} (id bigint PRIMARY KEY, label text COLLATE "C" NOT NULL, image text NOT NULL, '
            "sha256 text NOT NULL, box int4[], sum bigint NOT NULL, vector {} NOT NULL, added bigint NOT NULL, "
            "gone bigint NOT NULL)"
        ).format(name, kind),
        *(SQL("CREATE INDEX ON {} USING hash ({})").format(name, Identifier(c)) for c in ("label", "image", "sha256")),
        SQL("CREATE INDEX ON {} (gone) WHERE gone < {}").format(name, Literal(FOREVER)),
        SQL("CREATE INDEX ON {} (added)").format(name),
    ]


def _compared(facts: Facts) -> tuple[Any, str, Any]:
    """The expression that is indexed and ordered by, the class of its operators, and the type of a query."""
    measure = facts.measure.name.lower()
    if facts.measure.packed:
        return SQL("vector"), f"bit_{measure}_ops", SQL(f"bit({int(facts.dimension)})")
    if facts.dimension <= _DENSE:
        return SQL("vector"), f"vector_{measure}_ops", SQL("vector")
    half = SQL(f"halfvec({int(facts.dimension)})")
    return SQL("(vector::{})").format(half), f"halfvec_{measure}_ops", half


def index_of(state: State) -> Any:
    """The statement that makes the index; None for a gallery that is compared with everything."""
    facts = state.facts
    if facts.index_method.strip() == "Flat" or (not facts.measure.packed and facts.dimension > _HALF):
        return None
    found = re.match(r"HNSW(\d+)", facts.index_method.strip())
    links = min(max(int(found[1]) if found else 32, 4), 64)
    expression, operators, _ = _compared(facts)
    return SQL("CREATE INDEX ON {} USING hnsw ({} {}) WITH (m = {}, ef_construction = {})").format(
        Identifier(state.table), expression, SQL(operators), Literal(links), Literal(max(64, 2 * links))
    )


def nearest(state: State, k: int) -> Any:
    """The k rows nearest to %(query)s at %(version)s, whole."""
    expression, _, kind = _compared(state.facts)
    return SQL(
        "SELECT {} FROM {} WHERE added <= %(version)s AND gone > %(version)s ORDER BY {} {} %(query)s::{} LIMIT {}"
    ).format(COLUMNS[True], Identifier(state.table), expression, SQL(_OPERATORS[state.facts.measure]), kind, Literal(k))
