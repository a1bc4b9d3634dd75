"""Sets of photos on which a detector can help or harm: lists of a gallery and of queries, by fixed rules and seeds.

    python -m benchmarks.detector_sets ../shared/data FOLDER

Each set is a folder with gallery.txt and, apart, choose.txt (by which settings were chosen) and report.txt (other
photos, which took part in no choice), query lists of `shitu evaluate`. One thing a photo: caltech (the 35 classes that
no model learnt from), clothing (learnt from), packages (crops of articles and brands never learnt from), views (ECSSD:
another window of the same photo, mirrored), alone (one package on a photo, a small part of it). Several: juice (cartons
on shelves; val chooses, test reports), demo (chooses only), shelves (one box asked of each real shelf; articles never
learnt from choose, others report; the detector has learnt most of these photos), table (3 to 6 packages on a photo).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from research.gpu_job.pack_photos import fifth, held_out, listed, rank

ROOT = Path(__file__).resolve().parents[1]
Line = tuple[str, ...]  # path, label and, where it has one, the box
WIDTH, HEIGHT, SCENES, SHELVES = 640, 480, 40, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of shared photos")
    parser.add_argument("folder", type=Path, help="where lists and composed photos go")
    arguments = parser.parse_args()
    for name, lists in write_sets(arguments.data.resolve(), arguments.folder.resolve()).items():
        print(name, {part: len(lines) for part, lines in lists.items()})


def write_sets(data: Path, folder: Path) -> dict[str, dict[str, list[Line]]]:
    """All sets, as lines by set and list, which are written to FOLDER/SET/LIST.txt."""
    packages = _packages(data)
    sets = {
        "caltech": _caltech(data),
        "clothing": _clothing(data),
        "packages": _parts(packages, {"gallery": (0, 1), "choose": (1, 4), "report": (4, 16)}),
        "views": _views(data, folder),
        "alone": _composed(data, folder, packages, "alone"),
        "juice": {
            "gallery": _list(data / "juice", "train.txt") + _list(data / "juice", "iconic.txt"),
            "choose": _list(data / "juice", "val.txt"),
            "report": _list(data / "juice", "test.txt"),
        },
        "demo": {"gallery": _list(ROOT / "demo", "gallery.txt"), "choose": _list(ROOT / "demo", "photos.txt")},
        "shelves": _shelves(data, packages, "choose"),
        "shelves, learnt": _shelves(data, _packages(data, learnt=True), "report"),
        "table": _composed(data, folder, packages, "table"),
    }
    for name, lists in sets.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for part, lines in lists.items():
            text = "".join("\t".join(line) + "\n" for line in lines)
            (folder / name / f"{part}.txt").write_text(text, encoding="utf-8")
    return sets


def _list(folder: Path, name: str) -> list[Line]:
    rows = [line.split("\t") for line in (folder / name).read_text(encoding="utf-8").splitlines() if line]
    return [(str(folder / path), *more) for path, *more in rows]


def _by_label(lines: Iterable[tuple[Path, str]]) -> dict[str, list[str]]:
    """Paths by label, in an order without a pattern."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, label in lines:
        groups[label].append(str(path))
    return {label: sorted(groups[label], key=_place) for label in sorted(groups)}


def _place(path: str) -> str:
    return rank("/".join(Path(path).parts[-2:]))


def _caltech(data: Path) -> dict[str, list[Line]]:
    """Four pictures of each class as gallery, twelve asked to choose and twelve others for the report."""
    photos = _by_label((e.path, str(e.label)) for e in listed(data / "caltech101", "caltech"))
    held = {label: paths for label, paths in photos.items() if label.split("/", 1)[1] in held_out()}
    return _parts(held, {"gallery": (0, 4), "choose": (4, 16), "report": (16, 28)})


def _clothing(data: Path) -> dict[str, list[Line]]:
    photos = _by_label((e.path, str(e.label)) for e in listed(data / "clothing", "clothing"))
    return _parts(photos, {"gallery": (0, 15), "choose": (15, 55), "report": (55, 95)})


def _parts(photos: dict[str, list[str]], parts: dict[str, tuple[int, int]]) -> dict[str, list[Line]]:
    return {
        part: [(path, label) for label in photos for path in photos[label][first:last]]
        for part, (first, last) in parts.items()
    }


def _packages(data: Path, learnt: bool = False) -> dict[str, list[str]]:
    """Crops of articles and brands never learnt from; or of those that were."""
    crops = listed(data / "products", "products")
    apart = fifth({str(entry.label) for entry in crops})
    return _by_label((entry.path, str(entry.label)) for entry in crops if (entry.label in apart) != learnt)


