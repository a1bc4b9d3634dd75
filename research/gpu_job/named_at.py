"""What recognisers name at a score_thres, of known things rightly and of unknown ones at all, on the choosing sets.

    python -m research.gpu_job.named_at models/efficientnet_lite0_512=0.4 models/pplcnetv2_base_512=0.5

The sets are those of refined_sets.unknown: whole photos, half of the classes in the gallery.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from research.common import photo_features as photos
from research.gpu_job.pack_photos import ROOT
from research.gpu_job.refined_sets import unknown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="FOLDER=SCORE_THRES")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    sets = unknown(args.data, None)
    for folder, _, threshold in (each.rpartition("=") for each in args.models):
        embed, least = photos.each_once(Path(folder)), float(threshold)
        for name, asked in sets.items():
            gallery, labels = photos.unit(embed(asked.gallery)), photos.labels_of(asked.gallery)
            known, stranger = (photos.unit(embed(some)) @ gallery.T for some in (asked.known, asked.unknown))
            right = (labels[known.argmax(1)] == photos.labels_of(asked.known)) & (known.max(1) > least)
            named = (stranger.max(1) > least).mean()
            print(f"{folder} at {least}: {name}, known {right.mean():.3f} rightly, unknown {named:.3f}", flush=True)


if __name__ == "__main__":
    main()
