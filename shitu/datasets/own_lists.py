"""Own data -> list files: one, or one per part of a split; numbered labels to train with, text to look up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shitu.datasets.rows import Row
from shitu.datasets.split import shared_classes
from shitu.datasets.write_list import workspace, write_list

VAL_COLUMNS = "path label unique_id"


@dataclass(frozen=True)
class OwnList:
    """A file that was written, and what stands in a line of it."""

    path: Path
    images: int
    classes: int
    columns: str


def write_train_list(rows: list[Row], target: Path) -> list[OwnList]:
    """`path label` with dense labels; the names in the classes file beside. Raises as write_list does."""
    written = write_list(rows, target)
    return [OwnList(target, written.images, written.classes, "path label")]


def write_parts(parts: Mapping[str, list[Row]], folder: Path, *, text: bool = False) -> list[OwnList]:
    """`folder/train.txt` and so on. Lists that share classes share their numbers; train's begin at 0.

    `val` is query and gallery at once, and so has a third column that keeps an image from finding itself.
    text: the lists of build-gallery and evaluate instead, with the labels themselves.
    """
    if text:
        return [one for name, rows in parts.items() for one in write_gallery_list(rows, folder / f"{name}.txt")]
    lists, offset = [], 0
    for names in shared_classes(parts):
        classes = {row.label for name in names for row in parts[name]}
        for name in names:
            target = folder / f"{name}.txt"
            third = name == "val"
            written = write_list(
                parts[name], target, offset=offset, classes=classes, third="serial" if third else "none"
            )
            lists.append(OwnList(target, written.images, written.classes, VAL_COLUMNS if third else "path label"))
        offset += len(classes)
    return lists


def write_gallery_list(rows: list[Row], target: Path) -> list[OwnList]:
    """`path<TAB>label text`, which build-gallery takes as IndexProcess.data_file with delimiter "\\t", and evaluate."""
    with workspace(target) as folder:
        with (folder / "list").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{row.path}\t{row.label}\n" for row in rows)
        os.replace(folder / "list", target)
    return [OwnList(target, len(rows), len({row.label for row in rows}), "path<TAB>label text")]
