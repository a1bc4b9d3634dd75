"""Crops of photos with the features that the bundled recogniser gives them: what distil_student.py learns from.

    python -m research.pplcnetv2.distil_data --out W/crops --assets A [--shards 40] [--jobs 2]
    (with KMP_BLOCKTIME=0 OMP_NUM_THREADS=1 in the environment)

A holds the unpacked packages `fluent-emoji-3d` (npm @lobehub/fluent-emoji-3d 1.1.0), `emoji-datasource-google` (npm,
16.0.0) and `tuxpaint` (Debian tuxpaint-stamps-default), as for detector/train.py. Photos: Caltech-101 without
the 35 held-out classes and the 12 validation classes, clothing, ECSSD train, juice train and iconic. Shard i depends on
the seed and on i alone; shards that are there are left as they are, so an interrupted run goes on.

Shard i is two files: crops_i.npy (2048, 128, 128, 3) uint8, RGB, and features_i.npy (2048, 512) float16, of length 1,
which the recogniser gave the same crop at 224 x 224.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import cv2
import numpy as np

from research.common.cutouts import Image, Rng, is_training_emoji, load_cutouts, shrink
from research.common.photo_features import MEAN, STD, ExportedNetwork, listed, unit

ROOT = Path(__file__).resolve().parents[2]
SHARD, SIDE, TEACHER_SIDE = 2048, 128, 224
BATCH = 16
LONGEST = 400  # of a photo in memory, pixels
WHOLE, PASTED, CUT_MIXED = 0.15, 0.25, 0.1  # shares of the crops
VALIDATION_CLASSES = 12


@dataclass
class Sources:
    """Photos (BGR, uint8) and cut-outs (BGRA, uint8)."""

    photos: list[Image]
    cutouts: list[Image]


def held_out() -> set[str]:
    """The 35 Caltech classes that nothing is trained or chosen on."""
    return set((ROOT / "research/common/caltech_heldout.txt").read_text(encoding="utf-8").split())


def validation_classes(data: Path) -> list[str]:
    """The 12 of the other 60 Caltech classes whose names' SHA-1 sort last; by name. No crop is made of them."""
    names = {photo.label for photo in listed(data / "caltech101")} - held_out()
    return sorted(sorted(names, key=lambda name: sha1(name.encode()).hexdigest())[-VALIDATION_CLASSES:])


def training_photos(data: Path) -> list[Path]:
    """The photos that crops are made of."""
    left_out = held_out() | set(validation_classes(data))
    paths = [photo.path for photo in listed(data / "caltech101") if photo.label not in left_out]
    paths += [photo.path for photo in listed(data / "clothing")]
    coco = json.loads((data / "ecssd" / "train.json").read_text(encoding="utf-8"))
    paths += [data / "ecssd" / "images" / image["file_name"] for image in coco["images"]]
    return paths + [photo.path for name in ("train.txt", "iconic.txt") for photo in listed(data / "juice", name)]


def load_sources(data: Path, assets: Path) -> Sources:
    """Everything that crops are made of, in memory."""
    photos = []
    for path in training_photos(data):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None:
            raise SystemExit(f"{path}: not readable as an image")
        photos.append(shrink(photo, LONGEST))
    fluent = sorted(path for path in (assets / "fluent-emoji-3d").rglob("*.webp") if is_training_emoji(path))
    google = sorted(path for path in (assets / "emoji-datasource-google").rglob("64/*.png") if is_training_emoji(path))
    stamps = sorted(path for path in (assets / "tuxpaint").rglob("*.png") if "symbols" not in path.parts)
    if not fluent:
        raise SystemExit(f"{assets}: holds no emoji; unpack the packages there that the docstring names")
    cutouts = load_cutouts(fluent) + load_cutouts(google[::4]) + load_cutouts(stamps)
    print(f"{len(photos)} photos, {len(cutouts)} cut-outs", flush=True)
    return Sources(photos, cutouts)


