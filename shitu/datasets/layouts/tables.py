"""Text files that list a set's images: GLDv2, Fashion, Products-10k, SOP, In-shop, VeRI-Wild, CompCars."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from shitu.datasets.layouts.folders import LayoutError, find_file, find_folder, relative
from shitu.datasets.read_text import bad_line, lines_of
from shitu.datasets.rows import Row
from shitu.errors import ConfigError


def read_gldv2(root: Path) -> Iterator[Row]:
    """`train_clean.csv`: landmark_id and its image ids with spaces between; image `0123..` is `train/0/1/2/0123...jpg`.

    Split by hand: a row may be longer than the 131,072 characters that the csv module takes.
    """
    table = find_file(root, "train_clean.csv", "train/train_clean.csv", "metadata/train_clean.csv")
    images = relative(find_folder(root, "train/0", "images/train/0", "images/0", "0").parent, root)
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


def read_sop(root: Path, split: str) -> Iterator[Row]:
    """`Ebay_train.txt`, `Ebay_test.txt`: image_id class_id super_class_id path, one image per line."""
    table = find_file(root, f"Ebay_{split}.txt")
    folder = relative(table.parent, root)
    for cells in _below_header(table, "image_id class_id super_class_id path", maxsplit=3):
        yield Row(posixpath.join(folder, cells[3]), cells[1])


def read_inshop(root: Path, split: str) -> Iterator[Row]:
    """`Eval/list_eval_partition.txt`: a count, then image_name item_id evaluation_status in columns of spaces."""
    table = find_file(root, "Eval/list_eval_partition.txt", "eval/list_eval_partition.txt", "list_eval_partition.txt")
    images = find_folder(root, "img", "Img/img", "Img")
    folder = relative(images.parent if images.name == "img" else images, root)
    for cells in _below_header(table, "image_name item_id evaluation_status", lines_before=1):
        if cells[2] == split:
            yield Row(posixpath.join(folder, cells[0]), cells[1])


def read_veri_wild(root: Path, name: str) -> Iterator[Row]:
    """`train_test_split/<name>.txt`: `00001/000001`, vehicle and image; the camera is in `vehicle_info.txt`."""
    table = find_file(root, f"train_test_split/{name}.txt")
    images = relative(find_folder(table.parent.parent, "images"), root)
    cameras: dict[str, str] = {}
    if name != "train_list":
        info = read_table(table.parent / "vehicle_info.txt", "id/image", "Camera ID", delimiter=";")
        cameras = {row["id/image"]: row["Camera ID"].strip() for row in info}
    for number, line in lines_of(table):
        image = line.strip().removesuffix(".jpg")
        vehicle, slash, _ = image.partition("/")
        if not slash:
            raise bad_line(table, number, line, "vehicle/image")
        if cameras and image not in cameras:
            raise bad_line(table, number, image, "an image of vehicle_info.txt")
        yield Row(posixpath.join(images, f"{image}.jpg"), vehicle, cameras.get(image, ""))


def read_compcars(root: Path, split: str) -> Iterator[Row]:
    """`train_test_split/classification/<split>.txt`: make/model/year/name.jpg below `image/`; a model is a class."""
    table = find_file(root, *(f"{top}train_test_split/classification/{split}.txt" for top in ("", "data/")))
    images = relative(find_folder(table.parent.parent.parent, "image"), root)
    for number, line in lines_of(table):
        path = line.strip()
        if path.count("/") != 3:
            raise bad_line(table, number, line, "make/model/year/name.jpg")
        make, model, _ = path.split("/", 2)
        yield Row(posixpath.join(images, path), f"{make}/{model}")


def _below_header(path: Path, header: str, *, lines_before: int = 0, maxsplit: int = -1) -> Iterator[list[str]]:
    """The cells of each line, as many as the header has; those after `maxsplit` others may hold spaces."""
    lines = islice(lines_of(path), lines_before, None)
    found = next(lines, (1, "an empty file"))[1]
    if found.split() != header.split():
        raise LayoutError(f"{path}: wanted the header {header!r}; found {found[:80]!r}")
    for number, line in lines:
        cells = line.split(maxsplit=maxsplit)
        if len(cells) != len(header.split()):
            raise bad_line(path, number, line, header)
        yield cells
