"""Images per second that the training loader makes, against a plain paddle.io.DataLoader and ppdet's reader.

python benchmarks/input_pipeline.py [--list FILE --root FOLDER] [--workers N] [--rounds 5] [--images 640]
The images: 500 x 375 JPEGs cut out of the demo's photos, or those of a list file (`path label` per line). The plain
loader does PP-ShiTuV2's recipe with a line of OpenCV per operator; ppdet's reader does PicoDet's (crop, flip, distort,
resize, normalise), which is other work, so compare the sizes. Rounds alternate; `per core` comes from the processor
time of all processes, so that it holds on a busy machine. Needs `pip install --no-deps paddledet==2.6.0`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import paddle
from PIL import Image

from shitu.cores import available_cores
from shitu.images.read import read_image
from shitu.training.base.toolkits import ppdet
from shitu.training.rec.image_list import ImageList
from shitu.training.rec.loader import TrainLoader
from shitu.training.rec.transforms import compile_transform

HERE = Path(__file__).resolve().parent.parent
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BATCH = 32


def v2_recipe(side: int) -> tuple[dict[str, Any], ...]:
    resize = {"ResizeImage": {"size": side}}
    return (
        resize,
        {"RandFlipImage": {"flip_code": 1}},
        {"Pad": {"padding": 10}},
        {"RandCropImageV2": {"size": side}},
        {"RandomRotation": {"prob": 0.5, "degrees": 90, "interpolation": "bilinear"}},
        resize,
        {"NormalizeImage": {"scale": "1.0/255.0", "mean": MEAN, "std": STD, "order": "hwc"}},
    )


class InOrder:
    """Batches of the list from front to back."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count // BATCH

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        return np.arange(index * BATCH, (index + 1) * BATCH)


def ours(images: ImageList, side: int, workers: int) -> Iterable[Any]:
    sampler, transform = InOrder(len(images)), compile_transform(v2_recipe(side), "benchmark")
    return TrainLoader(images, sampler, transform, seed=0, streams=[0], workers=workers).epoch(0)


class PlainDataset(paddle.io.Dataset):  # type: ignore[type-arg]
    def __init__(self, images: ImageList, side: int) -> None:
        super().__init__()
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images) // BATCH * BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        side, rng = self.side, np.random
        image = cv2.resize(cv2.imread(self.images.path(index))[:, :, ::-1], (side, side))
        if rng.random() < 0.5:
            image = cv2.flip(image, 1)
        image = cv2.copyMakeBorder(image, 10, 10, 10, 10, cv2.BORDER_CONSTANT)
        top, left = rng.randint(0, 21, 2)
        image = image[top : top + side, left : left + side]
        if rng.random() < 0.5:
            turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-90, 90), 1)
            image = cv2.warpAffine(image, turn, (side, side))
        image = cv2.resize(image, (side, side))
        image = (image.astype("float32") / 255 - np.float32(MEAN)) / np.float32(STD)
        return np.ascontiguousarray(image.transpose(2, 0, 1)), int(self.images.labels[index])


def plain(images: ImageList, side: int, workers: int) -> Iterable[Any]:
    return paddle.io.DataLoader(
        PlainDataset(images, side),
        batch_size=BATCH,
        num_workers=workers,
        places=paddle.CPUPlace(),
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )


