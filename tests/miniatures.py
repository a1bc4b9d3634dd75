"""The 17 public sets in their original layouts with a few images each, and the lists that should come of them."""

from __future__ import annotations

from pathlib import Path

from tests.miniature import Miniature
from tests.miniatures_folders import FOLDERS
from tests.miniatures_listed import LISTED
from tests.miniatures_tfrecords import write_tfrecords

MINIATURES: dict[str, Miniature] = FOLDERS | LISTED


def write_all(folder: Path) -> None:
    """Every set at `folder/<name>`, and the TFRecords of 104flowers at `folder/flower-tfrecords`."""
    for name, miniature in MINIATURES.items():
        miniature.write(folder / name)
    write_tfrecords(folder / "flower-tfrecords")


def write_lists(folder: Path) -> None:
    """`sop.txt` and `inshop.txt`, as `convert` makes them."""
    for name in ("sop", "inshop"):
        (folder / f"{name}.txt").write_text(MINIATURES[name].expected("train"), encoding="utf-8")
