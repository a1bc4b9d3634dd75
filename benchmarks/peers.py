"""shitu against PaddleClas in one run, alternating: photo by photo, a folder of photos, and building a gallery.

python -m benchmarks.peers [--rounds 3] [--threads 2] [--gallery 10000] [--photos 200] [--entries 500] [--json FILE]
The official detector's program (640 px; random weights, but such that its boxes differ) and PP-LCNetV2 (224 px), in
every engine and precision that they are converted to (int8 where `shitu quantize` has been at --models). Six regions:
five boxes are put in place of the detector's, after its NMS has run on what came out, and the whole photo. The gallery
holds --gallery vectors, all but the demo's random; both read the same index.
Ratios of one run tell, not milliseconds; beside them stands how far the rounds lie apart, and the ratio of processor
time (of all threads), which other processes change less. Needs ../shared and
PaddleClas, as predict_system.py. --paddlex PYTHON adds PaddleX's PP-ShiTuV2 pipeline, run by the Python of a venv with
paddlex[cv] and paddlepaddle==3.2.2; it downloads a font unless PADDLE_PDX_LOCAL_FONT_FILE_PATH names one.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.predict_system import PAUSE, PROGRAM, SHARED, Worker, models, prepared
from shitu.benchmark.load import check_load, others_share
from shitu.benchmark.run import machine
from shitu.benchmark.variants import PRECISIONS, variants_of
from shitu.config import load_config
from shitu.convert.folder import convert_model

# As in tests/reference_models.py: the vector of 8 is what a box's sides are counted in.
LIVELY = (
    ("value = np.zeros(shape)", "value = np.arange(8.0) if shape == (8,) else rng.normal(0, 0.3, shape)"),
    ("value = rng.normal(0, 0.05, shape)", "value = rng.normal(0, (2.0 / np.prod(shape[1:])) ** 0.5, shape)"),
)
BASE = "paddleclas"
GRID = [[0, 0.9 - i / 10, 20 + 120 * i, 40, 180 + 120 * i, 400] for i in range(5)]
WORK = ("photo", "folder", "gallery")


def make_models(folder: Path) -> None:
    """mainbody/ and pplcnetv2/ in `folder`, in Paddle's format and as ONNX, unless they are there."""
    if (folder / "mainbody/model.yaml").exists() and (folder / "pplcnetv2/model.yaml").exists():
        return
    models(folder)
    text = (SHARED / "tools/random_params.py").read_text(encoding="utf-8")
    for plain, better in LIVELY:
        text = text.replace(plain, better)
    tool = folder / "random_params.py"
    tool.write_text(text, encoding="utf-8")
    shutil.rmtree(folder / "mainbody")
    environment = {**os.environ, "FLAGS_enable_pir_api": "0"}
    command = [sys.executable, str(tool), str(PROGRAM), str(folder / "mainbody")]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    for name, task in (("mainbody", "detection"), ("pplcnetv2", "recognition")):
        convert_model(str(folder / name), task, print)


