"""The public sets of public_sets.yaml, each with the readers of its layout."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from shitu.datasets.layouts import tables
from shitu.datasets.layouts.annotations import read_cars, read_inaturalist
from shitu.datasets.layouts.folders import read_class_folders, read_flowers, read_image_folder
from shitu.datasets.rows import Row
from shitu.datasets.write_list import Third
from shitu.errors import UsageError

Reader = Callable[[Path], Iterator[Row]]

READERS: dict[str, Callable[..., Iterator[Row]]] = {
    "class folders": read_class_folders,
    "class folders two deep": partial(read_class_folders, depth=2),
    "class folders anywhere": read_image_folder,
    "cars": read_cars,
    "compcars": tables.read_compcars,
    "fashion": tables.read_fashion,
    "flowers": read_flowers,
    "gldv2": tables.read_gldv2,
    "inaturalist": read_inaturalist,
    "inshop": tables.read_inshop,
    "products10k": tables.read_products10k,
    "sop": tables.read_sop,
    "veri_wild": tables.read_veri_wild,
}


@dataclass(frozen=True)
class Split:
    """One list of a set. `third` is its third column; `counts` are the published (images, classes), if any."""

    read: Reader
    counts: tuple[int, int] | None = None
    third: Third = "none"
    numbered_with: tuple[str, ...] = ()  # the splits that share one numbering of classes


@dataclass(frozen=True)
class PublicSet:
    name: str
    title: str
    homepage: str
    splits: dict[str, Split]
    read_column: Callable[..., Iterator[Row]] | None = None  # where the user may choose the class's column

    @property
    def counts(self) -> tuple[int, int]:
        """(images, classes) of PaddleClas's table."""
        counts = self.splits["train"].counts
        assert counts
        return counts


def _split(read: list[str], counts: list[int] | None = None, third: Third = "none", together: Any = ()) -> Split:
    name, *given = read
    reader = READERS[name]
    published = (counts[0], counts[1]) if counts else None
    return Split(lambda root: reader(root, *given), published, third, tuple(together))


def _set(name: str, title: str, homepage: str, splits: dict[str, Any], column: str = "") -> PublicSet:
    made = {split: _split(**how) for split, how in splits.items()}
    return PublicSet(name, title, homepage, made, READERS[column] if column else None)


_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
PUBLIC_SETS = tuple(_set(name, **known) for name, known in _TABLE.items())


def public_set(name: str) -> PublicSet:
    """The set of that name, however it is written: `Products_10K` is `products-10k`. Raises UsageError."""
    sets = {known.name: known for known in PUBLIC_SETS}
    plain = "-".join(name.lower().replace("_", " ").replace("-", " ").split())
    if plain not in sets:
        near = difflib.get_close_matches(plain, sets, n=1)
        hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(sets)
        raise UsageError(f"no public set {name!r}; {hint} (`shitu dataset convert --list`)")
    return sets[plain]
