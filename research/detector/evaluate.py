"""Measure an exported mainbody detector with Paddle Inference.

    python -m research.detector.evaluate --model models/picodet_efficientnet_lite0_mainbody

AP50 and AP on ecssd val (photos with one main object, boxes drawn from masks), recall of the ten best boxes of each
photo and AP50 on boxes/val.json (also without its people, who then count neither as wanted nor as wrong) and, foreign
to all training and choosing, on coco128, whose file does not tell kinds. The first two by halves, too: every other
photo, from the first, is what version 4 was chosen by, the others it was not; boxes/val.json by source, too.
`--draw` writes pictures to look at.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import paddle.inference as paddle_infer
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ROOT = Path(__file__).resolve().parents[2]


class Detector:
    """The exported program, run with oneDNN; `program` is `program` or `raw` (without the NMS)."""

    def __init__(self, folder: Path, raw: bool = False, threads: int = 2):
        self.spec = yaml.safe_load((folder / "model.yaml").read_text())
        files = self.spec["raw"] if raw else self.spec
        config = paddle_infer.Config(str(folder / files["program"]), str(folder / files["params"]))
        config.disable_gpu()
        config.enable_mkldnn()
        config.set_cpu_math_library_num_threads(threads)
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.enable_memory_optim()
        config.disable_glog_info()
        self.predictor = paddle_infer.create_predictor(config)

    def preprocess(self, photo: np.ndarray) -> np.ndarray:
        """BGR photo to the network's input, squashed to its size."""
        how = self.spec["preprocess"]
        image = cv2.resize(photo, how["size"][::-1], interpolation=cv2.INTER_CUBIC)[..., ::-1]
        image = (image.astype(np.float32) * how["scale"] - how["mean"]) / how["std"]
        return image.transpose(2, 0, 1).astype(np.float32)

    def run(self, images: np.ndarray, scales: np.ndarray) -> list[np.ndarray]:
        for name, value in (("image", images), ("scale_factor", scales)):
            self.predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(value, np.float32))
        self.predictor.run()
        return [self.predictor.get_output_handle(n).copy_to_cpu() for n in self.predictor.get_output_names()]

    def scale_factor(self, photo: np.ndarray) -> list[float]:
        height, width = self.spec["preprocess"]["size"]
        return [height / photo.shape[0], width / photo.shape[1]]

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Rows of class, score, x1, y1, x2, y2 in the photo's pixels, best first."""
        return self.run(self.preprocess(photo)[None], np.array([self.scale_factor(photo)]))[0]


