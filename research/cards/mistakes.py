"""The pictures of docs/models.md of what fails, from the openly licensed demo and card set.

    python -m research.cards.mistakes            # docs/images/detector_mistakes.jpg and recogniser_mistakes.jpg

Detector: demo photos and scenes of the card set, boxes above 0.3; green: an object at IoU 0.5, red: not, blue: missed.
Recogniser: crops of the card set whose nearest picture is of something else, that picture beside each, surest first.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from research.common.photo_features import ExportedNetwork, Photo, listed, unit
from research.detector.evaluate import Detector
from research.detector.evaluate_composed import recalled

ROOT = Path(__file__).resolve().parents[2]
IMAGES, CARDS = ROOT / "docs" / "images", ROOT / "tests" / "data" / "cards"
THRESHOLD, TILE, CROP = 0.3, (300, 235), 132
GREEN, RED, BLUE = (60, 170, 60), (40, 40, 230), (230, 90, 20)


def scenes() -> list[tuple[Path, np.ndarray]]:
    """Photos and their objects' boxes, xyxy."""
    demo = json.loads((ROOT / "demo" / "photos.json").read_text(encoding="utf-8"))
    found = [
        (ROOT / "demo" / name, np.array([thing["bbox"] for thing in things], float)) for name, things in demo.items()
    ]
    coco = json.loads((CARDS / "detector" / "annotations.json").read_text(encoding="utf-8"))
    for image in coco["images"]:
        boxes = np.array([row["bbox"] for row in coco["annotations"] if row["image_id"] == image["id"]], float)
        boxes[:, 2:] += boxes[:, :2]
        found.append((CARDS / "detector" / "images" / image["file_name"], boxes))
    return found


def marked(detector: Detector, path: Path, truth: np.ndarray) -> tuple[int, np.ndarray]:
    """How many boxes are wrong or missing, and a small picture of them."""
    photo = cv2.imread(str(path))
    rows = detector(photo)
    boxes = rows[rows[:, 1] > THRESHOLD][:, 2:]
    hits = recalled(truth, boxes)
    scale = min(TILE[0] / photo.shape[1], TILE[1] / photo.shape[0])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    wrong = int((~hits).sum())
    for box, colour in [(box, BLUE) for box, hit in zip(truth, hits, strict=True) if not hit] + [
        (box, GREEN if recalled(truth, box[None]).any() else RED) for box in boxes
    ]:
        x1, y1, x2, y2 = (int(v * scale) for v in box)
        cv2.rectangle(small, (x1, y1), (x2, y2), colour, 2)
        wrong += colour == RED
    tile = np.full((TILE[1], TILE[0], 3), 245, np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small[: TILE[1], : TILE[0]]
    return wrong, tile


def crop(photo: Photo) -> np.ndarray:
    return cv2.resize(cv2.imread(str(photo.path)), (CROP, CROP), interpolation=cv2.INTER_AREA)


def confusions(most: int) -> tuple[int, list[np.ndarray]]:
    """How many crops of known things are named wrongly, and pairs of crop and nearest picture; unknown things too."""
    run = ExportedNetwork(ROOT / "models" / "efficientnet_lite0_512", 1)
    gallery, asked = (listed(CARDS / "recogniser", name) for name in ("gallery.txt", "query.txt"))
    cosines = unit(run.photos(asked)) @ unit(run.photos(gallery)).T
    nearest = cosines.argmax(1)
    names = {photo.label for photo in gallery}
    wrong = [i for i in np.argsort(-cosines.max(1)) if gallery[nearest[i]].label != asked[i].label]
    known, unknown = ([i for i in wrong if (asked[i].label in names) == there] for there in (True, False))
    pairs = [np.hstack([crop(asked[i]), crop(gallery[nearest[i]])]) for i in known[: most // 2] + unknown[: most // 2]]
    return len(known), pairs


def sheet(tiles: list[np.ndarray], columns: int, path: Path) -> None:
    edged = [cv2.copyMakeBorder(tile, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for tile in tiles]
    rows = [np.hstack(edged[i : i + columns]) for i in range(0, len(edged) // columns * columns, columns)]
    cv2.imwrite(str(path), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])


def main() -> None:
    detector = Detector(ROOT / "models" / "picodet_efficientnet_lite0_mainbody", threads=1)
    found = sorted((marked(detector, *scene) for scene in scenes()), key=lambda pair: -pair[0])
    sheet([tile for _, tile in found[:9]], 3, IMAGES / "detector_mistakes.jpg")
    count, pairs = confusions(16)
    sheet(pairs, 4, IMAGES / "recogniser_mistakes.jpg")
    print(f"boxes wrong or missing: {sum(n for n, _ in found)} in {len(found)} scenes; crops misnamed: {count} of 126")


if __name__ == "__main__":
    main()
