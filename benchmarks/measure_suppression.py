"""How regions that overlap should be suppressed: across labels, or within (`Global.rec_nms_within_labels`).

    shitu demo && python -m benchmarks.measure_suppression

Draws 60 scenes (seed 11) of 4 to 7 things of the demo gallery, three quarters of which overlap the one before, runs
detector, extractor and search once, and counts what each rule leaves: recall of the things (IoU 0.5, right label),
regions too many, precision, F1. PaddleClas suppresses across labels at 0.05; its users asked for the other
(PaddleClas#1458).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from research.common.cutouts import object_on_white
from shitu.config import load_config
from shitu.evaluation.observe import Observation, Observer
from shitu.evaluation.queries import Query, read_queries
from shitu.evaluation.settings import Settings
from shitu.images.boxes import iou_matrix
from shitu.results import Region

ROOT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH, SCENES = 480, 640, 60
RULES = [("across", t) for t in (0.05, 0.15, 0.3, 0.5)] + [("within", t) for t in (0.05, 0.3, 0.5)]


def draw_scenes(folder: Path) -> Path:
    """Pictures and their query list."""
    rng = np.random.default_rng(11)
    photos = {path.stem.replace("_", " "): cv2.imread(str(path)) for path in sorted(ROOT.glob("demo/gallery/google/*"))}
    cutouts = {name: found for name, photo in photos.items() if (found := object_on_white(photo)) is not None}
    lines = []
    for number in range(SCENES):
        names = [str(name) for name in rng.choice(list(cutouts), int(rng.integers(4, 8)), replace=False)]
        image, boxes = draw_scene(rng, [cutouts[name] for name in names])
        cv2.imwrite(str(folder / f"{number}.jpg"), image)
        for name, box in zip(names, boxes, strict=True):
            if box is not None:
                lines.append(f"{number}.jpg\t{name}\t{','.join(map(str, box))}\n")
    (folder / "queries.txt").write_text("".join(lines))
    return folder / "queries.txt"


def draw_scene(rng: np.random.Generator, things: Sequence[np.ndarray]) -> tuple[np.ndarray, list[list[int] | None]]:
    """A picture, and the box of what is visible of each thing; None where that is less than about half."""
    ground = rng.integers(60, 230, 3) + rng.normal(0, 8, (HEIGHT, WIDTH, 1))
    image, owner = np.clip(ground, 0, 255).astype(np.uint8), np.zeros((HEIGHT, WIDTH), int)
    before: tuple[int, int, int] | None = None
    sizes = []
    for number, thing in enumerate(things, 1):
        scale = rng.uniform(130, 200) / max(thing.shape[:2])
        cutout = cv2.resize(thing, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        h, w = cutout.shape[:2]
        x, y = int(rng.uniform(0, WIDTH - w)), int(rng.uniform(0, HEIGHT - h))
        if before is not None and rng.random() < 0.75:
            left, top, right = before
            beside = int(right - (right - left) * rng.uniform(0.1, 0.35))
            if beside + w <= WIDTH:
                x, y = beside, int(np.clip(top + rng.uniform(-0.3, 0.3) * h, 0, HEIGHT - h))
        alpha = cutout[..., 3:] / 255
        part = image[y : y + h, x : x + w]
        part[:] = part * (1 - alpha) + cutout[..., :3] * alpha
        owner[y : y + h, x : x + w][cutout[..., 3] > 127] = number
        before = (x, y, x + w)
        sizes.append(w * h)
    return image, [visible(owner == number, size) for number, size in enumerate(sizes, 1)]


def visible(mask: np.ndarray, size: int) -> list[int] | None:
    ys, xs = np.nonzero(mask)
    if len(ys) < 0.225 * size:
        return None
    return [int(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]


def count(regions: Sequence[Region], wanted: Sequence[Query]) -> int:
    """Things found: an own region of their label with an IoU of at least 0.5."""
    used: set[int] = set()
    for query in wanted:
        overlaps = iou_matrix([query.box], [region.bbox for region in regions])[0] if regions else []
        for place in np.argsort(overlaps)[::-1]:
            if overlaps[place] >= 0.5 and regions[place].label == query.label and place not in used:
                used.add(int(place))
                break
    return len(used)


def show(seen: dict[str, list[Observation]], settings: Settings, rule: str, threshold: float) -> None:
    found = given = wanted = 0
    for observations in seen.values():
        ruled = replace(settings, rec_nms_thresold=threshold, within_labels=rule == "within")
        regions = ruled.regions(observations[0])
        found += count(regions, [each.query for each in observations])
        given, wanted = given + len(regions), wanted + len(observations)
    recall, precision = found / wanted, found / max(1, given)
    f1 = 2 * recall * precision / max(1e-9, recall + precision)
    print(
        f"score_thres {settings.score_thres:.2f}, {rule} labels at {threshold:.2f}: recall {recall:.3f}, "
        f"{given - found:3} too many, precision {precision:.3f}, F1 {f1:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="overrides", action="append", default=[])
    parser.add_argument("--score-thres", type=float, nargs="+", default=[0.35, 0.5])
    parser.add_argument("--keep", type=Path, help="a folder for the pictures")
    arguments = parser.parse_args()
    config = load_config(None, [f"IndexProcess.index_dir={ROOT / 'output/demo_index'}", *arguments.overrides])
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        seen: dict[str, list[Observation]] = {}
        for each in Observer(config).observe(read_queries(draw_scenes(folder), folder, "\t")):
            seen.setdefault(each.query.path, []).append(each)
    for score_thres in arguments.score_thres:
        settings = replace(Settings.from_config(config), score_thres=score_thres)
        for rule, threshold in RULES:
            show(seen, settings, rule, threshold)


if __name__ == "__main__":
    main()