def detect_all(detector: Detector, coco: COCO, images: Path) -> list[dict]:
    found = []
    for info in coco.dataset["images"]:
        photo = cv2.imread(str(images / info["file_name"]))
        for _, score, x1, y1, x2, y2 in detector(photo).tolist():
            found.append({"image_id": info["id"], "category_id": 1, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    return found


def coco_evaluation(coco: COCO, found: list[dict], most: int) -> COCOeval:
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.params.maxDets = [1, most, 100]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


class OnSet(NamedTuple):
    """Recall of the ten best boxes of each photo and AP50, at IoU 0.5, and AP over IoU 0.5 to 0.95."""

    recall: float
    ap50: float
    ap: float


PEOPLE = ("person",)
SOURCES = {", everyday photos": "coco_", ", shelves": "frei_"}  # of boxes/val.json, 100 photos each
IGNORED_AREA = 2e10  # beyond COCO's largest: neither wanted nor, if found, wrong


HALVES = {"": slice(None), ", chosen by": slice(0, None, 2), ", not chosen by": slice(1, None, 2)}


def on_set(
    detector: Detector,
    annotations: Path,
    images: Path,
    ignored: tuple[str, ...] = (),
    part: slice = HALVES[""],
    *,
    source: str = "",
) -> OnSet:
    """The figures of a set in COCO's form; objects of the `ignored` labels are neither wanted nor wrong.

    Of the set, `part` of the photos whose file names begin with `source`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
        photos = [image for image in coco.dataset["images"][part] if image["file_name"].startswith(source)]
        kept = {image["id"] for image in photos}
        coco.dataset["images"] = photos
        coco.dataset["annotations"] = [row for row in coco.dataset["annotations"] if row["image_id"] in kept]
        coco.createIndex()
        for row in coco.dataset["annotations"]:
            if row.get("label") in ignored:
                row["area"] = IGNORED_AREA
        category = coco.dataset["categories"][0]["id"]
        found = [{**row, "category_id": category} for row in detect_all(detector, coco, images)]
        evaluated = coco_evaluation(coco, found, 10).eval
    precision = evaluated["precision"][:, :, 0, 0, 2]
    return OnSet(float(evaluated["recall"][0, 0, 0, 1]), float(precision[0].mean()), float(precision.mean()))


def on_boxes(detector: Detector, folder: Path) -> dict[str, float]:
    """The figures of boxes/val.json: whole and by halves, with its people and without, and by source."""
    parts: dict[str, dict] = {}
    for half, part in HALVES.items():
        parts |= {half: {"part": part}, f" without people{half}": {"part": part, "ignored": PEOPLE}}
    parts |= {name: {"source": source} for name, source in SOURCES.items()}
    found = {}
    for name, how in parts.items():
        each = on_set(detector, folder / "val.json", folder / "images", **how)
        found[f"recall at IoU 0.5 of 10 boxes a photo on boxes/val{name}"] = each.recall
        found[f"AP50 on boxes/val{name}"] = each.ap50
    return found


def measure(folder: Path, data: Path) -> dict[str, float]:
    """AP50 and AP on ecssd val, recall of ten boxes a photo on coco128; where it is there, boxes/val.json too."""
    detector, found = Detector(folder), {}
    for half, part in HALVES.items():
        ecssd = on_set(detector, data / "ecssd/val.json", data / "ecssd/images", part=part)
        found |= {f"AP50 on ecssd val{half}": ecssd.ap50, f"AP on ecssd val{half}": ecssd.ap}
    if (data / "boxes/val.json").is_file():
        found |= on_boxes(detector, data / "boxes")
    coco128 = on_set(detector, data / "coco128/foreground.json", data / "coco128/images")
    return found | {"recall at IoU 0.5 of 10 boxes a photo on coco128": coco128.recall, "AP50 on coco128": coco128.ap50}


def latency(folder: Path, threads: int, repeats: int = 60) -> float:
    """Median milliseconds of one run at batch 1, without preprocessing."""
    detector = Detector(folder, threads=threads)
    image = np.random.default_rng(0).normal(size=(1, 3, *detector.spec["preprocess"]["size"]))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        detector.run(image, np.ones((1, 2)))
        times.append(time.perf_counter() - begin)
    return float(np.median(times[10:]) * 1000)


def draw(detector: Detector, photos: list[Path], out: Path, threshold: float) -> None:
    """The photos with their boxes, as one contact sheet."""
    tiles = []
    for path in photos:
        photo = cv2.imread(str(path))
        scale = 400 / max(photo.shape[:2])
        rows = detector(photo)
        tile = np.full((400, 400, 3), 90, np.uint8)
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        tile[: small.shape[0], : small.shape[1]] = small[:400, :400]
        for _, score, *box in rows[rows[:, 1] > threshold].tolist():
            x1, y1, x2, y2 = (int(v * scale) for v in box)
            cv2.rectangle(tile, (x1, y1), (x2, y2), (0, 255, 0), 2)
            cv2.putText(tile, f"{score:.2f}", (x1 + 2, y1 + 14), 0, 0.5, (0, 0, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 5)
    cv2.imwrite(str(out), np.vstack([np.hstack(tiles[i : i + 5]) for i in range(0, len(tiles), 5)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models/picodet_efficientnet_lite0_mainbody")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--draw", type=Path, nargs="+", help="a PNG to write, then the photos to draw boxes on")
    parser.add_argument("--threshold", type=float, default=0.2, help="lowest score drawn")
    args = parser.parse_args()
    if args.draw:
        draw(Detector(args.model), args.draw[1:], args.draw[0], args.threshold)
        return
    for what, value in measure(args.model, args.data).items():
        print(f"{what}: {value:.4f}")
    for threads in (1, 2):
        print(f"milliseconds at batch 1 with {threads} threads (median): {latency(args.model, threads):.1f}")


if __name__ == "__main__":
    main()
