"""The sets by which the bundled recogniser is chosen, and those on which it is measured once, at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from research.common import photo_features as photos
from research.common.photo_features import Floats, Photo, labels_of
from research.recogniser import lists

Embed = Callable[[list[Photo]], Floats]


@dataclass(frozen=True)
class Question:
    """Queries and the gallery they are looked up in; without one each query leaves itself out."""

    queries: list[Photo]
    gallery: list[Photo] | None = None

    def photos(self) -> list[Photo]:
        return self.queries + (self.gallery or [])

    def recall(self, embed: Embed) -> float:
        """Recall@1 by cosine."""
        asked, labels = embed(self.queries), labels_of(self.queries)
        if self.gallery is None:
            return photos.leave_one_out_recall(asked, labels)
        return photos.recall_at_1(asked, labels, embed(self.gallery), labels_of(self.gallery))


def drawn_sets(drawn: Path, part: str) -> dict[str, Question]:
    """Drawn designs: photos against packshots; emoji: other makers' drawings against one maker's."""
    return {
        kind: Question(
            photos.listed(drawn, f"{part}_{kind}_query.txt"), photos.listed(drawn, f"{part}_{kind}_gallery.txt")
        )
        for kind in ("designs", "emoji")
    }


def choosing_sets(data: Path, drawn: Path) -> dict[str, Question]:
    """Classes that no run trains on, and juice val.txt, whose products are trained on but in other photos."""
    left = lists.left_out(data, control=False)
    caltech = [photo for photo in photos.listed(data / "caltech101") if photo.label in left.caltech]
    train, iconic, val = (photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "val"))
    return {
        "12 caltech": Question(caltech),
        **drawn_sets(drawn, "val"),
        "juice val in train": Question(val, train + iconic),
        "juice val in iconic": Question(val, iconic),
    }


def control_sets(data: Path) -> dict[str, Question]:
    """Real products that a control run has not seen: 3 cartons among all 10, 3 kinds of clothing among all 10."""
    left = lists.left_out(data, control=True)
    train, iconic, val = (photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "val"))
    unseen = [photo for photo in train + val if photo.label in left.juice]
    clothing = photos.listed(data / "clothing")
    return {
        "3 unseen cartons in iconic": Question(unseen, iconic),
        "3 unseen kinds of clothing": Question([photo for photo in clothing if photo.label in left.clothing]),
        "3 unseen cartons among themselves": Question([photo for photo in train if photo.label in left.juice]),
    }


def control_test_sets(data: Path) -> dict[str, Question]:
    """Measured at the end of a control run: test photos of the 3 cartons it has not seen, among all 10."""
    left = lists.left_out(data, control=True)
    train, iconic, test = (photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "test"))
    unseen = [photo for photo in test if photo.label in left.juice]
    return {
        "juice test.txt, the 3 cartons not trained on, against train.txt + iconic.txt": Question(
            unseen, train + iconic
        ),
        "juice test.txt, the 3 cartons not trained on, against iconic.txt": Question(unseen, iconic),
        **control_sets(data),
    }


def test_sets(data: Path, drawn: Path) -> dict[str, Question]:
    """Measured at the end; nothing is chosen by them."""
    caltech = photos.listed(data / "caltech101")
    unseen = set(photos.held_out_classes([photo.label for photo in caltech]))
    train, iconic, test = (photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "test"))
    return {
        "juice test.txt against train.txt + iconic.txt, whole image": Question(test, train + iconic),
        "juice test.txt against train.txt alone, whole image": Question(test, train),
        "juice test.txt against iconic.txt alone, whole image": Question(test, iconic),
        "the 35 held-out Caltech-101 classes, leave one out": Question([p for p in caltech if p.label in unseen]),
        "clothing, leave one out (trained on)": Question(photos.listed(data / "clothing")),
        **{f"drawn {kind} of held-out logos and emoji": each for kind, each in drawn_sets(drawn, "test").items()},
    }
