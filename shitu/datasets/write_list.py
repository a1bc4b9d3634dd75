"""Rows -> list files: `path label [id]` with a classes file, streaming, or the parts of a split; whole or not."""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shitu.datasets.read_text import lines_of
from shitu.datasets.rows import Row, natural_key, path_problem
from shitu.datasets.split import shared_classes
from shitu.errors import ConfigError, UsageError

Delimiter = Literal["auto", "space", "tab"]
Third = Literal["none", "serial", "camera"]  # nothing, a running number that is the image's own, Row.camera
_KEPT = 20


@dataclass
class Rejected:
    """Rows that were left out: how many, and the first of them with the reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.first) < _KEPT:
            self.first.append(f"{path[:200]!r}: {reason}")


@dataclass(frozen=True)
class Written:
    images: int
    classes: int
    delimiter: str
    refused: Rejected  # not fit for a list file
    missing: Rejected  # listed, but not there; only counted with `check_below`


def classes_file(target: Path) -> Path:
    """Beside a list file: its classes, `label<TAB>name` line by line.

    >>> str(classes_file(Path("sop/train_list.txt")))
    'sop/train_list.classes.txt'
    """
    return target.with_name(f"{target.stem}.classes.txt")


def read_classes(list_file: Path) -> dict[str, str]:
    """Label -> name, from the classes file beside the list; empty where there is none. Raises ConfigError."""
    path = classes_file(list_file)
    return dict(line.split("\t", 1) for _, line in lines_of(path) if "\t" in line) if path.is_file() else {}


def write_list(
    rows: Iterable[Row],
    target: Path,
    *,
    offset: int = 0,
    prefix: str = "",
    delimiter: Delimiter = "auto",
    third: Third = "none",
    classes: Iterable[str] = (),
    name_of: Callable[[str], str] | None = str,
    check_below: Path | None = None,
    told: Callable[[int], object] = lambda count: None,
) -> Written:
    """Number the classes densely from `offset` in natural order and write `target` and its classes file.

    `classes` are numbered too, even those without a row here: lists that belong together share them. `name_of`: what
    a class is called in the classes file; None writes no such file.
    `check_below` leaves out rows whose file is not below that folder. Memory grows with the classes only.
    Raises ConfigError if nothing is left to write, UsageError for a prefix or target that cannot be used.
    """
    if prefix and (problem := path_problem(prefix)):
        raise UsageError(f"prefix {prefix!r}: {problem}; wanted a folder below the image_root of the training")
    names = dict.fromkeys(map(_one_line, classes), 0)  # class -> rows
    refused, missing = Rejected(), Rejected()
    spaces = False
    with workspace(target) as folder:
        with (folder / "rows").open("w", encoding="utf-8", newline="\n") as spool:
            for row in rows:
                told(1)
                if problem := path_problem(row.path) or _label_problem(row, third):
                    refused.add(row.path, problem)
                elif check_below and not os.path.isfile(check_below / row.path):
                    missing.add(row.path, "no such file")
                else:
                    name, path = _one_line(row.label), posixpath.join(prefix, row.path)
                    names[name] = names.get(name, 0) + 1
                    spaces = spaces or " " in path
                    spool.write(f"{name}\t{path}\t{row.camera}\n")
        written = Written(
            sum(names.values()),
            sum(count > 0 for count in names.values()),
            _mark_between(target, delimiter, spaces),
            refused,
            missing,
        )
        if not written.images:
            left_out = [*refused.first, *missing.first]
            first = f"; first left out: {left_out[0]}" if left_out else ""
            raise ConfigError(f"no image is left for {target}{first}. Mend this, or name another source")
        numbers = {name: number for number, name in enumerate(sorted(names, key=natural_key), start=offset)}
        _write_out(folder / "rows", folder / "list", numbers, written.delimiter, third)
        if name_of:
            write_lines(classes_file(target), (f"{number}\t{name_of(name)}\n" for name, number in numbers.items()))
        os.replace(folder / "list", target)
    return written


def write_lines(target: Path, lines: Iterable[str]) -> None:
    """UTF-8 text put in place whole, half a character as \\udc80. Raises UsageError as `workspace` does."""
    with workspace(target) as folder:
        with (folder / "lines").open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(lines)
        os.replace(folder / "lines", target)


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """A folder beside `target` for unfinished files, gone in the end. Raises UsageError where none can be made."""
    if target.is_dir():
        raise UsageError(f"{target} is a folder; wanted the name of the list file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=".shitu-")
    except OSError as error:
        raise UsageError(f"cannot write to {target.parent}: {error.strerror}; choose another place with -o") from error
    with folder as path:
        yield Path(path)


def _label_problem(row: Row, third: Third) -> str | None:
    if not _one_line(row.label):
        return "it has no class"
    if third == "camera" and not (row.camera.isascii() and row.camera.isdigit()):
        return f"camera id {row.camera!r} is not a whole number"
    return None


def _one_line(label: str) -> str:
    text = " ".join(re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", label).split())
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _mark_between(target: Path, delimiter: Delimiter, spaces: bool) -> str:
    """What stands between the columns of a list; `spaces`: some path holds one."""
    if delimiter == "space" and spaces:
        raise UsageError(f"{target}: some paths hold a space; use --delimiter tab")
    return "\t" if delimiter == "tab" or spaces else " "


def _write_out(spool: Path, target: Path, numbers: dict[str, int], mark: str, third: Third) -> None:
    with spool.open(encoding="utf-8", newline="\n") as rows, target.open("w", encoding="utf-8", newline="\n") as file:
        for serial, row in enumerate(rows):
            label, path, camera = row.rstrip("\n").split("\t")
            columns = [path, str(numbers[label])]
            if third != "none":
                columns.append(str(serial) if third == "serial" else camera)
            file.write(mark.join(columns) + "\n")


@dataclass(frozen=True)
class OwnList:
    """A file that was written, and what stands in a line of it."""

    path: Path
    images: int
    classes: int
    columns: str


def write_parts(parts: Mapping[str, list[Row]], paths: Mapping[str, Path], *, text: bool = False) -> Iterator[OwnList]:
    """A list for each part, train.txt and so on. Lists that share classes share their numbers; train's begin at 0.

    `val` is query and gallery at once, and so has a third column that keeps an image from finding itself.
    text: the lists of build-gallery (delimiter "\t") and evaluate instead, with the labels themselves.
    """
    offset = 0
    for names in shared_classes(parts):
        classes = {row.label for name in names for row in parts[name]}
        for name in names:
            rows, path, columns = parts[name], paths[name], "path label"
            if text:
                columns = "path<TAB>label text"
                write_lines(path, (f"{row.path}\t{row.label}\n" for row in rows))
            else:
                third: Third = "serial" if name == "val" else "none"
                write_list(rows, path, offset=offset, classes=classes, third=third)
                columns += " unique_id" * (name == "val")
            yield OwnList(path, len(rows), len({row.label for row in rows}), columns)
        offset += len(classes)
