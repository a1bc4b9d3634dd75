"""Comma-separated tables: GLDv2, Fashion Product Images, Products-10k."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator
from pathlib import Path

from shitu.datasets.layouts.find import LayoutError, find_file, find_folder, relative
from shitu.datasets.layouts.text import bad_line, lines_of
from shitu.datasets.rows import Row
from shitu.errors import ConfigError


def read_gldv2(root: Path) -> Iterator[Row]:
    """`train_clean.csv`: landmark_id and its image ids with spaces between; image `0123..` is `train/0/1/2/0123...jpg`.

    Split by hand: a row may be longer than the 131,072 characters that the csv module takes.
    """
    table = find_file(root, "train_clean.csv", "train/train_clean.csv", "metadata/train_clean.csv")
    images = relative(_gldv2_images(root), root)
    lines = lines_of(table)
    header = next(lines, (1, ""))[1]
    if header.split(",") != ["landmark_id", "images"]:
        raise LayoutError(f"{table}: wanted the columns landmark_id,images; found {header[:80]!r}")
    for number, line in lines:
        landmark, comma, ids = line.partition(",")
        if not comma or not ids.strip():
            raise bad_line(table, number, line, "a landmark_id, a comma and image ids")
        for name in ids.split():
            yield Row(posixpath.join(images, *name[:3], f"{name}.jpg"), landmark.strip())


def _gldv2_images(root: Path) -> Path:
    """The folder that holds 0/ to f/."""
    return find_folder(root, "train/0", "images/train/0", "images/0", "0").parent


def read_fashion(root: Path, column: str = "baseColour") -> Iterator[Row]:
    """`styles.csv` with a column for the class, and `images/<id>.jpg`. Rows without an image are there, too."""
    table = find_file(root, "styles.csv", "fashion-dataset/styles.csv")
    images = relative(find_folder(table.parent, "images"), root)
    for row in read_table(table, "id", column):
        yield Row(posixpath.join(images, f"{row['id'].strip()}.jpg"), row[column])


def read_products10k(root: Path, split: str) -> Iterator[Row]:
    """`train.csv` (name, class, group) with `train/<name>`; `test_kaggletest.csv` (name, class, Usage) with `test/`."""
    table = find_file(root, f"{split}.csv" if split == "train" else "test_kaggletest.csv")
    folder = find_folder(table.parent, f"{split}/{split}", split)
    for row in read_table(table, "name", "class"):
        yield Row(posixpath.join(relative(folder, root), row["name"]), row["class"])


def read_table(path: Path, *columns: str, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Rows of a table with a header, read as they are needed; cells beyond the header are passed over.

    Raises LayoutError where a column is missing, ConfigError for a short row or text that cannot be read.
    """
    rows = csv.DictReader((line + "\n" for _, line in lines_of(path)), delimiter=delimiter, restkey="")
    try:
        header = rows.fieldnames or []
        for column in columns:
            if column not in header:
                raise LayoutError(f"{path}: wanted a column {column!r}; found {', '.join(header)[:200] or 'no header'}")
        for row in rows:
            if any(row[column] is None for column in columns):
                raise ConfigError(f"{path}: row {rows.line_num} is short; wanted {len(header)} cells, fetch it anew")
            yield row
    except csv.Error as error:
        raise ConfigError(f"{path}: row {rows.line_num}: {error}; fetch it anew") from error