def window(rng: Rng, photo: Image, smallest: float) -> Image:
    """A random part of a photo, `smallest` to 1 of its area, squashed to 224 x 224; small turns now and then."""
    height, width = photo.shape[:2]
    area, ratio = rng.uniform(smallest, 1), np.exp(rng.uniform(-0.5, 0.5))
    w, h = width * min(1, np.sqrt(area * ratio)), height * min(1, np.sqrt(area / ratio))
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    angle = np.deg2rad(rng.normal(0, 12)) if rng.random() < 0.2 else 0.0
    side = TEACHER_SIDE
    half = np.array([[-w, -h], [w, -h], [-w, h]]) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = (half @ turn + [x + w / 2, y + h / 2]).astype(np.float32)
    if rng.random() < 0.5:  # mirrored
        corners = np.stack([corners[1], corners[0], corners[1] + corners[2] - corners[0]])
    to = np.array([[0, 0], [side, 0], [0, side]], np.float32)
    matrix = cv2.getAffineTransform(corners, to)
    return cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def paste(rng: Rng, image: Image, cutout: Image) -> None:
    """Blend a cut-out into the image, 0.35 to 0.9 of its side, anywhere inside."""
    scale = image.shape[0] * rng.uniform(0.35, 0.9) / max(cutout.shape[:2])
    w, h = (max(8, round(side * scale)) for side in (cutout.shape[1], cutout.shape[0]))
    small = cv2.resize(cutout, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        small = small[:, ::-1]
    x, y = rng.integers(0, image.shape[1] - w + 1), rng.integers(0, image.shape[0] - h + 1)
    alpha = small[..., 3:].astype(np.float32) / 255
    part = image[y : y + h, x : x + w]
    part[:] = np.rint(part * (1 - alpha) + small[..., :3] * alpha).astype(np.uint8)


def recolour(rng: Rng, image: Image) -> Image:
    """Brightness, contrast, saturation and tint; now and then grey, blurred or noisy."""
    x = image.astype(np.float32)
    if rng.random() < 0.7:
        x *= rng.uniform(0.6, 1.4)
        mean = x.mean()
        x = (x - mean) * rng.uniform(0.6, 1.4) + mean
        grey = x.mean(axis=2, keepdims=True)
        x = (x - grey) * rng.uniform(0.4, 1.6) + grey
        x *= rng.uniform(0.9, 1.1, size=3)
    if rng.random() < 0.05:
        x[:] = x.mean(axis=2, keepdims=True)
    if rng.random() < 0.1:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.6, 2.5))
    if rng.random() < 0.1:
        x += rng.normal(0, rng.uniform(2, 12), size=x.shape).astype(np.float32)
    return np.clip(x, 0, 255).astype(np.uint8)


def make_crop(rng: Rng, sources: Sources) -> Image:
    """(224, 224, 3) uint8, BGR."""

    def any_photo() -> Image:
        return sources.photos[rng.integers(len(sources.photos))]

    kind = rng.random()
    image = window(rng, any_photo(), 0.8 if kind < WHOLE else 0.08)
    if kind > 1 - PASTED:
        for _ in range(rng.choice([1, 1, 1, 2])):
            paste(rng, image, sources.cutouts[rng.integers(len(sources.cutouts))])
    elif kind > 1 - PASTED - CUT_MIXED:
        other, cut = window(rng, any_photo(), 0.1), int(rng.integers(60, 165))
        if rng.random() < 0.5:
            image[:, cut:] = other[:, cut:]
        else:
            image[cut:] = other[cut:]
    return recolour(rng, image)


def make_shard(out: Path, index: int, seed: int, sources: Sources, teacher: Callable[..., np.ndarray]) -> None:
    """Write shard `index`, its features last."""
    rng = np.random.default_rng([seed, index])
    crops = np.empty((SHARD, SIDE, SIDE, 3), np.uint8)
    features = []
    for start in range(0, SHARD, BATCH):
        batch = np.stack([make_crop(rng, sources) for _ in range(BATCH)])[..., ::-1]
        for row, crop in enumerate(batch, start):
            how = cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
            crops[row] = cv2.resize(crop, (SIDE, SIDE), interpolation=how)
        x = ((batch.astype(np.float32) - MEAN) / STD).transpose(0, 3, 1, 2)
        features.append(unit(teacher(np.ascontiguousarray(x))))
    for name, rows in (("crops", crops), ("features", np.concatenate(features).astype(np.float16))):
        partial = out / f"partial_{name}_{index:05d}.npy"
        np.save(partial, rows)
        partial.replace(out / f"{name}_{index:05d}.npy")


def work(out: Path, indices: list[int], seed: int, sources: Sources, model: Path) -> None:
    """One process: make these shards, each unless it is there."""
    cv2.setNumThreads(1)
    teacher = ExportedNetwork(model, threads=1)
    for index in indices:
        if not (out / f"features_{index:05d}.npy").is_file():
            make_shard(out, index, seed, sources, teacher)
            print(f"shard {index}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--assets", type=Path, required=True, help="folder of the three unpacked packages")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--teacher", type=Path, default=ROOT / "models" / "efficientnet_lite0_512")
    parser.add_argument("--first", type=int, default=0, help="the first shard")
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--seed", type=int, default=2026)
    args = parser.parse_args()
    # paddle reads these once, when it is imported, which each process does for itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    args.out.mkdir(parents=True, exist_ok=True)
    sources = load_sources(args.data, args.assets)
    indices = range(args.first, args.first + args.shards)
    context = multiprocessing.get_context("fork")  # the photos are shared
    jobs = [
        context.Process(target=work, args=(args.out, list(indices[job :: args.jobs]), args.seed, sources, args.teacher))
        for job in range(args.jobs)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise SystemExit("a process failed; run again with the same options to make the shards that are missing")


if __name__ == "__main__":
    main()
