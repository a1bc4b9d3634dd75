"""The lists of a fine-tuning: photos to learn from, things that choose when to stop, and photos that are only asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shitu.build.list_file import Entry
from shitu.datasets.rows import Row
from shitu.datasets.split import split_rows
from shitu.datasets.write_list import write_parts
from shitu.errors import UsageError

ASKED, UNSEEN = 0.25, 0.3  # shares: of each thing's photos; of the things, by class
THINGS, PHOTOS = 4, 3  # wanted at least: so many things of so many photos


@dataclass(frozen=True)
class Lists:
    """`train` and `val` are lists of training, `asked` of evaluation; `unseen` labels are those of `val`."""

    train: Path
    val: Path
    asked: Path
    train_photos: int
    train_things: int
    unseen: frozenset[str]


def split_photos(entries: list[Entry], folder: Path, seed: int) -> Lists:
    """Write train.txt, val.txt and asked.txt below `folder`; no photo is in two of them, no thing in train and val.

    Raises UsageError where there are too few things or photos.
    """
    counts = Counter(entry.label for entry in entries)
    enough = [label for label, count in counts.items() if count >= PHOTOS]
    if len(enough) < THINGS:
        raise UsageError(
            f"{len(enough)} things with {PHOTOS} photos or more, of {len(counts)} in all: at least {THINGS} such are "
            "wanted to learn from. Without training, shitu build-gallery takes any number"
        )
    rows = [Row(Path(entry.image).as_posix(), entry.label) for entry in entries]
    asked = split_rows(rows, {"query": ASKED, "gallery": 1 - ASKED}, seed=seed, by_class=False)
    share = max(UNSEEN, 2 / len(enough))
    rest = [row for row in asked["gallery"] if counts[row.label] >= PHOTOS]
    parts = split_rows(rest, {"train": 1 - share, "val": share}, seed=seed, by_class=True)
    paths = {name: folder / f"{name}.txt" for name in ("train", "val", "asked")}
    folder.mkdir(parents=True, exist_ok=True)
    list(write_parts(parts, paths))
    list(write_parts({"query": asked["query"]}, {"query": paths["asked"]}, text=True))
    unseen = frozenset(row.label for row in parts["val"])
    return Lists(**paths, train_photos=len(parts["train"]), train_things=len(enough) - len(unseen), unseen=unseen)
