"""List files, `path label [unique_id]` per line, as arrays that stay small with millions of lines."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np

from shitu.errors import ConfigError
from shitu.images.read import Picture, read_image
from shitu.list_line import is_whole, splitter
from shitu.training.rec import schema_data
from shitu.training.rec.image_folders import boxes_of, market_rows

BLOCK = 1 << 22  # bytes of a list file that are Python objects at once
CHECKED_AT_ONCE = 10_000  # paths looked up by one thread before it takes the next lot
SHOWN = 5


@dataclass(frozen=True, eq=False)
class ImageList:
    """n images of C classes. The paths are one buffer; a path becomes a Python string when it is asked for."""

    image_root: str
    text: bytes  # the paths as written, UTF-8, one after another
    offsets: np.ndarray  # (n + 1,) int64: path i is text[offsets[i]:offsets[i + 1]]
    labels: np.ndarray  # (n,) int64, 0..C-1
    original_labels: np.ndarray  # (C,) int64, or str where labels are text: the values in the file, ascending
    ids: np.ndarray | None = None  # (n,) int64, the third column; of texts, a hash
    boxes: np.ndarray | None = None  # (n, 4) int64: x1, y1, x2, y2 in pixels of what is shown of an image

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_count(self) -> int:
        return len(self.original_labels)

    @cached_property
    def counts(self) -> np.ndarray:
        """(C,) int64, images per class."""
        return np.bincount(self.labels, minlength=self.class_count)

    def path(self, index: int) -> str:
        """Where image `index` lies, image_root included."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return os.path.join(self.image_root, self.text[start:end].decode("utf-8"))

    def read(self, index: int) -> Picture:
        """Image `index`, or its box. Raises ImageError."""
        picture = read_image(self.path(index))
        if self.boxes is None:
            return picture
        x1, y1, x2, y2 = self.boxes[index].clip(min=0)
        return picture[y1:y2, x1:x2] if y1 < min(y2, len(picture)) and x1 < min(x2, picture.shape[1]) else picture

    @classmethod
    def from_rows(
        cls, paths: Sequence[str], labels: Sequence[int] | np.ndarray, *, image_root: str = "", ids: Sequence[int] = ()
    ) -> ImageList:
        """The list of the given paths; labels are numbered as with `relabel`."""
        encoded = [path.encode("utf-8") for path in paths]
        values, numbered = np.unique(np.asarray(labels, np.int64), return_inverse=True)
        own_ids = np.asarray(ids, np.int64) if len(ids) else None
        return cls(image_root, b"".join(encoded), _offsets([_lengths(encoded)]), numbered, values, own_ids)


class RowsByClass:
    """Which rows of a list belong to a class, in O(1): rows sorted by label, and where each class begins."""

    def __init__(self, labels: np.ndarray) -> None:
        self.counts = np.bincount(labels)  # (C,) int64
        self.starts = np.cumsum(self.counts) - self.counts  # (C,) int64
        self.order = np.argsort(labels, kind="stable")  # (n,) int64

    def __getitem__(self, label: int) -> np.ndarray:
        """(count,) int64, ascending."""
        start = self.starts[label]
        return self.order[start : start + self.counts[label]]


def read_image_list(dataset: schema_data.Dataset, *, what: str, dense: bool = True) -> ImageList:
    """Read a list file; `what` is the section's dotted name for messages, such as DataLoader.Train.dataset.

    Columns are split at TABs where the first line holds one, otherwise at dataset.delimiter from the right, so that
    paths may hold spaces. Labels are integers 0..C-1 without gaps; with `relabel` any integers or texts, numbered in
    ascending order. `dense=False` (evaluation, where query and gallery list hold some of the classes each) numbers
    any integers; compare `original_labels[labels]` between lists then.
    Raises ConfigError for a list that is missing, empty, malformed or not UTF-8, and for images that are not there.
    """
    if isinstance(dataset, schema_data.Market1501):
        folder, names, persons, cameras = market_rows(dataset, what)
        return ImageList.from_rows(names, persons, image_root=folder, ids=cameras)
    if dataset.cls_label_path is None:
        raise ConfigError(f"{what}.cls_label_path is null; a list file is wanted, which `shitu dataset` makes")
    reading = _Reading(dataset, what)
    try:
        reading.read()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{what}.cls_label_path {dataset.cls_label_path}: {getattr(error, 'strerror', None) or error}; it lists "
            "the images, one `path label` per line (`shitu dataset` makes it)"
        ) from error
    labels, values = reading.numbered_labels(dense=dense)
    offsets = _offsets(reading.lengths)
    images = ImageList(dataset.image_root, reading.text.getvalue(), offsets, labels, values, reading.numbered_ids())
    if dataset.check_files:
        _check_files(images, what)
    if isinstance(dataset, schema_data.CompCars) and dataset.bbox_crop:
        paths = [images.text[start:end].decode("utf-8") for start, end in pairwise(offsets.tolist())]
        images = replace(images, boxes=boxes_of(dataset, paths, what))
    return images


