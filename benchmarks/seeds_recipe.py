"""PP-ShiTuV2's recipe in its real size, without its pictures: what a run would be, and what of it can be timed here.

The 17 sets' lists are made up, with their published numbers of images and classes, and merged by `shitu dataset merge`;
then `shitu train --dry-run` for 8 cards, with and without recomputing; the sampler's batches; and, in a process of its
own, the memory of the head: a Linear layer of 512 x 192,613, the config's cross-entropy and a step of Momentum for 256
vectors. Nothing is trained. docs/recipe.md has what it printed.

    python benchmarks/seeds_recipe.py [--sets aliproduct sop ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "train" / "GeneralRecognitionV2_PPLCNetV2_base.yaml"
SETS = ROOT / "shitu" / "datasets" / "public_sets.yaml"
# of the config's id_list: docs/datasets/README.md, "The order"
ORDER = (
    *("aliproduct", "veri-wild", "sop", "inshop", "gldv2", "logodet-3k", "bird400", "104flowers", "cars"),
    *("fashion-product-images", "flowerrecognition", "food-101", "fruits-262", "inaturalist", "indoor-scenes"),
    *("products-10k", "compcars"),
)
HEAD = """
import resource, sys
import paddle
from shitu.training.rec.losses import build_losses
from shitu.training.rec.schema_loss import CELoss
classes = int(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
head = paddle.nn.Linear(512, classes, bias_attr=False)
losses = build_losses([CELoss(epsilon=0.1)])
optimizer = paddle.optimizer.Momentum(0.06, 0.9, head.parameters())
features, labels = paddle.rand([256, 512]), paddle.randint(0, classes, [256])
features.stop_gradient = False
for _ in range(2):
    losses({"logits": head(features), "features": features}, labels)["loss"].backward()
    optimizer.step()
    optimizer.clear_grad()
print(peak() - before)
"""


def split_counts(name: str) -> tuple[int, int]:
    """Images and classes, as published."""
    images, classes = yaml.safe_load(SETS.read_text(encoding="utf-8"))[name]["splits"]["train"]["counts"]
    return images, classes


def write_lists(folder: Path, names: list[str]) -> list[Path]:
    """A list for each set, its images spread evenly over its classes."""
    paths = []
    for name in names:
        images, classes = split_counts(name)
        paths.append(folder / f"{name}.txt")
        with paths[-1].open("w", encoding="utf-8") as file:
            file.writelines(f"{name}/{number % classes}/{number}.jpg {number % classes}\n" for number in range(images))
    return paths


def timed(*arguments: str) -> tuple[str, float, float]:
    """Output of a shitu command, seconds, and its peak memory in GB."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "shitu", *arguments], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"shitu {arguments[0]} failed")
    return said, time.monotonic() - began, usage.ru_maxrss * 1024 / 1e9


def sampler(merged: Path, classes: int) -> dict[str, float]:
    """Seconds to read the list and to make the sampler, and milliseconds for a batch."""
    from shitu.training.rec.image_list import read_image_list
    from shitu.training.rec.plan import make_plan, train_data
    from shitu.training.rec.schema import load_train_config

    config = load_train_config(CONFIG, overrides(merged, classes))
    began = time.perf_counter()
    images = read_image_list(train_data(config).dataset, what="list")
    read = time.perf_counter()
    plan = make_plan(config, images.labels, 8)
    made = time.perf_counter()
    for index in range(50):
        plan.sampler.batch(1, 3, index)
    batch = (time.perf_counter() - made) / 50
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"read_s": read - began, "sampler_s": made - read, "batch_ms": 1000 * batch, "peak_gb": most}


def overrides(merged: Path, classes: int) -> tuple[str, ...]:
    whole = classes > 180_000  # the config's id_list is of all sets
    return (
        *(f"DataLoader.Train.dataset.cls_label_path={merged}", "DataLoader.Train.dataset.check_files=False"),
        *(f"Arch.Head.class_num={classes}", "Global.eval_during_train=False", "Global.device=cpu"),
        *(() if whole else ("DataLoader.Train.sampler.id_list=[]", "DataLoader.Train.sampler.ratio=[]")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=ORDER, default=list(ORDER))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lists = write_lists(folder, wanted.sets)
        merged = folder / "merged.txt"
        _, seconds, memory = timed("dataset", "merge", "-o", str(merged), *map(str, lists))
        size = merged.stat().st_size / 1e6
        print(f"merge: {seconds:.0f} s, {memory:.2f} GB; the list has {size:.0f} MB", flush=True)
        classes = sum(split_counts(name)[1] for name in wanted.sets)
        settings = [part for each in overrides(merged, classes) for part in ("-o", each)]
        for more in ((), ("-o", "Arch.recompute=True")):
            said, seconds, memory = timed("train", "-c", str(CONFIG), *settings, *more, "--dry-run", "--ranks", "8")
            lines = said if not more else "\n".join(re.findall("memory.*", said))
            print(f"dry run {' '.join(more)}: {seconds:.0f} s, {memory:.2f} GB\n{lines}", flush=True)
        print(json.dumps({"sampler": {name: round(value, 2) for name, value in sampler(merged, classes).items()}}))
    command = [sys.executable, "-c", HEAD, str(classes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    print(json.dumps({"head_gb": round(int(done.stdout) / 1e9, 2), "classes": classes}))


if __name__ == "__main__":
    main()