def make_gallery(folder: Path, count: int, jobs: Path) -> str:
    """PaddleClas builds the demo's gallery; random vectors are added until there are `count`."""
    where, seed = folder / "paddleclas", np.random.default_rng(0)
    Worker(BASE, jobs).quit()
    index = faiss.read_index(str(where / "vector.index"))
    with (where / "id_map.pkl").open("rb") as file:
        names = pickle.load(file)
    more = max(0, count - len(names))
    vectors = seed.normal(size=(more, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = np.arange(len(names), len(names) + more)
    index.add_with_ids(vectors, numbers)
    names |= {int(number): f"random/{number}.jpg\trandom_{number}" for number in numbers}
    faiss.write_index(index, str(where / "vector.index"))
    with (where / "id_map.pkl").open("wb") as file:
        pickle.dump(names, file)
    return str(where)


def make_job(folder: Path, args: argparse.Namespace) -> Path:
    """What all workers read: photos of the demo, as often as it takes, each a file of its own."""
    job = prepared(folder, args.threads)
    photos = list(job["rows"])
    copies = folder / "photos"
    copies.mkdir(exist_ok=True)
    for number in range(max(args.photos, args.entries)):
        shutil.copy(photos[number % len(photos)], copies / f"{number:05d}.jpg")
    names = sorted(str(path) for path in copies.glob("*.jpg"))
    entries = folder / "entries.txt"
    entries.write_text(
        "".join(f"{name}\tlabel_{i}\n" for i, name in enumerate(names[: args.entries])), encoding="utf-8"
    )
    job |= {"folder": names[: args.photos], "entries": str(entries), "grid": GRID}
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    job["gallery"] = make_gallery(folder, args.gallery, path)
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def sides_of(folder: Path, threads: int) -> dict[str, list[str]]:
    """Name -> what shitu is told beyond PaddleClas's config; PaddleClas itself first."""
    told = [
        f"Global.{kind}_inference_model_dir={folder / name}"
        for kind, name in (("det", "mainbody"), ("rec", "pplcnetv2"))
    ]
    found, _ = variants_of(load_config(None, told), precisions=PRECISIONS, threads=[threads])
    return {BASE: [], **{f"shitu {each.engine} {each.precision}": each.overrides() for each in found}}


def measure(sides: dict[str, list[str]], path: Path, rounds: int, paddlex: str) -> dict[str, dict[str, Any]]:
    """Seconds by side and work, one for each round; the round that warms up does not count."""
    photos = list(json.loads(path.read_text(encoding="utf-8"))["rows"])
    workers = {
        name: Worker(name.split()[0], path, *overrides, python=paddlex if name == "paddlex" else sys.executable)
        for name, overrides in sides.items()
    }
    seconds: dict[str, dict[str, Any]] = {name: {work: [] for work in WORK} | {"parts": []} for name in sides}
    for each in seconds.values():
        each["cpu"] = {work: [] for work in WORK}
    for number in range(rounds + 1):
        names = list(sides)[number % len(sides) :] + list(sides)[: number % len(sides)]
        for work in WORK if number else WORK[:1]:
            for name in names:
                time.sleep(PAUSE)
                answers = [workers[name].ask(photo) for photo in (photos if work == "photo" else [work])]
                if number == 0:
                    seconds[name]["regions"] = [[region[:2] for region in each["regions"]] for each in answers]
                elif work == "photo":
                    seconds[name]["photo"].append(median(each["seconds"]["total"] for each in answers))
                    seconds[name]["cpu"]["photo"].append(median(each["processor"] for each in answers))
                    seconds[name]["parts"] += [each["seconds"] for each in answers]
                else:
                    seconds[name][work].append(answers[0]["seconds"])
                    seconds[name]["cpu"][work].append(answers[0]["processor"])
        print(f"round {number} of {rounds}", flush=True)
    for worker in workers.values():
        worker.quit()
    return seconds


def summary(seconds: dict[str, dict[str, Any]], counts: dict[str, int]) -> dict[str, Any]:
    """By side and work: the median, the spread of the rounds, and the ratio to PaddleClas, median of the rounds."""
    found: dict[str, Any] = {}
    for name, own in seconds.items():
        pairs = [(a, b) for x, y in zip(own["regions"], seconds[BASE]["regions"], strict=True) for a in x for b in y]
        wanted = sum(len(each) for each in seconds[BASE]["regions"])
        one: dict[str, Any] = {"regions": wanted, "same_regions": sum(a == b for a, b in pairs)}
        for work in WORK:
            values = own[work]
            one[work] = {
                "milliseconds_per_image": 1000 * median(values) / counts[work],
                "images_per_second": counts[work] / median(values),
                "spread": (max(values) - min(values)) / median(values),
                "ratio": median(theirs / ours for theirs, ours in zip(seconds[BASE][work], values, strict=True)),
                "processor_ratio": median(
                    a / b for a, b in zip(seconds[BASE]["cpu"][work], own["cpu"][work], strict=True)
                ),
            }
        parts = own["parts"]
        one["parts"] = {part: 1000 * median(each.get(part, 0.0) for each in parts) for part in parts[0]}
        found[name] = one
    return found


def table(found: dict[str, Any]) -> str:
    lines = [f"{'':26}" + "".join(f"{work:>12} ms{'spread':>8}{'ratio':>7}{'cpu':>6}" for work in WORK) + "   regions"]
    for name, one in found.items():
        cells = [
            f"{each['milliseconds_per_image']:15.1f}{each['spread']:8.0%}{each['ratio']:7.2f}{each['processor_ratio']:6.2f}"
            for each in (one[work] for work in WORK)
        ]
        lines.append(f"{name:26}{''.join(cells)}   {one['same_regions']} of {one['regions']}")
    parts = list(dict.fromkeys(part for one in found.values() for part in one["parts"]))
    lines += ["", f"{'ms of one photo':26}" + "".join(f"{part:>12}" for part in parts)]
    lines += [f"{name:26}" + "".join(f"{one['parts'].get(p, 0):12.1f}" for p in parts) for name, one in found.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 3), ("threads", 2), ("gallery", 10_000), ("photos", 200), ("entries", 500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--models", type=Path, help="folder to keep the models in for the next run")
    parser.add_argument("--paddlex", metavar="PYTHON", default="", help="of a venv with PaddleX")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--anyway", action="store_true", help="also where other processes keep the machine busy")
    args = parser.parse_args()
    before = others_share()
    if not args.anyway:
        check_load(before)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.models or Path(scratch) / "models").resolve()  # the workers have a folder of their own
        folder.mkdir(parents=True, exist_ok=True)
        make_models(folder)
        path = make_job(folder, args)
        sides = sides_of(folder, args.threads) | ({"paddlex": []} if args.paddlex else {})
        seconds = measure(sides, path, args.rounds, args.paddlex)
    found = summary(seconds, {"photo": 1, "folder": args.photos, "gallery": args.entries})
    print(table(found))
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "machine": machine(),
        "load": {"before": before, "after": others_share()},
        "settings": {key: value for key, value in vars(args).items() if key not in ("models", "json")},
        "sides": found,
    }
    if args.json:
        args.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
