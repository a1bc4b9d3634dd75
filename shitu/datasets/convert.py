"""The original folder of a public set -> a list file, and how its size compares with what was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shitu.datasets.layouts.folders import LayoutError
from shitu.datasets.public_sets import PublicSet
from shitu.datasets.write_list import Delimiter, Written, write_list
from shitu.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Converted:
    """What was written; `as_published` is None where nothing was published to compare with."""

    written: Written
    report: str
    as_published: bool | None


def convert(
    source: PublicSet,
    root: Path,
    target: Path,
    *,
    split: str = "train",
    column: str | None = None,
    offset: int = 0,
    prefix: str = "",
    delimiter: Delimiter = "auto",
    check_files: bool = False,
    told: Callable[[int], object] = lambda count: None,
) -> Converted:
    """Write the list of one split. Raises ConfigError for a folder that does not look like the set, UsageError."""
    if split not in source.splits:
        raise UsageError(f"{source.name} has no split {split!r}; it has {', '.join(source.splits)}")
    chosen = source.splits[split]
    read = chosen.read
    if column:
        if source.read_column is None:
            raise UsageError(f"{source.name} has no columns to choose a class from; leave --column out")
        read = partial(source.read_column, column=column)
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; wanted the unpacked {source.title}, from {source.homepage}")
    try:
        classes = {row.label for name in chosen.numbered_with for row in source.splits[name].read(root)}
        written = write_list(
            read(root),
            target,
            offset=offset,
            prefix=prefix,
            delimiter=delimiter,
            third=chosen.third,
            classes=classes,
            check_below=root if check_files else None,
            told=told,
        )
    except LayoutError as error:
        raise ConfigError(
            f"this does not look like {source.title} ({split}): {error}. Its layout: docs/datasets/{source.name}.md; "
            f"get it from {source.homepage}"
        ) from error
    except PermissionError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; {source.title} must be readable") from error
    return _compared(written, None if column else chosen.counts)


def _compared(written: Written, published: tuple[int, int] | None) -> Converted:
    found = (written.images, written.classes)
    parts = [f"{found[0]:,} images", f"{found[1]:,} classes"]
    for place, (count, wanted) in enumerate(zip(found, published or found, strict=True)):
        if count != wanted:
            how = f"{abs(count - wanted):,} {'more' if count > wanted else 'fewer'}"
            parts[place] += f" where {wanted:,} were published ({how})"
    same = None if published is None else found == published
    return Converted(written, ", ".join(parts) + (": as published" if same else ""), same)
