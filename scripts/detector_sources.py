"""Everything the detector's training pictures are made of, read once and kept in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from detector_cutouts import Image, is_training_emoji, load_cutouts, object_mask, object_on_white, shrink
from detector_products import make_product


@dataclass
class Sources:
    """Everything the scenes are made of, kept in memory."""

    photos: list[tuple[Image, np.ndarray]]  # ecssd train and caltech101 on white, with their boxes
    scenery: list[Image]  # photos used as texture or, blurred, as background
    things: list[Image]  # emoji, stamps, caltech101 objects on white
    products: list[Image]


def load_sources(data: Path, assets: Path, seed: int, products: int = 700) -> Sources:
    rng = np.random.default_rng(seed)
    photos, scenery, on_white = _labelled_photos(data / "ecssd"), [], []
    for folder in ("caltech101", "clothing"):
        names = [line.split("\t")[0] for line in (data / folder / "list.txt").read_text().splitlines() if line]
        for name in names:
            photo = cv2.imread(str(data / folder / name))
            cutout = object_on_white(photo) if folder == "caltech101" else None
            if cutout is not None:
                on_white.append(cutout)
                photos.append(whole_photo(photo))
            elif rng.random() < 0.4:
                scenery.append(shrink(photo, 256))
    fluent = sorted(p for p in (assets / "fluent-emoji-3d").rglob("*.webp") if is_training_emoji(p))
    google = sorted(p for p in (assets / "emoji-datasource-google").rglob("64/*.png") if is_training_emoji(p))
    stamps = sorted(p for p in (assets / "tuxpaint").rglob("*.png") if "symbols" not in p.parts)
    things = on_white + load_cutouts(fluent) + load_cutouts(google[::3]) + load_cutouts(stamps) * 2
    made = [make_product(rng, scenery) for _ in range(products)]
    print(
        f"{len(on_white)} objects on white, {len(fluent)} + {len(google[::3])} emoji, {len(things)} things, "
        f"{len(scenery)} photos as scenery",
        flush=True,
    )
    return Sources(photos, scenery, things, made)


def whole_photo(photo: Image) -> tuple[Image, np.ndarray]:
    """A photo of an object on white as a labelled photo: packshots are what galleries are made of."""
    ys, xs = np.nonzero(object_mask(photo) > 127)
    box = np.float32([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
    return photo, box


def _labelled_photos(folder: Path) -> list[tuple[Image, np.ndarray]]:
    coco = json.loads((folder / "train.json").read_text())
    boxes: dict[int, list[list[float]]] = {}
    for note in coco["annotations"]:
        x, y, w, h = note["bbox"]
        boxes.setdefault(note["image_id"], []).append([x, y, x + w, y + h])
    found = [(cv2.imread(str(next(folder.rglob(i["file_name"])))), boxes.get(i["id"], [])) for i in coco["images"]]
    return [(image, np.array(b, np.float32).reshape(-1, 4)) for image, b in found]
