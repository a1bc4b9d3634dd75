"""The open-set curves of docs/models.md, by `shitu evaluate`: unknown things named against known ones named rightly.

    python -m benchmarks.measure_open_set [--data ../shared/data] [--plot docs/images/open_set.png] [-o KEY=VALUE ...]

The settings are those of research/recogniser/open_set.py (juice with 3 of 10 products left out of the gallery; 15
unseen Caltech-101 classes with 5 photos each, the other 20 unknown), through the whole pipeline, with and without
detector.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from research.common.photo_features import Photo
from research.recogniser.open_set import settings

ROOT = Path(__file__).resolve().parents[1]


def write_list(path: Path, photos: list[Photo]) -> Path:
    path.write_text("".join(f"{photo.path.resolve()}\t{photo.label}\n" for photo in photos), encoding="utf-8")
    return path


def shitu(*arguments: object) -> str:
    command = [sys.executable, "-m", "shitu", "--quiet", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout


def measure(gallery: Path, queries: Path, index: Path, detector: str, overrides: list[str]) -> dict[str, Any]:
    """The record of `shitu evaluate`."""
    values = [f"IndexProcess.data_file={gallery}", f"IndexProcess.index_dir={index}", "IndexProcess.image_root=/"]
    options = [part for value in [*values, *overrides] for part in ("-o", value)]
    shitu("build-gallery", *options)
    record: dict[str, Any] = json.loads(
        shitu("evaluate", *options, "--query", queries, "--image-root", "/", "--detector", detector, "--no-map")
    )
    return record


def draw(curves: dict[str, dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, record in curves.items():
        curve = record["open_set"]["curve"]
        axes.plot(curve["false_accept_rate"], curve["recall"], label=name, linestyle="-" if "off" in name else "--")
        for at in record["open_set"]["recall_at"]:
            axes.vlines(at["false_accept_rate"], at["low"], at["high"], color=axes.lines[-1].get_color(), alpha=0.5)
    axes.set(xlabel="unknown photos that were named", ylabel="known photos named rightly", xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("-o", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    curves = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, asked in settings(arguments.data).items():
            gallery = write_list(folder / "gallery.txt", asked.gallery)
            queries = write_list(folder / "queries.txt", asked.known + asked.unknown)
            for detector in ("off", "on"):
                record = measure(gallery, queries, folder / "index", detector, arguments.overrides)
                curves[f"{name}, detector {detector}"] = record
                found = record["open_set"]
                print(f"{name}, detector {detector}: Recall@1 {record['recall']['1']:.3f}, AUROC {found['auroc']:.3f}")
                for at in found["recall_at"]:
                    print(
                        f"  at {at['false_accept_rate']:.2f} false names: recall {at['recall']:.3f} "
                        f"({at['low']:.3f} to {at['high']:.3f}), score_thres {at['threshold']:.3f}"
                    )
                at = record["at_threshold"]
                print(
                    f"  at the config's {at['threshold']}: {at['named_right']:.3f} named rightly, "
                    f"{at['named_wrong']:.3f} wrongly; of the unknown {at['unknown_named']:.3f} named",
                    flush=True,
                )
    if arguments.plot:
        draw(curves, arguments.plot)


if __name__ == "__main__":
    main()
