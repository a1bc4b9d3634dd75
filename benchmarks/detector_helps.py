"""Recall@1 with the detector and without, on single things and on many: what whole photo and gallery crops bring.

    python -m benchmarks.detector_helps ../shared/data [--part report] [--set caltech ...]

The sets are those of benchmarks/detector_sets.py; `--part choose` is what the bundled settings were chosen by. For each
set and setting: Recall@1 by the code of `shitu evaluate` (where a list has boxes, of what overlaps them by an IoU of
0.5), and, at the config's score_thres, regions named wrongly per photo and, of these, whole photos.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.detector_sets import write_sets
from shitu import GalleryBuilder, load_config
from shitu.build.list_file import read_list
from shitu.evaluation.observe import DetectorUse, Observer
from shitu.evaluation.queries import Query, read_queries
from shitu.evaluation.settings import LEAST_OVERLAP, Settings, answer
from shitu.images.boxes import iou_matrix
from shitu.results import Region

SETTINGS: tuple[tuple[str, DetectorUse, dict[str, str]], ...] = (
    ("without", "off", {"IndexProcess.crop": "none"}),
    ("bundled", "on", {}),
    ("fallback, gallery whole", "on", {"Global.whole_image": "fallback", "IndexProcess.crop": "none"}),
    ("always, gallery whole", "on", {"Global.whole_image": "always", "IndexProcess.crop": "none"}),
    ("compete, gallery whole", "on", {"IndexProcess.crop": "none"}),
    ("fallback, gallery both", "on", {"Global.whole_image": "fallback"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of shared photos")
    parser.add_argument("--part", choices=("choose", "report"), default="report")
    parser.add_argument("--set", nargs="+", default=None, help="only these")
    parser.add_argument("--settings", type=int, default=2, help="the first so many (default: without, and bundled)")
    parser.add_argument("-o", "--override", action="append", default=[], help="such as Global.threshold=0.4")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, lists in write_sets(arguments.data.resolve(), folder).items():
            if arguments.part in lists and (arguments.set is None or name in arguments.set):
                for title, detector, values in SETTINGS[: arguments.settings]:
                    asked = [f"{key}={value}" for key, value in values.items()] + arguments.override
                    show(f"{name:16} {title:24}", folder / name, arguments.part, detector, asked)


def show(title: str, lists: Path, part: str, detector: DetectorUse, overrides: list[str]) -> None:
    index = lists / "index"
    config = load_config(None, [f"IndexProcess.index_dir={index}", "IndexProcess.index_method=Flat", *overrides])
    GalleryBuilder(config).run(read_list(lists / "gallery.txt", "/", "\t"))
    observer = Observer(config, detector=detector, depth=1, widen=False)
    settings = Settings.from_config(observer.config)
    queries = read_queries(lists / f"{part}.txt", "/", "\t")
    asked: dict[str, list[Query]] = {}
    for query in queries:
        asked.setdefault(query.path, []).append(query)
    right = known = wrong = whole = 0
    for seen in observer.observe(queries):
        known += seen.known
        right += seen.known and answer(seen, settings).right
        if asked[seen.query.path][0] is seen.query:  # once a photo
            named = [one for one in settings.regions(seen) if not _meant(one, asked[seen.query.path])]
            wrong += len(named)
            whole += sum(one.bbox == (0, 0, seen.width, seen.height) for one in named)
    photos = len(asked)
    print(f"{title} {right / known:.3f} of {known:3}; wrong names a photo {wrong / photos:.2f}, ", end="")
    print(f"whole photos {whole / photos:.2f}", flush=True)


def _meant(region: Region, queries: list[Query]) -> bool:
    return any(
        query.label == region.label
        and (query.box is None or iou_matrix([query.box], [region.bbox])[0, 0] >= LEAST_OVERLAP)
        for query in queries
    )


if __name__ == "__main__":
    main()
