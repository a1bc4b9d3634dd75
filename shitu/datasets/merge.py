"""Several list files -> one whose class ids follow each other, with a table of each list's range of ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shitu.datasets.read_text import lines_of
from shitu.datasets.rows import Row, path_problem
from shitu.datasets.write_list import Delimiter, Third, classes_file, read_classes, write_lines, write_list
from shitu.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Part:
    """One list within the merged: its ids there are `first` to `last`, both included."""

    list: Path
    images: int
    classes: int
    first: int

    @property
    def last(self) -> int:
        return self.first + self.classes - 1


def offsets_file(target: Path) -> Path:
    """Beside a merged list: `first last images classes list`, with TABs.

    >>> str(offsets_file(Path("train_reg_all_data.txt")))
    'train_reg_all_data.offsets.tsv'
    """
    return target.with_name(f"{target.stem}.offsets.tsv")


def merge(
    lists: Sequence[Path],
    target: Path,
    *,
    delimiter: Delimiter = "auto",
    told: Callable[[int], object] = lambda count: None,
) -> list[Part]:
    """Write the lines of all lists in the order given; each list's labels become dense, beginning where the last ended.

    Writes `target`, its classes file where every list has one, and `offsets_file(target)`. Keeps only the labels in
    memory. Raises ConfigError for a line that cannot be used, UsageError for lists that do not go together.
    """
    _check_names(lists, target)
    columns = _columns(lists)
    parts: list[Part] = []

    def rows() -> Iterator[Row]:
        """A class is `list/label` with the list's place, so that the order of their names is the order wanted."""
        for number, path in enumerate(lists):
            images, labels = 0, set()
            for images, cells in enumerate(_entries(path), start=1):
                if len(cells) != columns:
                    raise ConfigError(
                        f"{path}: entry {images} has {len(cells)} columns, those before {columns}; mend the line"
                    )
                label = int(cells[1])
                labels.add(label)
                yield Row(cells[0], f"{number}/{label}", *cells[2:])
            parts.append(Part(path, images, len(labels), parts[-1].last + 1 if parts else 0))

    third: Third = "camera" if columns == 3 else "none"
    write_list(rows(), target, delimiter=delimiter, third=third, name_of=_class_names(lists), told=told)
    table = [f"{part.first}\t{part.last}\t{part.images}\t{part.classes}\t{part.list}\n" for part in parts]
    write_lines(offsets_file(target), ["first\tlast\timages\tclasses\tlist\n", *table])
    return parts


def _check_names(lists: Sequence[Path], target: Path) -> None:
    resolved = [path.resolve() for path in lists]
    if not lists:
        raise UsageError("nothing to merge; give the list files in the order in which their ids shall follow")
    if len(set(resolved)) < len(resolved):
        raise UsageError("a list is given twice; its images would count as two classes; give it once")
    if target.resolve() in resolved:
        raise UsageError(f"{target} is one of the lists to merge; choose another name with -o")


def _columns(lists: Sequence[Path]) -> int:
    """How many columns the lists have, by the first line of each."""
    counts = {path: len(next(_entries(path), ())) for path in lists}
    for path, count in counts.items():
        if not count:
            raise ConfigError(f"{path} is empty; wanted lines of path and label")
    if len(set(counts.values())) > 1:
        columns = ", ".join(f"{path}: {count}" for path, count in counts.items())
        raise UsageError(f"the lists have different numbers of columns ({columns}); merge those of one kind")
    return counts[lists[0]]


def _class_names(lists: Sequence[Path]) -> Callable[[str], str] | None:
    """Classes keep their names, with the list's own before them: `sop/1`, or `sop/train/1`; None: a list has none."""
    if not all(classes_file(path).is_file() for path in lists):
        return None
    files = [path.absolute() for path in lists]
    top = os.path.commonpath([file.parent for file in files])
    origins = [file.with_suffix("").relative_to(top).as_posix() for file in files]
    names = [read_classes(path) for path in lists]

    def name_of(key: str) -> str:
        number, label = key.split("/")
        return f"{origins[int(number)]}/{names[int(number)].get(label, label)}"

    return name_of


def _entries(path: Path) -> Iterator[list[str]]:
    """[path, label] or [path, label, id] of each line; a TAB separates where there is one, else a space."""
    for number, line in lines_of(path):
        cells = line.strip().split("\t" if "\t" in line else " ")
        if len(cells) not in (2, 3) or not all(map(_is_number, cells[1:])):
            raise ConfigError(
                f"{path}:{number}: {line[:80]!r}: wanted a path, a label and perhaps an id, the last two whole "
                "numbers; paths with spaces need TABs between the columns"
            )
        if problem := path_problem(cells[0]):
            raise ConfigError(f"{path}:{number}: {cells[0][:80]!r}: {problem}; mend the line")
        yield cells


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
