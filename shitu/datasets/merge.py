"""Several list files -> one whose class ids follow each other, with a table of each list's range of ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shitu.datasets.read_text import lines_of
from shitu.datasets.rows import path_problem
from shitu.datasets.write_list import TOLD_EVERY, Delimiter, classes_file, mark_between, workspace, write_classes
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


@dataclass(frozen=True)
class _Scanned:
    images: int
    labels: tuple[int, ...]  # ascending
    columns: int
    needs_tab: bool


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

    Writes `target`, its classes file where every list has one, and `offsets_file(target)`. Reads each list twice and
    keeps only its labels. Raises ConfigError for a line that cannot be used, UsageError for lists that do not go
    together.
    """
    _check_names(lists, target)
    scanned = [_scan(path) for path in lists]
    _check_columns(lists, scanned)
    mark = mark_between(target, delimiter, any(scan.needs_tab for scan in scanned))
    parts: list[Part] = []
    for path, scan in zip(lists, scanned, strict=True):
        parts.append(Part(path, scan.images, len(scan.labels), parts[-1].last + 1 if parts else 0))
    with workspace(target) as folder:
        with (folder / "list").open("w", encoding="utf-8", newline="\n") as file:
            for part, scan in zip(parts, scanned, strict=True):
                numbers = {label: number for number, label in enumerate(scan.labels, start=part.first)}
                for count, (image, label, *third) in enumerate(_entries(part.list), start=1):
                    file.write(mark.join([image, str(numbers[int(label)]), *third]) + "\n")
                    if count % TOLD_EVERY == 0:
                        told(TOLD_EVERY)
        rows = (f"{part.first}\t{part.last}\t{part.images}\t{part.classes}\t{part.list}\n" for part in parts)
        (folder / "offsets").write_text("first\tlast\timages\tclasses\tlist\n" + "".join(rows), encoding="utf-8")
        if all(classes_file(path).is_file() for path in lists):
            write_classes(folder / "classes", _merged_classes(parts, scanned))
            os.replace(folder / "classes", classes_file(target))
        os.replace(folder / "offsets", offsets_file(target))
        os.replace(folder / "list", target)
    return parts


def _check_names(lists: Sequence[Path], target: Path) -> None:
    resolved = [path.resolve() for path in lists]
    if not lists:
        raise UsageError("nothing to merge; give the list files in the order in which their ids shall follow")
    if len(set(resolved)) < len(resolved):
        raise UsageError("a list is given twice; its images would count as two classes; give it once")
    if target.resolve() in resolved:
        raise UsageError(f"{target} is one of the lists to merge; choose another name with -o")


def _check_columns(lists: Sequence[Path], scanned: list[_Scanned]) -> None:
    if len({scan.columns for scan in scanned}) > 1:
        columns = ", ".join(f"{path}: {scan.columns}" for path, scan in zip(lists, scanned, strict=True))
        raise UsageError(f"the lists have different numbers of columns ({columns}); merge those of one kind")


def _scan(path: Path) -> _Scanned:
    images, columns, needs_tab = 0, 0, False
    labels: set[int] = set()
    for image, label, *third in _entries(path):
        images += 1
        labels.add(int(label))
        needs_tab = needs_tab or " " in image
        if columns not in (0, 2 + len(third)):
            raise ConfigError(
                f"{path}: entry {images} has {2 + len(third)} columns, those before {columns}; mend the line"
            )
        columns = 2 + len(third)
    if not images:
        raise ConfigError(f"{path} is empty; wanted lines of path and label")
    return _Scanned(images, tuple(sorted(labels)), columns, needs_tab)


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


def _merged_classes(parts: list[Part], scanned: list[_Scanned]) -> Iterator[tuple[int, str]]:
    """Classes keep their names, with the list's own before them: `sop/1`, or `sop/train/1`."""
    files = [part.list.absolute() for part in parts]
    top = os.path.commonpath([file.parent for file in files])
    for part, scan, file in zip(parts, scanned, files, strict=True):
        origin = file.with_suffix("").relative_to(top).as_posix()
        names = dict(line.split("\t", 1) for _, line in lines_of(classes_file(part.list)) if "\t" in line)
        for number, label in enumerate(scan.labels, start=part.first):
            yield number, f"{origin}/{names.get(str(label), label)}"
