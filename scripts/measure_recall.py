"""Recall@1 of a gallery list and a query list through the pipeline, without and with the detector.

    python scripts/measure_recall.py ../shared/data/juice --gallery train.txt iconic.txt --query test.txt

Without: the whole photo. With: the label of the region that is nearest to any gallery image, no threshold, the whole
photo taking part (`whole_image: always`) or only where nothing is found (`fallback`). The gallery is indexed whole
(`crop: none`) or by its largest body (`crop: largest`). `shitu evaluate` will replace this script.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from shitu import GalleryBuilder, SystemPredictor, load_config
from shitu.config import Config
from shitu.list_file import Entry, read_list
from shitu.predict_files import recognize_files
from shitu.read_ahead import read_ahead

SETTINGS = (
    ("without detector", "none", "", "always"),
    ("detector, whole photo takes part", "none", None, "always"),
    ("detector, whole photo as fallback", "none", None, "fallback"),
    ("detector on both sides, fallback", "largest", None, "fallback"),
    ("gallery by its largest body, no detector", "largest", "", "always"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--gallery", nargs="+", default=["train.txt", "iconic.txt"])
    parser.add_argument("--query", default="test.txt")
    parser.add_argument("-o", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    gallery = [entry for name in arguments.gallery for entry in entries(arguments.root, name)]
    queries = entries(arguments.root, arguments.query)
    for title, crop, detector, whole_image in SETTINGS:
        with tempfile.TemporaryDirectory() as index_dir:
            config = load_config(
                None,
                [f"IndexProcess.index_dir={index_dir}", "IndexProcess.index_method=Flat", "IndexProcess.score_thres=-1",
                 *arguments.overrides, f"IndexProcess.crop={crop}", f"Global.whole_image={whole_image}"],
            )  # fmt: skip
            GalleryBuilder(config).run(gallery)
            if detector is not None:
                config = config.replace("Global", det_inference_model_dir=detector)
            print(f"{title:42} Recall@1 {recall(config, queries):.4f}  ({len(queries)} queries)", flush=True)


def entries(root: Path, name: str) -> list[Entry]:
    return list(read_list(root / name, root, "\t"))


def recall(config: Config, queries: list[Entry]) -> float:
    """Share of the queries whose best region has the right label."""
    records = recognize_files(SystemPredictor(config), read_ahead(query.path for query in queries), 4)
    right = 0
    for query, (_, record) in zip(queries, records, strict=True):
        best = max(record.regions, key=lambda region: region.score, default=None)
        right += best is not None and best.label == query.label
    return right / len(queries)


if __name__ == "__main__":
    main()