def _shelves(data: Path, packages: dict[str, list[str]], part: str) -> dict[str, list[Line]]:
    """Articles in the photos that they were cut from: crop NAME_k is box k of shelf NAME; at most SHELVES of them."""
    shelves, boxes = data / "boxes", defaultdict(list)
    for name in ("train", "val"):
        coco = json.loads((shelves / f"{name}.json").read_text(encoding="utf-8"))
        files = {image["id"]: image["file_name"] for image in coco["images"]}
        for row in coco["annotations"]:
            boxes[files[row["image_id"]]].append([round(v) for v in row["bbox"]])
    lists: dict[str, list[Line]] = {"gallery": [], part: []}
    for label, paths in packages.items():
        there = {path: f"frei_{Path(path).stem.rpartition('_')[0]}.jpg" for path in paths}
        picture = next((path for path in paths if there[path] not in boxes), paths[0])
        lists["gallery"].append((picture, label))
        for path in paths:
            if there[path] in boxes and there[path] != there[picture]:
                x, y, w, h = boxes[there[path]][int(Path(path).stem.rpartition("_")[2])]
                lists[part].append((str(shelves / "images" / there[path]), label, f"{x},{y},{x + w},{y + h}"))
    lists[part] = sorted(lists[part], key=lambda line: rank(line[0]))[:SHELVES]
    return lists


# --- composed ------------------------------------------------------------------------------------------------------


def _views(data: Path, folder: Path) -> dict[str, list[Line]]:
    """Windows of each of ECSSD's photos for validation round its main thing, those asked mirrored and paler."""
    coco = json.loads((data / "ecssd" / "val.json").read_text(encoding="utf-8"))
    boxes = {row["image_id"]: row["bbox"] for row in reversed(coco["annotations"])}
    rng = np.random.default_rng(5)
    (folder / "views").mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[Line]] = {"gallery": [], "choose": [], "report": []}
    for image in coco["images"]:
        photo, name = cv2.imread(str(data / "ecssd" / "images" / image["file_name"])), Path(image["file_name"]).stem
        for part, lines in lists.items():
            window = _window(rng, photo, boxes[image["id"]])
            if part != "gallery":
                window = cv2.convertScaleAbs(window[:, ::-1], alpha=0.8, beta=30)
            path = folder / "views" / f"{name}_{part}.png"
            cv2.imwrite(str(path), window)
            lines.append((str(path), name))
    return lists


def _window(rng: np.random.Generator, photo: np.ndarray, xywh: Sequence[float]) -> np.ndarray:
    height, width = photo.shape[:2]
    x, y, w, h = (round(v) for v in xywh)
    left, top = int(x * rng.uniform(0, 0.8)), int(y * rng.uniform(0, 0.8))
    right = width - int((width - x - w) * rng.uniform(0, 0.8))
    bottom = height - int((height - y - h) * rng.uniform(0, 0.8))
    return photo[max(top, 0) : bottom, max(left, 0) : right]


def _composed(data: Path, folder: Path, packages: dict[str, list[str]], kind: str) -> dict[str, list[Line]]:
    """Packages on photos, ECSSD's for choosing and coco128's for the report; the gallery has other pictures of them."""
    large = {label: [path for path in paths[1:] if _side(path) >= 72] for label, paths in packages.items()}
    labels = [label for label in large if large[label]]
    (folder / kind).mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[Line]] = {"gallery": [(paths[0], label) for label, paths in packages.items()]}
    for seed, (part, source) in enumerate((("choose", "ecssd"), ("report", "coco128"))):
        rng = np.random.default_rng(31 + seed)
        names = sorted({path.name for path in (data / source / "images").iterdir()}, key=rank)
        part_labels = labels[seed::2]  # other articles, too
        lists[part] = []
        for number, name in enumerate(names[: SCENES * (2 if kind == "alone" else 1)]):
            image = cv2.resize(cv2.imread(str(data / source / "images" / name)), (WIDTH, HEIGHT))
            chosen = rng.choice(part_labels, 1 if kind == "alone" else int(rng.integers(3, 7)), replace=False)
            taken: list[tuple[int, int, int, int]] = []
            path = folder / kind / f"{part}_{number}.png"
            for label in map(str, chosen):
                thing = cv2.imread(large[label][int(rng.integers(len(large[label])))])
                if box := _paste(rng, image, thing, taken):
                    lists[part].append((str(path), label, ",".join(map(str, box))))
            cv2.imwrite(str(path), image)
    if kind == "alone":
        lists = {part: [line[:2] for line in lines] for part, lines in lists.items()}
    return lists


def _side(path: str) -> int:
    return int(min(cv2.imread(path).shape[:2]))


def _paste(
    rng: np.random.Generator, image: np.ndarray, thing: np.ndarray, taken: list[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """Somewhere beside what is there; None where no place was found."""
    for _ in range(50):
        scale = rng.uniform(120, 230) / max(thing.shape[:2])
        cut = cv2.resize(
            thing, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        height, width = cut.shape[:2]
        x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
        if all(x + width < a or c < x or y + height < b or d < y for a, b, c, d in taken):
            image[y : y + height, x : x + width] = cut
            taken.append((x, y, x + width, y + height))
            return taken[-1]
    return None


if __name__ == "__main__":
    main()
