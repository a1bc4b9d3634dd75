"""Records as rows of a sheet on stdout: CSV (`--format csv`), or Parquet for data frames (`--format parquet`)."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from shitu.cli import out
from shitu.errors import UsageError

Columns = Mapping[str, type]
Row = Mapping[str, Any]

STYLES = ("csv", "parquet")
_BOX: Columns = {"x1": int, "y1": int, "x2": int, "y2": int}
ENTRY: Columns = {"id": int, "label": str, "image": str, "sha256": str, **_BOX}
REGION: Columns = {
    **{"image": str, "width": int, "height": int, "error": str},
    **_BOX,
    **{"label": str, "score": float, "det_score": float, "id": int, "gallery_image": str},
}
AT_ONCE = 10_000  # rows of one group of a Parquet file


def regions(record: Row) -> Iterator[Row]:
    """A record of `shitu predict` or `predict-det` as rows: one per region, or one without where there is none.

    Objects without a name, where the record tells of them, follow without label, score and gallery picture.
    """
    image = {name: record.get(name) for name in ("image", "width", "height", "error")}
    for region in [*record["regions"], *record.get("unnamed", ())] or [{}]:
        label, score = region.get("rec_docs"), region.get("rec_scores")
        named: Row = next((match for match in region.get("matches", ()) if match["label"] == label), {})
        own = {"label": label, "score": score, "det_score": region.get("det_score"), "id": named.get("id")}
        yield {**image, **own, "gallery_image": named.get("image"), **box(region.get("bbox"))}


def box(corners: Iterable[int] | None) -> dict[str, int]:
    """
    >>> box((1, 2, 3, 4))
    {'x1': 1, 'y1': 2, 'x2': 3, 'y2': 4}
    """
    return dict(zip(_BOX, corners or (), strict=False))


class Sheet:
    """Writes rows as they come; columns that a row lacks are empty. Raises UsageError where no Parquet can be."""

    def __init__(self, style: str, columns: Columns) -> None:
        self._columns, self._rows, self._writer = columns, list[Row](), None
        if style == "parquet":
            self._writer = _parquet(columns)
        else:
            self._line(columns)

    def __enter__(self) -> Sheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._writer is None:
                self._line("" if row.get(name) is None else row[name] for name in self._columns)
            else:
                self._rows.append({name: row.get(name) for name in self._columns})
        if len(self._rows) >= AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        assert self._writer is not None
        if self._rows:
            import pyarrow

            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._writer.schema))
        self._rows = []

    @staticmethod
    def _line(cells: Iterable[object]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        out.line(text.getvalue())


class _Stdout(io.RawIOBase):
    """Standard output as Parquet's writer wants a file: one that knows how far it is, though it be a pipe."""

    def __init__(self) -> None:
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        sys.stdout.buffer.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        sys.stdout.buffer.flush()


def _parquet(columns: Columns) -> Any:
    if sys.stdout.isatty():
        raise UsageError("--format parquet is not for a terminal: write it to a file, `... --format parquet > FILE`")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'shitu[parquet]'") from error
    kinds = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    return parquet.ParquetWriter(_Stdout(), pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()]))
