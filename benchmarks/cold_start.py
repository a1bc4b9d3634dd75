"""Wall time of `shitu predict` on one photo, from the start of the process, and where it goes.

python benchmarks/cold_start.py [--runs 5] [--limit 2.0]
Bundled models, demo gallery. Ends with status 1 if the median is above the limit.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent.parent
PHOTO = HERE / "demo/photos/beach.jpg"

# The steps of `shitu predict`, each timed; what a step imports, it pays for.
STEPS = """
import sys, time
last = time.perf_counter()
def step(name):
    global last
    now = time.perf_counter()
    print(f"{name}\\t{1000 * (now - last):.0f}")
    last = now
import shitu.cli; step("import shitu.cli")
import numpy; step("import numpy")
import cv2; step("import cv2")
import faiss; step("import faiss")
from shitu.engines.paddle import _paddle_inference; _paddle_inference(); step("import paddle")
from shitu.cli.options import read_config
config = read_config(None, tuple(sys.argv[2:])); step("read the configuration")
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor, open_gallery
step("import the rest")
gallery = open_gallery(config); step("open the gallery")
DetPredictor(config); step("load the detector")
RecPredictor(config); step("load the recogniser")
system = SystemPredictor(config, gallery); step("(load both again)")
from shitu.images.read import read_image
image = read_image(sys.argv[1]); step("read the photo")
found = system.predict([image]); step("recognise, first time")
found = system.predict([image]); step("(recognise, second time)")
from shitu.draw import draw_recognition; draw_recognition(image, found[0]); step("draw")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--limit", type=float, default=2.0, help="seconds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # as after pip install: compiled modules are there, whatever this shell says about writing them
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = f"{scratch}/pycache"
        overrides = [f"IndexProcess.index_dir={scratch}/index", f"Global.output_dir={scratch}/output"]
        options = [word for override in overrides for word in ("-o", override)]

        def run(*arguments: str) -> str:
            command = [sys.executable, *arguments]
            return subprocess.run(
                command, cwd=HERE, env=environment, text=True, check=True, stdout=subprocess.PIPE
            ).stdout

        run("-m", "shitu", "build-gallery", *options)
        predict = ["-m", "shitu", "predict", *options, str(PHOTO)]
        run(*predict)
        seconds = []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(args.runs):
            start = time.perf_counter()
            run(*predict)
            seconds.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / args.runs
        print(f"shitu predict, one photo: median {median(seconds):.2f} s of {[round(s, 2) for s in seconds]}")
        print(f"  of a processor {cpu:.2f} s, which a busy machine changes less")
        steps = [run("-c", STEPS, str(PHOTO), *overrides).splitlines() for _ in range(args.runs)]
        for lines in zip(*steps, strict=True):
            values = [float(line.split("\t")[1]) for line in lines]
            print(f"  {lines[0].split(chr(9))[0]:28}{median(values):8.0f} ms")
    if median(seconds) > args.limit:
        raise SystemExit(f"slower than {args.limit} s")


if __name__ == "__main__":
    main()
