"""What the bundled recogniser is trained on, chosen by and measured on, as lists of photos by source.

Classes that a run leaves out are the first of their source when ordered by the SHA-1 of their names (UTF-8, hex):
12 Caltech classes in every run, and in a control run 3 juice products and 3 kinds of clothing too. The 35 Caltech
classes of research/common/caltech_heldout.txt and juice test.txt are in no training or choosing list.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from research.common.photo_features import Photo, held_out_classes, listed

CALTECH_VALIDATION = 12
CONTROL_LEFT_OUT = 3
SHARES = {"caltech": 0.17, "clothing": 0.07, "design": 0.47, "emoji": 0.14, "juice": 0.15}  # of a batch's classes


def first_by_hash(labels: list[str], count: int) -> set[str]:
    """The labels that a control run leaves out."""
    return set(sorted(set(labels), key=lambda name: hashlib.sha1(name.encode()).hexdigest())[:count])


@dataclass(frozen=True)
class Left:
    """Class names that a run must not see."""

    caltech: set[str]
    juice: set[str]
    clothing: set[str]


def left_out(data: Path, control: bool) -> Left:
    """By the rule above; the 35 held-out classes are not even candidates."""
    caltech = [photo.label for photo in listed(data / "caltech101")]
    known = [label for label in caltech if label not in set(held_out_classes(caltech))]
    count = CONTROL_LEFT_OUT if control else 0
    juice, clothing = (
        first_by_hash([photo.label for photo in listed(data / folder, name)], count)
        for folder, name in (("juice", "train.txt"), ("clothing", "list.txt"))
    )
    return Left(first_by_hash(known, CALTECH_VALIDATION), juice, clothing)


def training_photos(data: Path, drawn: list[Path], left: Left) -> list[Photo]:
    """Everything a run trains on; labels begin with their source, so that a source's classes follow each other."""
    juice = [*listed(data / "juice", "train.txt"), *listed(data / "juice", "iconic.txt")]
    caltech = listed(data / "caltech101")
    kept_from = left.caltech | set(held_out_classes([photo.label for photo in caltech]))
    photos = [
        *(Photo(p.path, f"caltech {p.label}") for p in caltech if p.label not in kept_from),
        *(Photo(p.path, f"clothing {p.label}") for p in listed(data / "clothing") if p.label not in left.clothing),
        *(Photo(p.path, f"juice {p.label}") for p in juice if p.label not in left.juice),
    ]
    for number, folder in enumerate(drawn):  # designs of another seed are others, emoji are the same
        of_seed = f" seed {number}" if number else ""
        for photo in listed(folder, "train.txt"):
            photos.append(Photo(photo.path, photo.label + (of_seed if photo.label.startswith("design ") else "")))
    photos += [
        Photo(photo.path, f"juice {photo.label}")
        for photo in listed(drawn[0], "juice.txt")
        if photo.label not in left.juice
    ]
    return sorted(photos, key=lambda photo: (photo.label, str(photo.path)))


def class_names(photos: list[Photo]) -> list[str]:
    """Ascending, as `relabel: True` numbers them."""
    return sorted({photo.label for photo in photos})


def ratios(names: list[str]) -> tuple[list[int], list[float]]:
    """PKSampler's id_list and ratio, which give every source its share of the classes of a batch."""
    id_list, ratio = [], []
    for source, share in SHARES.items():
        ids = [i for i, name in enumerate(names) if name.split(" ")[0] == source]
        if ids:
            assert ids == list(range(ids[0], ids[-1] + 1)), f"classes of {source} do not follow each other"
            id_list += [ids[0], ids[-1]]
            ratio.append(round(100 * share / len(ids), 4))
    return id_list, ratio