class _Reading:
    """What has been read of a list file so far, and what is said of its lines."""

    def __init__(self, dataset: schema_data.Dataset, what: str) -> None:
        self.path, self.what, self.relabel = Path(str(dataset.cls_label_path)), what, dataset.relabel
        self.columns = 3 if isinstance(dataset, schema_data.VeriWild) else 2
        self.delimiter = dataset.delimiter.replace("\\t", "\t").encode("utf-8")
        self.text = io.BytesIO()  # its getvalue() copies nothing
        self.lengths: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []  # label texts by their number in `numbers`
        self.numbers: dict[bytes, int] = {}
        self.ids: list[np.ndarray] = []

    def read(self) -> None:
        """Take in the whole file. Raises ConfigError for bad lines, OSError where it cannot be read."""
        rows = 0
        with self.path.open("rb") as file:
            _skip_mark(file)
            while lines := file.readlines(BLOCK):
                self._check_text(b"".join(lines))
                lines = [line for line in map(bytes.strip, lines) if line]
                if not rows and lines and self.delimiter == b" " and b"\t" in lines[0]:
                    self.delimiter = b"\t"
                fields = self._split(lines, rows)
                if fields:
                    self._take(*zip(*fields, strict=True))
                rows += len(fields)
        if not rows:
            raise ConfigError(f"{self.what}.cls_label_path {self.path} is empty; one `path label` per line is wanted")

    def _check_text(self, block: bytes) -> None:
        try:
            block.decode("utf-8")
            fault = "NUL bytes" if b"\0" in block else ""
        except UnicodeDecodeError as error:
            fault = error.reason
        if fault:
            wide = b"\0" in block or block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            raise ConfigError(
                f"{self.what}.cls_label_path {self.path} is not UTF-8 text ({fault}); convert it first"
                f"{': ' if wide else ', for Chinese text often: '}"
                f"iconv -f {'UTF-16' if wide else 'GB18030'} -t UTF-8 {self.path}"
            )

    def _split(self, lines: list[bytes], before: int) -> list[list[bytes]]:
        """Columns of each line; `before` is how many rows came earlier."""
        if not before and lines and len(splitter(self.delimiter, self.columns)(lines[0])) == 2:
            self.columns = 2  # VeriWild may go without ids, as in PaddleClas
        split = splitter(self.delimiter, self.columns)
        fields = [split(line) for line in lines]
        if self.delimiter == b" " and not before and fields and self.columns == 2 and _ends_in_number(fields[0][0]):
            raise self._wrong_columns(0)
        wrong = next((row for row, each in enumerate(fields) if not is_whole(each, self.columns)), None)
        if wrong is not None:
            raise self._wrong_columns(before + wrong)
        return fields

    def _take(self, paths: Sequence[bytes], labels: Sequence[bytes], ids: Sequence[bytes] = ()) -> None:
        self.text.write(b"".join(paths))
        self.lengths.append(_lengths(paths))
        numbers = self.numbers
        self.labels.append(np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int32))
        if ids:
            self.ids.append(np.array(ids))

    def numbered_labels(self, *, dense: bool) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 labels 0..C-1 and the (C,) values that they stand for. Raises ConfigError."""
        rows = np.concatenate(self.labels)
        texts = list(self.numbers)
        integers = [_is_integer(text) for text in texts]
        if all(integers):
            values, place = np.unique(np.array([int(text) for text in texts], np.int64), return_inverse=True)
            if dense and not self.relabel:
                self._check_dense(values)
        elif self.relabel:
            values, place = np.unique(np.array([text.decode("utf-8") for text in texts]), return_inverse=True)
        else:
            number = integers.index(False)
            raise ConfigError(
                f"{self._line(int(np.argmax(rows == number)))}: the label {texts[number].decode()!r} is no integer; "
                f"{self.what}.relabel=True takes text labels, too"
            )
        return place.astype(np.int64)[rows], values

    def numbered_ids(self) -> np.ndarray | None:
        """(n,) int64, the third column."""
        if not self.ids:
            return None
        return np.fromiter(map(_id_number, chain.from_iterable(self.ids)), np.int64, sum(map(len, self.ids)))

    def _check_dense(self, values: np.ndarray) -> None:
        if values[0] == 0 and values[-1] == len(values) - 1:
            return
        missing = np.setdiff1d(np.arange(len(values) + SHOWN), values)
        missing = missing[missing < values[-1]][:SHOWN]
        fault = f", without {', '.join(map(str, missing))}" if len(missing) else ""
        raise ConfigError(
            f"{self.what}.cls_label_path {self.path}: labels without gaps from 0 are wanted; there are "
            f"{len(values):,} different ones from {values[0]} to {values[-1]}{fault}. {self.what}.relabel=True numbers "
            "them anew (or `shitu dataset` does, in the list itself)"
        )

    def _wrong_columns(self, row: int) -> ConfigError:
        wanted, other = "path and label", "three columns, path label unique_id, are read by VeriWild"
        if self.columns == 3:
            wanted, other = "path, label and unique_id", "two columns, path label, are read by ImageNetDataset"
        between = {b" ": "spaces", b"\t": "TABs"}.get(self.delimiter, repr(self.delimiter.decode("utf-8")))
        return ConfigError(
            f"{self._line(row)}: wanted {wanted}, separated by {between}; {other} (key {self.what}.name), and "
            f"another separator is set by {self.what}.delimiter"
        )

    def _line(self, row: int) -> str:
        """`list.txt:7: 'what the line says'` of a row; empty lines count as lines but not as rows."""
        with self.path.open("rb") as file:
            _skip_mark(file)
            filled = ((number, line.strip()) for number, line in enumerate(file, start=1) if line.strip())
            number, line = next(islice(filled, row, None), (row + 1, b""))
        return f"{self.path}:{number}: {line.decode('utf-8')[:80]!r}"


def _skip_mark(file: io.BufferedReader) -> None:
    if file.peek(3).startswith(codecs.BOM_UTF8):
        file.read(3)


def _is_integer(text: bytes) -> bool:
    """Whether it is an int64 in plain ASCII digits; int() takes 1_000, too."""
    return text.removeprefix(b"-").isdigit() and len(text) <= 18


def _id_number(text: bytes) -> int:
    """The integer, or a hash of the text: the same image has the same number in every list."""
    if _is_integer(text):
        return int(text)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _ends_in_number(path: bytes) -> bool:
    """Whether a path is rather a path and a label, as `a.jpg 3`."""
    parts = path.rsplit(None, 1)
    return len(parts) == 2 and _is_integer(parts[1]) and b"." in parts[0]


def _lengths(texts: Sequence[bytes]) -> np.ndarray:
    return np.fromiter(map(len, texts), np.int64, len(texts))


def _offsets(lengths: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])


def _check_files(images: ImageList, what: str) -> None:
    """Raises ConfigError that counts the missing files and shows the first."""

    def missing_from(start: int) -> list[int]:
        rows = range(start, min(start + CHECKED_AT_ONCE, len(images)))
        return [row for row in rows if not os.path.isfile(images.path(row))]

    with ThreadPoolExecutor(max_workers=8) as pool:  # waits for the disk, not for the CPU
        found: Iterator[list[int]] = pool.map(missing_from, range(0, len(images), CHECKED_AT_ONCE))
        missing = list(chain.from_iterable(found))
    if missing:
        first = ", ".join(images.path(row) for row in missing[:SHOWN])
        raise ConfigError(
            f"{what}: {len(missing):,} of {len(images):,} listed images are missing, first: {first}. They are looked "
            f"for below {what}.image_root ({images.image_root}); `shitu dataset check` lists them all, and "
            f"{what}.check_files=False trains without them"
        )
