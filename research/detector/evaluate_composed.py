"""Measure an exported mainbody detector on composed pictures of several objects that no training ever saw.

    python -m research.detector.evaluate_composed --assets A --kind shelf

`shelf`: boards of products and things, as in a shop. The products are drawn with a seed of their own and dressed with
photos held out of training, the things are emoji whose name's sha1 begins with 0..7 (training takes 8..f).
`room`: objects cut out of held-out photos of ecssd train, caltech101 and clothing, on such photos.
Reported is the share of the boxes that the ten best boxes of each picture find at IoU 0.5. Pictures have 3 to 10
boxes, so a perfect detector has 1. A holds the packages named in train.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from research.common.cutouts import Image, Rng, emoji_name, load_cutouts, object_on_white, reserved_emoji, shrink
from research.common.products import make_product
from research.common.scene import Scene
from research.detector.boxes import photo_paths
from research.detector.data import shelf
from research.detector.rooms import room
from research.detector.sources import Labelled, Sources, held_out, labelled_photos, real_cutouts

ROOT = Path(__file__).resolve().parents[2]
SIDE = (480, 640)
PRODUCTS = 150


def held_out_sources(data: Path, assets: Path, seed: int) -> Sources:
    """What training left out, in the form it takes what it keeps."""
    rng = np.random.default_rng(seed)
    ecssd = [(image, boxes) for name, image, boxes in labelled_photos(data / "ecssd") if held_out(name)]
    photos = [cv2.imread(str(data / path)) for path in photo_paths(data) if held_out(path)]
    white = [cutout for photo in photos if (cutout := object_on_white(photo)) is not None]
    scenery = [shrink(photo, 256) for photo in photos]
    emoji = sorted((p for p in (assets / "fluent-emoji-3d").rglob("*.webp") if reserved_emoji(p)), key=emoji_name)
    things = load_cutouts(emoji[:: max(1, len(emoji) // 250)])
    real = real_cutouts(ecssd)
    products = [make_product(rng, scenery) for _ in range(PRODUCTS)]
    return Sources(ecssd, [], [], [], scenery, things, real + white, products)


def compose(sources: Sources, kind: str, count: int, seed: int) -> list[Labelled]:
    """`count` pictures of 3 to 10 boxes each."""
    rng = np.random.default_rng((seed, count))
    make: Callable[[Rng, Sources, int, int], Scene] = {"shelf": shelf, "room": room}[kind]
    found: list[tuple[Image, np.ndarray]] = []
    while len(found) < count:
        scene = make(rng, sources, *SIDE)
        boxes = scene.boxes()
        if 3 <= len(boxes) <= 10:
            found.append((scene.image, boxes))
    return found


def recalled(truth: np.ndarray, boxes: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Which true boxes the found ones (best first) find, each one at most, as COCO counts."""
    hit = np.zeros(len(truth), bool)
    area = (truth[:, 2:] - truth[:, :2]).prod(1)
    for box in boxes:
        overlap = (np.minimum(truth[:, 2:], box[2:]) - np.maximum(truth[:, :2], box[:2])).clip(0).prod(1)
        iou = np.where(hit, 0, overlap / (area + (box[2:] - box[:2]).prod() - overlap))
        if iou.max() >= least:
            hit[iou.argmax()] = True
    return hit


def write(pictures: list[Labelled], folder: Path) -> None:
    """The pictures and their boxes, as COCO."""
    folder.mkdir(parents=True, exist_ok=True)
    images, notes = [], []
    for i, (image, boxes) in enumerate(pictures):
        cv2.imwrite(str(folder / f"{i:04}.png"), image)
        images.append({"id": i, "file_name": f"{i:04}.png", "height": image.shape[0], "width": image.shape[1]})
        for x1, y1, x2, y2 in boxes.tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0, "category_id": 1}
            notes.append({"id": len(notes) + 1, "image_id": i, **box})
    kinds = [{"id": 1, "name": "foreground"}]
    (folder / "boxes.json").write_text(json.dumps({"images": images, "annotations": notes, "categories": kinds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models/picodet_efficientnet_lite0_mainbody")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--kind", choices=["shelf", "room"], default="shelf")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("--write", type=Path, help="a folder for the pictures and their boxes")
    args = parser.parse_args()
    pictures = compose(held_out_sources(args.data, args.assets, args.seed), args.kind, args.count, args.seed)
    if args.write:
        write(pictures, args.write)
    from research.detector.evaluate import Detector  # here, so that composing needs no Paddle

    detector = Detector(args.model)
    hits = np.concatenate([recalled(boxes, detector(image)[:10, 2:]) for image, boxes in pictures])
    print(f"recall at IoU 0.5 of 10 boxes on {args.count} composed pictures ({args.kind}): {hits.mean():.4f}")


if __name__ == "__main__":
    main()
