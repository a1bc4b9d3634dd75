"""Recall@1 of a gallery list and a query list under several settings of the pipeline, by the code of `shitu evaluate`.

    python benchmarks/measure_pipeline.py ../shared/data/juice --gallery train.txt iconic.txt --query test.txt

The gallery is indexed whole (`crop: none`), by its largest body (`crop: largest`) or by both (the bundled config);
photos are recognised whole, or with the detector and the whole photo always, in competition with the boxes (bundled) or
only where nothing is found (`fallback`); with several crops to a vector; with votes. No threshold.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from shitu import GalleryBuilder, load_config
from shitu.build.list_file import Entry, read_list
from shitu.evaluation.evaluate import evaluate
from shitu.evaluation.observe import DetectorUse
from shitu.evaluation.queries import Query, read_queries

WHOLE = {"IndexProcess.crop": "none"}
FALLBACK = {"Global.whole_image": "fallback", **WHOLE}
SETTINGS: tuple[tuple[str, DetectorUse, dict[str, str]], ...] = (
    ("without detector", "off", WHOLE),
    ("without detector, crops 1.0 0.7", "off", {"RecPreProcess.multi_crop": "[1.0, 0.7]", **WHOLE}),
    ("without detector, 10 votes", "off", {"IndexProcess.vote_k": "10", **WHOLE}),
    ("the bundled config", "on", {}),
    ("detector, fallback", "on", FALLBACK),
    ("detector, the whole photo always", "on", {"Global.whole_image": "always", **WHOLE}),
    ("detector on both sides, fallback", "on", {"Global.whole_image": "fallback", "IndexProcess.crop": "largest"}),
    ("detector, fallback, crops 1.0 0.7", "on", {"RecPreProcess.multi_crop": "[1.0, 0.7]", **FALLBACK}),
    ("detector, fallback, 10 votes", "on", {"IndexProcess.vote_k": "10", **FALLBACK}),
)


def recall(
    gallery: list[Entry], queries: list[Query], detector: DetectorUse, values: dict[str, str], index_dir: str
) -> float:
    options = {"IndexProcess.index_dir": index_dir, "IndexProcess.index_method": "Flat", **values}
    config = load_config(None, [f"{key}={value}" for key, value in options.items()])
    GalleryBuilder(config).run(gallery)
    return evaluate(config, queries, detector=detector, with_map=False).recall[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--gallery", nargs="+", default=["train.txt", "iconic.txt"])
    parser.add_argument("--query", default="test.txt")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    gallery = [entry for name in arguments.gallery for entry in read_list(arguments.root / name, arguments.root, "\t")]
    queries = read_queries(arguments.root / arguments.query, arguments.root, "\t")
    given = dict(override.split("=", 1) for override in arguments.overrides)
    for title, detector, values in SETTINGS:
        with tempfile.TemporaryDirectory() as index_dir:
            found = recall(gallery, queries, detector, {**given, **values}, index_dir)
        print(f"{title:42} Recall@1 {found:.4f}  ({len(queries)} queries)", flush=True)


if __name__ == "__main__":
    main()
