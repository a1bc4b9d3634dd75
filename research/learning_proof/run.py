"""Does training teach what it should? Caltech-101 split by class: 60 classes are trained on, 35 are never seen.

    python -m research.learning_proof.run --out W --weights W/efficientnet_lite0.pdparams [--shared S] [--jobs 2]

Five runs of `shitu train`, up to --jobs at a time, one core each; an interrupted one goes on with --resume:
PP-LCNetV2 by the V2 recipe for a CPU from the weak start with two seeds, 13 epochs and 3 more with a fresh learning
rate; the first 13 with shuffled labels; EfficientNet-Lite0 from ImageNet with its low layers frozen, two seeds.
Recall@1 of the unseen classes, each photo against all others, before and after. Writes W/learning.json and
docs/images/learning_caltech.png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
PPLCNET = "GeneralRecognitionV2_PPLCNetV2_cpu"
LITE0 = "EfficientNetLite0_finetune_cpu"
RUNS = {  # name: (config, seed, train list)
    "PP-LCNetV2, seed 1": (PPLCNET, 1, "train.txt"),
    "PP-LCNetV2, seed 2": (PPLCNET, 2, "train.txt"),
    "PP-LCNetV2, shuffled labels": (PPLCNET, 1, "shuffled.txt"),
    "EfficientNet-Lite0, seed 1": (LITE0, 1, "train.txt"),
    "EfficientNet-Lite0, seed 2": (LITE0, 2, "train.txt"),
}


AGAIN = {
    "Global.epochs": 3,
    "Optimizer.lr.learning_rate": 0.0004,
    "Optimizer.lr.warmup_epoch": 0.3,
}


def write_lists(shared: Path, out: Path) -> None:
    """train.txt, unseen.txt and shuffled.txt, which has train's labels in another order."""
    held_out = set((ROOT / "research/common/caltech_heldout.txt").read_text().split())
    rows = [line.split("\t") for line in (shared / "data/caltech101/list.txt").read_text().splitlines()]
    train = [(path, label) for path, label in rows if label not in held_out]
    labels = [label for _, label in train]
    random.Random(0).shuffle(labels)
    shuffled = [(path, label) for (path, _), label in zip(train, labels, strict=True)]
    unseen = [(path, label) for path, label in rows if label in held_out]
    for name, lines in (("train", train), ("unseen", unseen), ("shuffled", shuffled)):
        (out / f"{name}.txt").write_text("".join(f"{path}\t{label}\n" for path, label in lines))


def output_dir(name: str, out: Path) -> Path:
    """Where a run writes."""
    return out / name.replace(", ", "-").replace(" ", "_")


def settings(name: str, shared: Path, out: Path, weights: Path) -> list[str]:
    """The options of `shitu train` and `shitu eval` for a run."""
    config, seed, train_list = RUNS[name]
    start = shared / "models/pplcnetv2_base_shitu_distilled_v0/backbone.pdparams" if config == PPLCNET else weights
    values = {
        "Global.pretrained_model": start,
        "Global.seed": seed,
        "Global.output_dir": output_dir(name, out),
        "DataLoader.Train.dataset.cls_label_path": out / train_list,
    }
    for side in ("Train", "Eval.Query", "Eval.Gallery"):
        values[f"DataLoader.{side}.dataset.image_root"] = shared / "data/caltech101"
    for side in ("Query", "Gallery"):
        values[f"DataLoader.Eval.{side}.dataset.cls_label_path"] = out / "unseen.txt"
    overrides = [part for key, value in values.items() for part in ("-o", f"{key}={value}")]
    return ["-c", str(ROOT / "configs/train" / f"{config}.yaml"), *overrides]


def shitu(*arguments: str) -> str:
    """Run the command on one core; returns its stdout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "shitu", *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(name: str, shared: Path, out: Path, weights: Path) -> dict[str, Any]:
    """Recall@1 on unseen classes before, by epoch, and at the end (the last epoch, not the best)."""
    options = settings(name, shared, out, weights)
    before = json.loads(shitu("eval", *options))["recall1"]
    shitu("train", *options, "--resume")
    first = output_dir(name, out)
    curve = [(0, before), *evaluations(first)]
    if name.startswith("PP-LCNetV2, seed"):
        seed, second = 10 + RUNS[name][1], first.with_name(f"{first.name}-again")
        changes = {
            **AGAIN,
            "Global.seed": seed,
            "Global.pretrained_model": first / "RecModel" / "latest",
            "Global.output_dir": second,
        }
        shitu(
            "train",
            *options,
            *(part for key, value in changes.items() for part in ("-o", f"{key}={value}")),
            "--resume",
        )
        curve += [(curve[-1][0] + epoch, recall) for epoch, recall in evaluations(second)]
    return {"before": before, "after": curve[-1][1], "curve": curve}


def evaluations(folder: Path) -> list[tuple[int, float]]:
    """(epoch, Recall@1) of a run."""
    lines = (folder / "RecModel" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["epoch"], record["recall1"]) for record in records if "recall1" in record]


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Recall@1 on the unseen classes by epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        epochs, recalls = zip(*result["curve"], strict=True)
        axes.plot(epochs, recalls, marker="o", markersize=3, label=name, linestyle=":" if "shuffled" in name else "-")
    axes.set(xlabel="epoch", ylabel="Recall@1, 35 unseen classes", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--weights", type=Path, required=True, help="of research/recogniser/efficientnet_lite_weights.py"
    )
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_lists(arguments.shared.resolve(), out)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        places = (arguments.shared.resolve(), out, arguments.weights.resolve())
        results = dict(zip(arguments.only, pool.map(lambda name: measure(name, *places), arguments.only), strict=True))
    (out / "learning.json").write_text(json.dumps(results, indent=1))
    draw(results, ROOT / "docs/images/learning_caltech.png")
    for name, result in results.items():
        print(f"{name:30} {result['before']:.3f} -> {result['after']:.3f}")


if __name__ == "__main__":
    main()
