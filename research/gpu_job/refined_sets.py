"""By what the refined recogniser is chosen, and, apart, on what it is measured once, at the end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from research.common import photo_features as photos
from research.common.photo_features import Photo
from research.gpu_job.pack_photos import Entry, choose, held_out, listed, rank
from research.recogniser import lists, open_set
from research.recogniser.sets import Question, drawn_sets

OBJECT = 48  # pixels of the smaller side of an object of boxes/val.json that is asked for


def as_photos(entries: list[Entry]) -> list[Photo]:
    return [Photo(entry.path, str(entry.label), entry.xyxy) for entry in entries]


def objects(data: Path) -> list[Photo]:
    """The larger objects of boxes/val.json, labelled by kind, of kinds that occur twice."""
    coco = json.loads((data / "boxes" / "val.json").read_text(encoding="utf-8"))
    files = {image["id"]: data / "boxes" / "images" / image["file_name"] for image in coco["images"]}
    found = []
    for row in coco["annotations"]:
        x, y, w, h = (round(v) for v in row["bbox"])
        if min(w, h) >= OBJECT and not row.get("iscrowd"):
            found.append(Photo(files[row["image_id"]], row["label"], (max(x, 0), max(y, 0), x + w, y + h)))
    counts = Counter(photo.label for photo in found)
    return [photo for photo in found if counts[photo.label] > 1]


def choosing(data: Path, drawn: Path | None) -> dict[str, Question]:
    """The sets to choose by."""
    apart = {
        source: as_photos([e for e in choose(data)[1] if e.source == source]) for source in ("products", "caltech")
    }
    counts = Counter(photo.label for photo in apart["products"])
    train, iconic, val = (photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "val"))
    neither = {f"caltech/{name}" for name in lists.left_out(data, control=False).caltech}
    sets = {
        "products": Question([photo for photo in apart["products"] if counts[photo.label] > 1]),
        "12 caltech": Question(apart["caltech"]),
        "caltech of neither": Question([photo for photo in apart["caltech"] if photo.label in neither]),
        "juice val": Question(val, train + iconic),
        "juice val, packshots": Question(val, iconic),
        "boxes/val objects by kind": Question(objects(data)),
    }
    sets = {name: question for name, question in sets.items() if question.queries}
    return sets | (drawn_sets(drawn, "val") if drawn else {})


def unknown(data: Path, drawn: Path | None) -> dict[str, open_set.OpenSet]:
    """Of each kind of choosing set, half of the classes known, by two to five pictures; the others unknown."""
    chosen = choose(data)[1]
    groups = {
        "products": (as_photos([e for e in chosen if e.source == "products"]), 2),
        "caltech": (as_photos([e for e in chosen if e.source == "caltech"]), 5),
        "objects": (objects(data), 3),
    }
    found = {name: _halved(members, enrolled) for name, (members, enrolled) in groups.items()}
    if drawn:
        found["designs"] = open_set.choosing_settings(data, drawn)["half the designs, 10 % false"]
    return found


def _halved(members: list[Photo], enrolled: int) -> open_set.OpenSet:
    counts = Counter(photo.label for photo in members)
    names = sorted((name for name in counts if counts[name] > enrolled), key=rank)
    known = set(names[::2])
    gallery = [p for name in sorted(known) for p in [q for q in members if q.label == name][:enrolled]]
    asked = [photo for photo in members if photo.label in known and photo not in gallery]
    return open_set.OpenSet(gallery, asked, [photo for photo in members if photo.label not in known])


def untouched(data: Path, drawn: Path | None) -> dict[str, Question]:
    """What no decision about the refined recogniser has seen: measured once, at the end."""
    learn, chosen = choose(data)
    seen = {(entry.path, entry.xyxy) for entry in [*learn, *chosen]}
    known = {entry.label for entry in learn}
    kept = as_photos([entry for entry in chosen if entry.source == "products"])
    there = {photo.label for photo in kept}
    rest = [e for e in listed(data / "products", "products") if (e.path, e.xyxy) not in seen and e.label not in known]
    others = [photo for photo in as_photos(rest) if photo.label in there]
    caltech = [photo for photo in photos.listed(data / "caltech101") if photo.label in held_out()]
    train, iconic, test = (photos.listed(data / "juice", f"{name}.txt") for name in ("train", "iconic", "test"))
    found = {
        "juice test.txt against train.txt + iconic.txt, whole image": Question(test, train + iconic),
        "juice test.txt against iconic.txt alone, whole image": Question(test, iconic),
        "the 35 held-out Caltech-101 classes, leave one out": Question(caltech),
    }
    first: dict[str, Photo] = {}
    for photo in sorted(kept, key=lambda p: rank(f"{p.path.parent.name}/{p.path.name}")):
        first.setdefault(photo.label, photo)
    for kind, word in (("groceries", "articles"), ("logos", "brands")):
        some = [photo for photo in others if kind in photo.path.parts]
        what = f"products/{kind}, other photos of {word} never learnt from, against"
        found[f"{what} those for choosing"] = Question(some, kept)
        found[f"{what} one of those a class"] = Question(some, list(first.values()))
    for kind, question in (drawn_sets(drawn, "test") if drawn else {}).items():
        found[f"drawn {kind} of held-out logos and emoji"] = question
    return found
