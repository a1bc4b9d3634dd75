"""Which photos, and parts of photos, go into the pack: to learn from and, apart, to choose by.

No photo of juice val or test, the 35 held-out classes of Caltech-101, ECSSD val, boxes/val.json or coco128 is learnt
from, nor any of a fifth of products/'s classes, nor (so that something other than packages can be chosen by) of 12 more
Caltech classes. To choose by: some of that fifth, of those 12 classes, juice val, and boxes/val.json. The rest of what
is left out is not in the pack at all: it is for the figures of the card.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
VALIDATION_CLASSES = 12
# Background counts less where objects have no box: COCO's boxes know 80 kinds, ECSSD's the main thing.
BACKGROUND = {"coco": 0.5, "groceries": 1.0, "ecssd": 0.25}
SMALLEST_CUTOUT = 72  # pixels of the smaller side


@dataclass(frozen=True)
class Entry:
    """A photo, or with `xyxy` a part of one; boxes are (m, 4) xyxy as shares of the photo, crowd (m,)."""

    path: Path
    source: str
    label: str | None = None
    xyxy: tuple[int, int, int, int] | None = None
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    crowd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    background: float = 0.0  # 0: not for the detector

    def read(self) -> NDArray[np.uint8]:
        """(h, w, 3) uint8, BGR."""
        image = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if image is None:
            raise SystemExit(f"{self.path}: not readable as an image")
        if self.xyxy:
            x1, y1, x2, y2 = self.xyxy
            image = image[y1:y2, x1:x2]
        return image


def rank(text: str) -> str:
    """An order without a pattern that stays when others join."""
    return hashlib.sha1(text.encode()).hexdigest()


def some(entries: Iterable[Entry], most: int) -> list[Entry]:
    """At most so many, chosen by the hash of their names."""

    def place(entry: Entry) -> str:
        return rank(f"{entry.path.parent.name}/{entry.path.name}{entry.xyxy}")

    return sorted(entries, key=place)[:most]


def per_label(entries: list[Entry], most: int) -> list[Entry]:
    """At most so many of each label."""
    groups = defaultdict(list)
    for entry in entries:
        groups[entry.label].append(entry)
    return [entry for label in sorted(groups, key=str) for entry in some(groups[label], most)]


def listed(folder: Path, source: str, name: str = "list.txt") -> list[Entry]:
    """Of a list file of `path<TAB>label` lines; the label is that of the source."""
    rows = [line.split("\t") for line in (folder / name).read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Entry(folder / path, source, f"{source}/{label}") for path, label in rows]


def boxed(folder: Path, name: str) -> list[Entry]:
    """Of a COCO file: whole photos with all their boxes."""
    coco = json.loads((folder / name).read_text(encoding="utf-8"))
    rows = defaultdict(list)
    for row in coco["annotations"]:
        rows[row["image_id"]].append(row)
    entries = []
    for image in coco["images"]:
        size = np.array([image["width"], image["height"]] * 2, np.float32)
        xywh = np.array([row["bbox"] for row in rows[image["id"]]], np.float32).reshape(-1, 4)
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1) / size
        crowd = np.array([bool(row.get("iscrowd")) for row in rows[image["id"]]], np.bool_)
        file = image["file_name"]
        kind = "ecssd" if folder.name == "ecssd" else "coco" if file.startswith("coco") else "groceries"
        source = folder.name
        entries.append(Entry(folder / "images" / file, source, None, None, boxes.clip(0, 1), crowd, BACKGROUND[kind]))
    return entries


def cutouts(folder: Path, name: str) -> list[Entry]:
    """The larger objects of a COCO file, one entry each, a little wider than their box; no people."""
    coco = json.loads((folder / name).read_text(encoding="utf-8"))
    files = {image["id"]: image for image in coco["images"]}
    entries = []
    for row in coco["annotations"]:
        x, y, w, h = row["bbox"]
        image = files[row["image_id"]]
        if min(w, h) < SMALLEST_CUTOUT or row.get("iscrowd") or row.get("label") == "person":
            continue
        left, top = (max(0, round(v - 0.08 * s)) for v, s in ((x, w), (y, h)))
        right = min(image["width"], round(x + 1.08 * w))
        bottom = min(image["height"], round(y + 1.08 * h))
        entries.append(Entry(folder / "images" / image["file_name"], "cutouts", None, (left, top, right, bottom)))
    return entries


def held_out() -> set[str]:
    """The 35 Caltech classes of the card's figures."""
    return set((ROOT / "research" / "common" / "caltech_heldout.txt").read_text(encoding="utf-8").split())


def fifth(labels: set[str]) -> set[str]:
    """Every fifth label by hash."""
    return set(sorted(labels, key=rank)[::5])


def choose(data: Path) -> tuple[list[Entry], list[Entry]]:
    """(to learn from, to choose by)."""
    caltech = [e for e in listed(data / "caltech101", "caltech") if str(e.label).split("/", 1)[1] not in held_out()]
    validation = set(sorted({str(e.label) for e in caltech}, key=rank)[-VALIDATION_CLASSES:])
    products = listed(data / "products", "products")
    apart = fifth({str(e.label) for e in products})
    boxes = boxed(data / "boxes", "train.json")
    learn = [
        *boxes,
        *boxed(data / "ecssd", "train.json"),
        *some(cutouts(data / "boxes", "train.json"), 1000),
        *per_label([e for e in caltech if e.label not in validation], 32),
        *per_label(listed(data / "clothing", "clothing"), 100),
        *listed(data / "juice", "juice", "train.txt"),
        *listed(data / "juice", "juice", "iconic.txt"),
        *[e for e in products if e.label not in apart],
    ]
    choosing = [
        *some(per_label([e for e in products if e.label in apart], 4), 330),
        *per_label([e for e in caltech if e.label in validation], 12),
        *listed(data / "juice", "juice", "val.txt"),
        *boxed(data / "boxes", "val.json"),
        *boxed(data / "ecssd", "val.json"),
    ]
    return learn, choosing


def demo(folder: Path) -> tuple[list[Entry], list[Entry]]:
    """The demo's gallery and photos, for the tests: photos are boxed whole, crops of the gallery have labels."""
    rows = [line.split("\t") for line in (folder / "gallery.txt").read_text(encoding="utf-8").splitlines() if line]
    gallery = [Entry(folder / path, "products", label) for path, label, *_ in rows]
    whole = np.array([[0.1, 0.1, 0.9, 0.9]], np.float32)
    photos = [
        Entry(path, "boxes", None, None, whole, np.zeros(1, np.bool_), 0.5)
        for path in sorted((folder / "photos").iterdir())
    ]
    return [*gallery, *gallery, *photos], [*gallery[:6], *gallery[:6], *photos[:2]]
