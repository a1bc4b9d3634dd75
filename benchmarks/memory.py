"""Memory of one process that recognises 1,000 images of all sizes: it must not grow.

python benchmarks/memory.py [--images 1000] [--limit 50]
Bundled models, demo gallery; the images are random cuts of the demo's photos, so that sizes and numbers of crops
change all the time. oneDNN keeps memory for every pair of thread and batch size, which have all met by image 400 or
so. Ends with status 1 if the memory grows by more than the limit (MB) from there to the last image.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shitu.build.builder import GalleryBuilder
from shitu.config import load_config
from shitu.draw import draw_recognition
from shitu.draw.annotated_writer import PictureWriter
from shitu.images.read import Picture, read_image
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor

HERE = Path(__file__).resolve().parent.parent


def megabytes() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def images(count: int) -> Iterator[tuple[str, Picture]]:
    photos = [read_image(path) for path in sorted((HERE / "demo/photos").glob("*.jpg"))]
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = rng.integers(0, photo.shape[0] - 50), rng.integers(0, photo.shape[1] - 50)
        height, width = rng.integers(50, photo.shape[0] - top + 1), rng.integers(50, photo.shape[1] - left + 1)
        yield f"{number % 20}.jpg", photo[top : top + height, left : left + width]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=50, help="megabytes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = [f"{key}={scratch}/{key}" for key in ("IndexProcess.index_dir", "Global.output_dir")]
        config = load_config(HERE / "configs/inference_general.yaml", [*paths, "Global.threshold=0.05"])
        GalleryBuilder(config).run()
        system = SystemPredictor(config)
        seen: dict[int, float] = {}
        regions, start = 0, time.perf_counter()
        with PictureWriter(config.Global.output_dir, draw_recognition) as pictures:
            for number, (image, record) in enumerate(recognize_files(system, images(args.images)), start=1):
                assert image is not None
                pictures.write(record.image, image, record)
                regions += len(record.regions)
                if number in (1, 10) or number % 100 == 0:
                    seen[number] = megabytes()
                    print(f"{number:6} images {seen[number]:8.1f} MB {time.perf_counter() - start:7.1f} s", flush=True)
    last, settled = max(seen), max(number for number in seen if number <= 0.4 * args.images)
    for first in (100, settled):
        print(f"{regions} regions; from image {first} to {last} the memory grew by {seen[last] - seen[first]:.1f} MB")
    growth = seen[last] - seen[settled]
    if growth > args.limit:
        raise SystemExit(f"more than {args.limit} MB")


if __name__ == "__main__":
    main()
