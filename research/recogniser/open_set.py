"""How many known things a recogniser names where one in ten unknown things is named too.

    python -m research.recogniser.open_set [MODEL_FOLDER ...] [--data ../shared/data]

Three settings, all of photos that no model of this project was trained or chosen on:
juice: test.txt against train.txt + iconic.txt of seven products; unknown are the three that a control run leaves out;
caltech: 15 of the 35 held-out classes with 5 photos each, unknown are the other 20; and the other way round.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from research.common import photo_features as photos
from research.common.photo_features import Photo
from research.recogniser import lists
from research.recogniser.sets import Embed

ROOT = Path(__file__).resolve().parents[2]
KNOWN_CLASSES, ENROLLED = 15, 5
FALSE_NAMES = 0.1


class OpenSet(NamedTuple):
    """A gallery, photos of what it holds and photos of what it does not."""

    gallery: list[Photo]
    known: list[Photo]
    unknown: list[Photo]


class Figures(NamedTuple):
    """`recall` of the known at the `threshold` that names one unknown in ten; `closed` without a threshold."""

    recall: float
    threshold: float
    closed: float
    median_right: float
    median_unknown: float


def settings(data: Path) -> dict[str, OpenSet]:
    """By name."""
    unknown = lists.left_out(data, control=True).juice
    gallery = photos.listed(data / "juice", "train.txt") + photos.listed(data / "juice", "iconic.txt")
    test = photos.listed(data / "juice", "test.txt")
    juice = OpenSet(
        [photo for photo in gallery if photo.label not in unknown],
        [photo for photo in test if photo.label not in unknown],
        [photo for photo in test if photo.label in unknown],
    )
    caltech = photos.listed(data / "caltech101")
    unseen = photos.held_out_classes([photo.label for photo in caltech])
    by_class = {name: [photo for photo in caltech if photo.label == name] for name in unseen}
    known = lists.first_by_hash(unseen, KNOWN_CLASSES)
    return {
        "juice, 3 of 10 products unknown": juice,
        "caltech, 20 of 35 classes unknown": _classes(by_class, known),
        "caltech, 15 of 35 classes unknown": _classes(by_class, set(unseen) - set(known)),
    }


def _classes(by_class: dict[str, list[Photo]], known: set[str]) -> OpenSet:
    return OpenSet(
        [photo for name in sorted(known) for photo in by_class[name][:ENROLLED]],
        [photo for name in sorted(known) for photo in by_class[name][ENROLLED:]],
        [photo for name, photos_of in by_class.items() if name not in known for photo in photos_of],
    )


def choosing_settings(data: Path, drawn: Path) -> dict[str, OpenSet]:
    """The same of classes kept for choosing: half of them known."""
    left = lists.left_out(data, control=False).caltech
    caltech = [photo for photo in photos.listed(data / "caltech101") if photo.label in left]
    half = lists.first_by_hash(sorted(left), len(left) // 2)
    enrolled = [photo for name in sorted(half) for photo in [p for p in caltech if p.label == name][:ENROLLED]]
    things = OpenSet(
        enrolled,
        [photo for photo in caltech if photo.label in half and photo not in enrolled],
        [photo for photo in caltech if photo.label not in half],
    )
    gallery, asked = (photos.listed(drawn, f"val_designs_{role}.txt") for role in ("gallery", "query"))
    names = [photo.label for photo in gallery]
    known = lists.first_by_hash(names, len(set(names)) // 2)
    designs = OpenSet(
        [photo for photo in gallery if photo.label in known],
        [photo for photo in asked if photo.label in known],
        [photo for photo in asked if photo.label not in known],
    )
    return {"6 of 12 caltech, 10 % false": things, "half the designs, 10 % false": designs}


def figures(asked: OpenSet, embed: Embed) -> Figures:
    """Recall of the known at FALSE_NAMES."""
    gallery, labels = photos.unit(embed(asked.gallery)), photos.labels_of(asked.gallery)
    known = photos.unit(embed(asked.known)) @ gallery.T
    stranger = (photos.unit(embed(asked.unknown)) @ gallery.T).max(axis=1)
    right = labels[known.argmax(axis=1)] == photos.labels_of(asked.known)
    threshold = float(np.quantile(stranger, 1 - FALSE_NAMES))
    named = right & (known.max(axis=1) > threshold)
    median = float(np.median(known.max(axis=1)[right]))
    return Figures(float(named.mean()), threshold, float(right.mean()), median, float(np.median(stranger)))


def draws(data: Path, embed: Embed, share: float, count: int = 40) -> photos.Floats:
    """Recall at FALSE_NAMES with 15 of the 35 unseen classes unknown, for `count` random choices (seed 0) of these.

    Enrolled are 5 photos of each known class (`share` 0) or this share of them; the others are asked.
    """
    caltech = photos.listed(data / "caltech101")
    unseen = photos.held_out_classes([photo.label for photo in caltech])
    members = [photo for photo in caltech if photo.label in unseen]
    rows, labels = photos.unit(embed(members)), photos.labels_of(members)
    rng, recalls = np.random.default_rng(0), []
    for _ in range(count):
        known = ~np.isin(labels, rng.choice(unseen, 15, replace=False))
        enrolled = np.zeros(len(labels), bool)
        for name in np.unique(labels[known]):
            places = np.flatnonzero(labels == name)
            enrolled[places[: int(len(places) * share) or ENROLLED]] = True
        cosines = rows @ rows[enrolled].T
        named = cosines.max(axis=1) > np.quantile(cosines[~known].max(axis=1), 1 - FALSE_NAMES)
        right = labels[enrolled][cosines.argmax(axis=1)] == labels
        recalls.append(float((named & right)[known & ~enrolled].mean()))
    return np.array(recalls, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=[ROOT / "models" / "efficientnet_lite0_512"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for folder in arguments.models:
        network = photos.ExportedNetwork(folder, 1)
        for name, asked in settings(arguments.data).items():
            figured = figures(asked, network.photos)
            shown = "  ".join(f"{key} {value:.3f}" for key, value in figured._asdict().items())
            print(f"{folder.name}: {name}: {shown}", flush=True)
        for share, what in ((0.0, "5 photos"), (0.5, "half of the photos")):
            found = draws(arguments.data, network.photos, share)
            print(
                f"{folder.name}: 15 of 35 caltech classes unknown, 40 choices of them, {what} enrolled: recall "
                f"{found.mean():.3f}, standard deviation {found.std():.3f}, least {found.min():.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
