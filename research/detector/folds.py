"""AP50 on each fifth of ECSSD's photos (train and val) by a detector that learnt from the other four.

    for k in 0 1 2 3 4; do
        python -m research.detector.train --fold $k --work-dir F/$k --assets A --start layout_cdla.onnx --imagenet I \\
            --freeze --lr 5e-4 --backbone-lr 0.4 --hours 0.1
        python -m research.detector.export --work-dir F/$k --out F/$k/model
    done
    python -m research.detector.folds F

The start has seen documents and ImageNet, none of ECSSD; photos that an earlier detector boxed are left out.
With more hours the same commands go on from the last checkpoints.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from research.detector.evaluate import Detector, on_set
from research.detector.sources import FOLDS, fold_of

ROOT = Path(__file__).resolve().parents[2]


def write_fold(ecssd: Path, fold: int, target: Path) -> int:
    """The fold's photos as one COCO file; how many they are."""
    images: list[dict] = []
    notes: list[dict] = []
    for split in ("train.json", "val.json"):
        coco = json.loads((ecssd / split).read_text())
        new = {one["id"]: len(images) + i for i, one in enumerate(coco["images"], 1)}
        images += [one | {"id": new[one["id"]]} for one in coco["images"]]
        notes += [note | {"image_id": new[note["image_id"]]} for note in coco["annotations"]]
    images = [one for one in images if fold_of(one["file_name"]) == fold]
    kept = {one["id"] for one in images}
    notes = [note | {"id": i} for i, note in enumerate((n for n in notes if n["image_id"] in kept), 1)]
    target.write_text(json.dumps({"images": images, "annotations": notes, "categories": coco["categories"]}))
    return len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="F, with F/0/model to F/4/model")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for fold in range(FOLDS):
            count = write_fold(args.data / "ecssd", fold, Path(scratch) / "fold.json")
            found = on_set(
                Detector(args.folder / str(fold) / "model"), Path(scratch) / "fold.json", args.data / "ecssd/images"
            )
            print(f"fold {fold}, {count} photos: AP50 {found.ap50:.4f}, AP {found.ap:.4f}", flush=True)


if __name__ == "__main__":
    main()
