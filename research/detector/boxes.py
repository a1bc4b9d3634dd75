"""Box the one object of unlabelled photos with a trained mainbody detector, where it is sure of it.

    python -m research.detector.boxes --checkpoint v1/checkpoint.pt --out photo_boxes.json

Photos of Caltech-101 (without the held-out classes and those on white, whose boxes are found by flooding) and of
clothing-dataset-small show one object each. A box counts where it is the best in the photo and in the mirrored photo.
The file holds {path below the data folder: [x1, y1, x2, y2]}.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from research.common.cutouts import Image, object_on_white
from research.detector.loss import anchor_points, decode
from research.detector.network import PicoDet, network_of

ROOT = Path(__file__).resolve().parents[2]
MEAN, STD = np.float32((123.675, 116.28, 103.53)), np.float32((58.395, 57.12, 57.375))
SIZE = 320
HELD_OUT = ROOT / "research/common/caltech_heldout.txt"


def photo_paths(data: Path) -> list[str]:
    """Every photo of the two sets, relative to the data folder, the held-out classes of Caltech-101 left out."""
    held_out = set(HELD_OUT.read_text().split())
    found = []
    for folder in ("caltech101", "clothing"):
        for line in (data / folder / "list.txt").read_text().splitlines():
            name, label = line.split("\t")
            if folder != "caltech101" or label not in held_out:
                found.append(f"{folder}/{name}")
    return found


@torch.no_grad()
def best_boxes(model: PicoDet, photo: Image) -> tuple[np.ndarray, np.ndarray]:
    """The best box [2, 4] (x1, y1, x2, y2 in the photo's pixels) and its score [2], of the photo and mirrored."""
    image = cv2.resize(photo, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)[..., ::-1]
    image = ((image.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1)
    logits, sides = model(torch.from_numpy(np.stack([image, image[..., ::-1]])))
    best = logits.argmax(1)
    boxes = decode(sides, *anchor_points(SIZE))[torch.arange(2), best].numpy()
    boxes[1] = SIZE - boxes[1, 2], boxes[1, 1], SIZE - boxes[1, 0], boxes[1, 3]
    scale = np.float32([photo.shape[1] / SIZE, photo.shape[0] / SIZE] * 2)
    return np.clip(boxes, 0, SIZE) * scale, logits[torch.arange(2), best].sigmoid().numpy()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return float(overlap / max(1e-6, (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap))


def sure_box(model: PicoDet, photo: Image, least: float) -> np.ndarray | None:
    """The mean of the two views' best boxes where they agree and both score `least`."""
    boxes, scores = best_boxes(model, photo)
    return boxes.mean(0) if scores.min() >= least and iou(*boxes) >= 0.8 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of train.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--least", type=float, default=0.55, help="score")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = network_of(torch.load(args.checkpoint, weights_only=True)["ema"]).eval()
    found, seen = {}, 0
    for path in photo_paths(args.data):
        photo = cv2.imread(str(args.data / path))
        if path.startswith("caltech101") and object_on_white(photo) is not None:
            continue
        seen += 1
        box = sure_box(model, photo, args.least)
        if box is not None:
            found[path] = [round(float(v), 1) for v in box]
    args.out.write_text(json.dumps(found, indent=0))
    print(f"{len(found)} of {seen} photos boxed")


if __name__ == "__main__":
    main()
