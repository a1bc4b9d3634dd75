"""How long shitu and PaddleClas's predict_system take per photo, alternating between the two in one run.

python benchmarks/predict_system.py [--rounds 6] [--threads 2] [--json FILE]
The same models (the official mainbody program with random weights, PP-LCNetV2 in fp32, both .pdmodel), the same demo
photos and gallery, boxes put in place of the detector's output so that 6 regions are recognised. Ends with status 1
if labels differ, features differ by more than 1e-4, or shitu is not 1.2 times as fast.
Needs ../shared (the models) and PaddleClas: pip install --no-deps paddleclas==2.6.0
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent.parent
SHARED = HERE.parent / "shared"
PROGRAM = SHARED / "models/mainbody_program/inference.pdmodel"
WEIGHTS = SHARED / "models/pplcnetv2_base_shitu_distilled_v0/backbone.pdparams"
SIDES = ("paddleclas", "shitu")
PARTS = ("reading", "detector", "recogniser", "search", "drawing", "total")
WANTED_RATIO, WANTED_DIFFERENCE = 1.2, 1e-4
BOXES = 5  # Global.max_det_results of PaddleClas; the whole photo is the sixth region
# An idle process's OpenMP threads still spin for 0.2 s and would take the other's cores.
PAUSE = 0.3


def models(folder: Path) -> tuple[Path, Path]:
    """The detector and the recogniser, made in `folder` unless they are there from an earlier run."""
    missing = [str(path) for path in (PROGRAM, WEIGHTS) if not path.exists()]
    if missing or importlib.util.find_spec("paddleclas") is None:
        raise SystemExit(f"this benchmark needs paddleclas and {', '.join(missing) or 'nothing else'}: see its head")
    detector, recogniser = folder / "mainbody", folder / "pplcnetv2"
    makers = {
        detector: [str(SHARED / "tools/random_params.py"), str(PROGRAM), str(detector)],
        recogniser: [str(HERE / "benchmarks/export_pplcnetv2.py"), str(WEIGHTS), str(recogniser), "--legacy"],
    }
    for path, command in makers.items():
        if not (path / "inference.pdiparams").exists():
            environment = {**os.environ, "FLAGS_enable_pir_api": "0"}
            subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
    return detector, recogniser


def prepared(folder: Path, threads: int) -> dict[str, Any]:
    """What both workers read."""
    detector, recogniser = models(folder)
    known = json.loads((HERE / "demo/photos.json").read_text(encoding="utf-8"))
    photos = {str(HERE / "demo" / name): [item["bbox"] for item in items[:BOXES]] for name, items in known.items()}
    lines = (HERE / "demo/gallery.txt").read_text(encoding="utf-8").splitlines()
    data_file = folder / "gallery.txt"  # PaddleClas cuts labels at blanks
    data_file.write_text("".join(line.replace(" ", "_") + "\n" for line in lines), encoding="utf-8")
    spec = importlib.util.find_spec("paddleclas")
    assert spec is not None
    assert spec.origin is not None
    return {
        "yaml": str(Path(spec.origin).parent / "deploy/configs/inference_general.yaml"),
        "out": str(folder),
        "rows": {photo: [[0, 0.9 - i / 10, *box] for i, box in enumerate(boxes)] for photo, boxes in photos.items()},
        "overrides": {
            "Global.use_gpu": False,
            "Global.cpu_num_threads": threads,
            "Global.det_inference_model_dir": str(detector),
            "Global.rec_inference_model_dir": str(recogniser),
            "IndexProcess.image_root": str(HERE / "demo"),
            "IndexProcess.data_file": str(data_file),
            "IndexProcess.score_thres": 0.3,
        },
    }


class Worker:
    def __init__(self, side: str, job: Path, *overrides: str, python: str = sys.executable) -> None:
        script = "paddlex_worker.py" if side == "paddlex" else "workers.py"
        command = [python, str(HERE / "benchmarks" / script), side, str(job), *overrides]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the worker)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, cwd=HERE)
        self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"a worker ended: {self.log.read()[-2000:].decode()}")
        return json.loads(line)

    def ask(self, photo: str) -> Any:
        assert self.process.stdin is not None
        print(photo, file=self.process.stdin, flush=True)
        return self.answer()

    def quit(self) -> None:
        assert self.process.stdin is not None
        print("quit", file=self.process.stdin, flush=True)
        self.process.wait()


def compared(job: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """Alternate between the two, a round of all photos each, as with a folder; the first round does not count."""
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    workers = {side: Worker(side, path) for side in SIDES}
    seconds: dict[str, dict[str, list[float]]] = {side: {part: [] for part in PARTS} for side in SIDES}
    same, regions, difference = True, 0, 0.0
    for number in range(rounds + 1):
        answers: dict[str, list[Any]] = {}
        # who goes first changes, so that neither profits
        for side in SIDES if number % 2 else SIDES[::-1]:
            time.sleep(PAUSE)
            answers[side] = [workers[side].ask(photo) for photo in job["rows"]]
        for pair in zip(*(answers[side] for side in SIDES), strict=True):
            by_side = dict(zip(SIDES, pair, strict=True))
            if number == 0:
                found = {side: [region[:2] for region in by_side[side]["regions"]] for side in SIDES}
                same = same and found["shitu"] == found["paddleclas"]
                regions += len(found["shitu"])
                features = [np.array(by_side[side]["features"]) for side in SIDES]
                difference = max(difference, float(np.abs(features[0] - features[1]).max()))
                continue
            for side in SIDES:
                for part in PARTS:
                    seconds[side][part].append(by_side[side]["seconds"][part])
    for worker in workers.values():
        worker.quit()
    medians = {side: {part: 1000 * median(seconds[side][part]) for part in PARTS} for side in SIDES}
    pairs = zip(seconds["paddleclas"]["total"], seconds["shitu"]["total"], strict=True)
    return {
        "milliseconds": medians,
        "ratio": medians["paddleclas"]["total"] / medians["shitu"]["total"],
        "ratio_of_pairs": median(theirs / ours for theirs, ours in pairs),
        "photos": rounds * len(job["rows"]),
        "same_regions": same,
        "regions": regions,
        "largest_feature_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", type=Path, help="folder to keep the exported models in for the next run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.models or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = compared(prepared(folder, args.threads), folder, args.rounds)
    times = result["milliseconds"]
    print(f"{'ms per photo (median)':24}{'PaddleClas':>12}{'shitu':>10}{'ratio':>8}")
    for part in PARTS:
        theirs, ours = times["paddleclas"][part], times["shitu"][part]
        print(f"{part:24}{theirs:12.1f}{ours:10.1f}{theirs / ours:8.2f}")
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    close = result["largest_feature_difference"] <= WANTED_DIFFERENCE
    if not (result["same_regions"] and close and result["ratio"] >= WANTED_RATIO):
        raise SystemExit("not as fast or not the same as wanted")


if __name__ == "__main__":
    main()