def write_coco(images: ImageList, path: Path) -> None:
    """One box in the middle of every image."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "foreground"}]}
    for number in range(len(images)):
        with Image.open(images.path(number)) as image:
            width, height = image.size
        content["images"].append({"id": number, "file_name": images.path(number), "width": width, "height": height})
        box = [width / 4, height / 4, width / 2, height / 2]
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        )
    path.write_text(json.dumps(content), encoding="utf-8")


def ppdets(annotations: Path, side: int, workers: int) -> Iterable[Any]:
    reader = ppdet("data.reader").TrainReader(
        sample_transforms=[{"Decode": {}}, {"RandomCrop": {}}, {"RandomFlip": {"prob": 0.5}}, {"RandomDistort": {}}],
        batch_transforms=[
            {
                "BatchRandomResize": {
                    "target_size": [side],
                    "random_size": True,
                    "random_interp": True,
                    "keep_ratio": False,
                }
            },
            {"NormalizeImage": {"is_scale": True, "mean": MEAN, "std": STD}},
            {"Permute": {}},
            {"PadGT": {}},
        ],
        batch_size=BATCH,
        drop_last=True,
        collate_batch=True,
        use_shared_memory=True,
    )
    source = ppdet("data.source.coco").COCODataSet(
        dataset_dir=str(annotations.parent), image_dir="", anno_path=annotations.name,
        data_fields=["image", "gt_bbox", "gt_class", "is_crowd"],
    )  # fmt: skip
    with redirect_stdout(StringIO()):
        return reader(source, workers).loader  # type: ignore[no-any-return]


def demo_jpegs(folder: Path, count: int) -> ImageList:
    photos = [read_image(path) for path in sorted((HERE / "demo/photos").glob("*.jpg"))]
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = photos[number % len(photos)]
        scale = rng.uniform(0.5, 1)
        rows, columns = (int(scale * side) for side in photo.shape[:2])
        top, left = rng.integers(photo.shape[0] - rows + 1), rng.integers(photo.shape[1] - columns + 1)
        cut = Image.fromarray(photo[top : top + rows, left : left + columns]).resize((500, 375))
        cut.save(folder / f"{number}.jpg", quality=90)
    return ImageList.from_rows([f"{number}.jpg" for number in range(count)], [0] * count, image_root=str(folder))


def listed(path: Path, root: Path, count: int) -> ImageList:
    lines = [line.rsplit(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines()]
    step = max(1, len(lines) // count)
    rows = lines[::step][:count]
    return ImageList.from_rows([name for name, _ in rows], [0] * len(rows), image_root=str(root))


def processor_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def timed(way: Callable[[], Iterable[Any]], count: int) -> tuple[float, float]:
    """(images per second, milliseconds of processor time per image), the start of the workers included."""
    wall, processor = time.perf_counter(), processor_seconds()
    for _ in way():
        pass
    return count / (time.perf_counter() - wall), 1000 * (processor_seconds() - processor) / count


def by_part(images: ImageList) -> None:
    """Milliseconds per image of each step of the V2 recipe, in one thread."""
    transform = compile_transform(v2_recipe(224), "benchmark")
    rng, spent = (
        np.random.default_rng(0),
        dict.fromkeys(["read", *map(str, range(len(transform.ops))), "normalise"], 0.0),
    )
    count = min(200, len(images))
    for index in range(count):
        begin = time.perf_counter()
        image = read_image(images.path(index))
        for name, op in [("read", None), *((str(n), op) for n, op in enumerate(transform.ops)), ("normalise", None)]:
            if op:
                image = op(image, rng)
            elif name == "normalise":
                transform.normalise(image)
            now = time.perf_counter()
            spent[name] += 1000 * (now - begin) / count
            begin = now
    names = {str(number): type(getattr(op, "step", op)).__name__ for number, op in enumerate(transform.ops)}
    print("by part (ms): " + ", ".join(f"{names.get(name, name)} {each:.2f}" for name, each in spent.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=640)
    args = parser.parse_args()
    count = args.images // BATCH * BATCH
    cv2.setNumThreads(1)
    with redirect_stdout(StringIO()):  # what it lacks for tracking
        ppdet("data.reader")
    logging.getLogger("ppdet.data.source.coco").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        images = listed(args.list, args.root, count) if args.list else demo_jpegs(Path(folder), count)
        write_coco(images, Path(folder) / "all.json")
        by_part(images)
        ways: dict[str, Callable[[], Iterable[Any]]] = {}
        for side in (224, 320, 416):
            ways[f"shitu, V2 recipe, {side}"] = lambda side=side: ours(images, side, args.workers)  # type: ignore[misc]
            ways[f"plain paddle.io.DataLoader, {side}"] = lambda side=side: plain(images, side, args.workers)  # type: ignore[misc]
            if side > 224:
                ways[f"ppdet, PicoDet recipe, {side}"] = lambda side=side: ppdets(  # type: ignore[misc]
                    Path(folder) / "all.json", side, args.workers
                )
        compare(ways, len(images) // BATCH * BATCH, args.rounds, args.workers)


def compare(ways: dict[str, Callable[[], Iterable[Any]]], count: int, rounds: int, workers: int) -> None:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            measured = timed(way, count)
            if number:  # the first round warms up
                results[name].append(measured)
    print(f"{'':34}{f'images/s, {workers} workers':>22}{'ms per image':>14}{'per core':>10}{'ours is':>9}")
    for name, pairs in results.items():
        side = name.rsplit(" ", 1)[1]
        processor = median(each for _, each in pairs)
        mine = results[f"shitu, V2 recipe, {side}"]
        ratio = median(other[1] / own[1] for other, own in zip(pairs, mine, strict=True))
        print(
            f"{name:34}{median(each for each, _ in pairs):22.0f}{processor:14.2f}{1000 / processor:10.0f}{ratio:8.2f}x"
        )


if __name__ == "__main__":
    main()
