"""Photos of ../shared/data -> features, for the scripts that make and check the bundled recogniser."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from shitu.models.model_yaml import read_model_yaml

Floats = NDArray[np.float32]

HELD_OUT_CLASSES = 35
MEAN, STD, SIDE = 127.0, 128.0, 224


class Scaling(NamedTuple):
    """What pixels, 0 to 255, become: `(pixel - mean) / std`, a number or one a channel (RGB)."""

    mean: float | Floats = MEAN
    std: float | Floats = STD

    @classmethod
    def of(cls, folder: Path) -> Scaling:
        """As a model's card says; that of EfficientNet-Lite0 where there is no card yet."""
        card = folder / "model.yaml"
        if not card.is_file():
            return cls()
        known = read_model_yaml(card).preprocess
        assert known is not None
        return cls(*(np.float32(values) / np.float32(known.scale) for values in (known.mean, known.std)))


LITE0 = Scaling()


class Photo(NamedTuple):
    """A file, what it shows, and the part to look at: `xyxy` in whole pixels, or None for the whole photo."""

    path: Path
    label: str
    xyxy: tuple[int, int, int, int] | None = None


def listed(folder: Path, name: str = "list.txt") -> list[Photo]:
    """The photos of a list file of `path<TAB>label` lines."""
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    return [Photo(folder / path, label) for path, label in rows]


def coco_photos(folder: Path, name: str, boxes: bool = False) -> list[Photo]:
    """The photos of a COCO file, whole, or with `boxes` one entry for each box of 16 pixels or more a side."""
    coco = json.loads((folder / name).read_text(encoding="utf-8"))
    roots = [root for root in (folder / "images", folder) if (root / coco["images"][0]["file_name"]).is_file()]
    if not roots:
        raise SystemExit(f"{folder / name}: no photo {coco['images'][0]['file_name']!r} beside it or in images/")
    files = {image["id"]: roots[0] / image["file_name"] for image in coco["images"]}
    if not boxes:
        return [Photo(path, "foreground") for path in files.values()]
    photos = []
    for row in coco["annotations"]:
        x, y, w, h = (round(v) for v in row["bbox"])
        if min(w, h) >= 16:
            photos.append(Photo(files[row["image_id"]], "foreground", (max(x, 0), max(y, 0), x + w, y + h)))
    return photos


def held_out_classes(labels: Iterable[str]) -> list[str]:
    """The Caltech classes that no fit may see: the 35 whose names' SHA-1 (UTF-8, hex) sort first; by name."""
    by_hash = sorted(set(labels), key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    return sorted(by_hash[:HELD_OUT_CLASSES])


def read_input(photo: Photo, scaling: Scaling = LITE0) -> Floats:
    """The network's input: (3, 224, 224) float32, RGB, squashed bilinearly, scaled."""
    image = cv2.imread(str(photo.path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{photo.path}: not readable as an image")
    if photo.xyxy is not None:
        x1, y1, x2, y2 = photo.xyxy
        image = image[y1:y2, x1:x2]
    rgb = cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(((rgb.astype(np.float32) - scaling.mean) / scaling.std).transpose(2, 0, 1))


def input_batches(photos: list[Photo], size: int, scaling: Scaling = LITE0) -> Iterator[Floats]:
    """The inputs of all photos, in order: (size or fewer, 3, 224, 224) float32 each."""
    for start in range(0, len(photos), size):
        yield np.stack([read_input(photo, scaling) for photo in photos[start : start + size]])


class ExportedNetwork:
    """An exported network under Paddle Inference with oneDNN; the settings are those the toolkit serves with."""

    def __init__(self, folder: Path, threads: int = 2) -> None:
        from paddle import inference

        programs = [folder / f"inference.{ending}" for ending in ("json", "pdmodel")]
        program = next((path for path in programs if path.is_file()), None)
        if program is None:
            raise SystemExit(f"{folder}: holds neither inference.json nor inference.pdmodel")
        config = inference.Config(str(program), str(folder / "inference.pdiparams"))
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_mkldnn()
        config.set_cpu_math_library_num_threads(threads)
        # A .json program needs these two before the memory pass, else it dies with "Not find predictor_id 0".
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.enable_memory_optim()
        self._scaling = Scaling.of(folder)
        self._predictor: Any = inference.create_predictor(config)

    def __call__(self, x: Floats) -> Floats:
        """(n, 3, 224, 224) float32 -> (n, d) float32."""
        predictor = self._predictor
        predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(x)
        predictor.run()
        result: Floats = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
        return result

    def photos(self, photos: list[Photo], batch: int = 16) -> Floats:
        """Features of photos: (n, d) float32, not normalised."""
        return np.concatenate([self(x) for x in input_batches(photos, batch, self._scaling)])


def each_once(folder: Path) -> Callable[[list[Photo]], Floats]:
    """Photos -> (n, d) features of an exported network, one thread, each photo read once."""
    run, known = ExportedNetwork(folder, 1), dict[Photo, Floats]()

    def embed(members: list[Photo]) -> Floats:
        new = list(dict.fromkeys(photo for photo in members if photo not in known))
        if new:
            known.update(zip(new, run.photos(new), strict=True))
        return np.stack([known[photo] for photo in members])

    return embed


def unit(rows: Floats) -> Floats:
    """Rows divided by their length; (n, d) float32."""
    units: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return units


def labels_of(photos: list[Photo]) -> NDArray[np.str_]:
    """(n,) labels, for comparing by index."""
    return np.array([photo.label for photo in photos])


def recall_at_1(
    queries: Floats, query_labels: NDArray[np.str_], gallery: Floats, gallery_labels: NDArray[np.str_]
) -> float:
    """Share of queries whose nearest gallery row by cosine has their label."""
    nearest = (unit(queries) @ unit(gallery).T).argmax(axis=1)
    return float((gallery_labels[nearest] == query_labels).mean())


def leave_one_out_recall(rows: Floats, labels: NDArray[np.str_]) -> float:
    """Recall@1 of every row against all the others."""
    cosines = unit(rows) @ unit(rows).T
    np.fill_diagonal(cosines, -np.inf)
    return float((labels[cosines.argmax(axis=1)] == labels).mean())
