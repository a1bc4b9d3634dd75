"""Everything the detector's training pictures are made of, read once and kept in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from research.common.cutouts import Image, is_training_emoji, load_cutouts, object_mask, object_on_white, shrink
from research.common.products import make_product
from research.detector.boxes import photo_paths
from research.detector.grabcut import real_cutout

Labelled = tuple[Image, np.ndarray]
LONGEST = 640  # pixels of a photo's longer side in memory, as COCO has them; 512 when the bundled weights learnt
COCO_BACKGROUND = 0.5  # its 80 kinds leave objects out; a shelf's packages are all boxed


class Picture(NamedTuple):
    """An image (BGR) with boxes [G, 4]; `crowd` [G]: where nothing counts; `background`: what the rest counts."""

    image: Image
    boxes: np.ndarray
    crowd: np.ndarray
    background: float


# {path below the data folder: [[x1, y1, x2, y2], ...]}: read off the photos by eye, to some 2 % of their sides. 79 of
# the juice photos with a single box were boxed by the detector after 1000 steps and kept where it was right by eye.
HAND_BOXES = Path(__file__).with_name("hand_boxes.json")


@dataclass
class Sources:
    """Everything the scenes are made of, kept in memory. A labelled photo is an image and its boxes [G, 4]."""

    ecssd: list[Labelled]
    on_white: list[Labelled]  # caltech101 objects on white
    boxed: list[Labelled]  # caltech101 and clothing, boxed by the detector's first version
    by_hand: list[Labelled]  # juice train and ecssd train, several objects boxed by hand
    scenery: list[Image]  # photos used as texture or, blurred, as background
    things: list[Image]  # emoji, stamps, caltech101 objects on white
    real: list[Image]  # objects cut out of photos
    products: list[Image]
    many: list[Picture] = field(default_factory=list)  # photos in which nearly everything has a box


def held_out(name: str) -> bool:
    """One photo in 16 stays out of training, to choose by."""
    return hashlib.sha1(name.encode()).hexdigest()[0] == "0"


FOLDS = 5


def fold_of(name: str) -> int:
    """Which fifth of ECSSD's photos, train and val, a photo is in."""
    return int(hashlib.sha1(name.encode()).hexdigest()[-8:], 16) % FOLDS


def ecssd_photos(data: Path, fold: int | None, by_hand: dict[str, list]) -> list[Labelled]:
    """train.json's photos but those held out; for a fold, all of train and val but its own."""
    found = labelled_photos(data / "ecssd")
    if fold is None:
        kept = [photo for photo in found if not held_out(photo[0])]
    else:
        kept = [photo for photo in found + labelled_photos(data / "ecssd", "val.json") if fold_of(photo[0]) != fold]
    return [(image, boxes) for name, image, boxes in kept if f"ecssd/images/{name}" not in by_hand]


def load_sources(
    data: Path, assets: Path, seed: int, photo_boxes: Path | None, *, products: int = 700, fold: int | None = None
) -> Sources:
    """`fold`: leave these photos of ECSSD out, in place of the usual ones."""
    rng = np.random.default_rng(seed)
    boxes = json.loads(photo_boxes.read_text()) if photo_boxes else {}
    by_hand = json.loads(HAND_BOXES.read_text())
    if fold is not None:
        by_hand = {p: b for p, b in by_hand.items() if "ecssd" not in p or fold_of(Path(p).name) != fold}
    ecssd = ecssd_photos(data, fold, by_hand)
    scenery, white, on_white, boxed = [], [], [], []
    for path in photo_paths(data):
        if held_out(path):
            continue
        photo = cv2.imread(str(data / path))
        cutout = object_on_white(photo) if path.startswith("caltech101") else None
        if cutout is not None:
            white.append(cutout)
            on_white.append(whole_photo(photo))
        elif path in boxes:
            boxed.append((photo, np.float32([boxes[path]])))
        if cutout is None and rng.random() < 0.4:
            scenery.append(shrink(photo, 256))
    crowded = [(cv2.imread(str(data / path)), np.float32(found)) for path, found in by_hand.items()]
    cartons = real_cutouts([photo for photo, path in zip(crowded, by_hand, strict=True) if path.startswith("juice")])
    real = real_cutouts(ecssd + boxed[::4] + crowded)
    fluent = sorted(p for p in (assets / "fluent-emoji-3d").rglob("*.webp") if is_training_emoji(p))
    google = sorted(p for p in (assets / "emoji-datasource-google").rglob("64/*.png") if is_training_emoji(p))
    stamps = sorted(p for p in (assets / "tuxpaint").rglob("*.png") if "symbols" not in p.parts)
    things = white + load_cutouts(fluent) + load_cutouts(google[::3]) + load_cutouts(stamps) * 2
    made = [make_product(rng, scenery) for _ in range(products)] + cartons * 4
    print(
        f"photos: {len(ecssd)} ecssd, {len(on_white)} on white, {len(boxed)} boxed, {len(crowded)} by hand, "
        f"{len(scenery)} scenery; cut-outs: {len(real)} real, {len(things)} things, {len(made)} products",
        flush=True,
    )
    crowded = [photo for photo in crowded for _ in range(min(4, len(photo[1])))]  # those of many objects are rare
    return Sources(ecssd, on_white, boxed, crowded, scenery, things, real, made, photos_of_many(data / "boxes"))


def real_cutouts(photos: list[Labelled]) -> list[Image]:
    return [cutout for image, boxes in photos for box in boxes if (cutout := real_cutout(image, box)) is not None]


def whole_photo(photo: Image) -> Labelled:
    """A photo of an object on white as a labelled photo: packshots are what galleries are made of."""
    ys, xs = np.nonzero(object_mask(photo) > 127)
    box = np.float32([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
    return photo, box


def photos_of_many(folder: Path) -> list[Picture]:
    """boxes/train.json, shrunk."""
    coco = json.loads((folder / "train.json").read_text())
    notes: dict[int, list[dict]] = {}
    for note in coco["annotations"]:
        notes.setdefault(note["image_id"], []).append(note)
    found = []
    for info in coco["images"]:
        photo = cv2.imread(str(folder / "images" / info["file_name"]))
        mine = notes.get(info["id"], [])
        corners = np.float32([note["bbox"] for note in mine]).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        small = shrink(photo, LONGEST)
        crowd = np.array([bool(note["iscrowd"]) for note in mine], bool)
        background = COCO_BACKGROUND if info["file_name"].startswith("coco") else 1.0
        found.append(Picture(small, corners * (small.shape[1] / photo.shape[1]), crowd, background))
    return found


def labelled_photos(folder: Path, split: str = "train.json") -> list[tuple[str, Image, np.ndarray]]:
    """Name, photo and boxes [G, 4] (x1, y1, x2, y2) of a COCO file."""
    coco = json.loads((folder / split).read_text())
    boxes: dict[int, list[list[float]]] = {}
    for note in coco["annotations"]:
        x, y, w, h = note["bbox"]
        boxes.setdefault(note["image_id"], []).append([x, y, x + w, y + h])
    return [
        (
            info["file_name"],
            cv2.imread(str(next(folder.rglob(info["file_name"])))),
            np.array(boxes.get(info["id"], []), np.float32).reshape(-1, 4),
        )
        for info in coco["images"]
    ]
