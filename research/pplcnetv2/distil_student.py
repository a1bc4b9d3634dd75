"""Teach PPLCNetV2_base_ShiTu the bundled recogniser's features, on a CPU, from the crops of distil_data.py.

    nice -n 19 python -m research.pplcnetv2.distil_student --work-dir W --hours 1.6    # shards in W/crops; --threads 1
    python -m research.pplcnetv2.distil_student --work-dir W --write W/backbone.pdparams --plot W/curve.png  # only

Needs torch. Loss: 1 - cosine to the teacher's feature, and the squared differences of the cosines within the batch.
The learning rate falls to zero over the hours given, however many steps fit into them; the first half of them is spent
on crops of 96 px, the rest on 128. Killed at any time and run again, it goes on from W/checkpoint.pt; shards that came
since take part. Every 20 minutes Recall@1, leave one out, of the averaged weights at 128 px on the 12 validation
classes of Caltech-101, of which there are no crops, and for the report alone on the 35 held-out ones: W/curve.json.
Where others take the processor, measuring waits until LEARN_SECONDS of processor time went into learning.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from research.common.autocast import autocast
from research.common.photo_features import Photo, labels_of, leave_one_out_recall, listed
from research.pplcnetv2.distil_data import SIDE, held_out, validation_classes
from research.pplcnetv2.network import PPLCNetV2, load_pdparams, save_pdparams

ROOT = Path(__file__).resolve().parents[2]
START = "pplcnetv2_base_shitu_distilled_v0/backbone.pdparams"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pixels / 255, RGB
FIRST_SIDE = 96
SAVE_SECONDS, MEASURE_SECONDS, LEARN_SECONDS = 150, 1200, 300
WARMUP = 200  # steps
MAX_NORM = 5.0  # of the gradient


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder of data/ and models/")
    parser.add_argument("--start", type=Path, help=f".pdparams, else models/{START}")
    parser.add_argument("--hours", type=float, default=1.6, help="of training in all, those before a restart included")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--relations", type=float, default=0.5, help="weight of the loss over pairs in the batch")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=int, default=1, help="two wait for each other where others need the cores")
    parser.add_argument("--measure-start", action="store_true", help="measure before the first step")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the averaged weights as .pdparams and end")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve and end")
    return parser.parse_args()


class Crops:
    """The shards of a folder, mapped into memory; those that come later are found by `refresh`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[Path, tuple[NDArray[np.uint8], NDArray[np.float16]]] = {}

    def refresh(self) -> int:
        """Look for new shards; the number of crops."""
        for path in sorted(self.folder.glob("features_*.npy")):
            if path not in self.known:
                crops = path.with_name(path.name.replace("features", "crops"))
                self.known[path] = (np.load(crops, mmap_mode="r"), np.load(path))
        if not self.known:
            raise SystemExit(f"{self.folder}: no shards; make them with distil_data.py")
        return sum(len(features) for _, features in self.known.values())

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Random crops (size, 128, 128, 3) uint8 and their features (size, 512) float32."""
        shards = list(self.known.values())
        picked = [(shards[i], rng.integers(len(shards[i][1]))) for i in rng.integers(len(shards), size=size)]
        crops = np.stack([crops[row] for (crops, _), row in picked])
        features = np.stack([features[row] for (_, features), row in picked])
        return torch.from_numpy(crops), torch.from_numpy(features.astype(np.float32))


def network_input(crops: Tensor, side: int) -> Tensor:
    """(n, h, w, 3) uint8, RGB -> (n, 3, side, side) float32, channels last."""
    x = (crops.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    x = x.permute(0, 3, 1, 2)
    return x if side == x.shape[-1] else functional.interpolate(x, (side, side), mode="bilinear", antialias=True)


@dataclass
class Run:
    """What a checkpoint holds, and where the training stands."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write beside and rename, so that a reader never meets half a file."""
        plain = {name: getattr(self, name) for name in ("step", "samples", "seconds", "curve")}
        parts = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        torch.save(plain | parts, folder / "checkpoint.part")
        (folder / "checkpoint.part").replace(folder / "checkpoint.pt")
        (folder / "curve.part").write_text(json.dumps(self.curve, indent=1), encoding="utf-8")
        (folder / "curve.part").replace(folder / "curve.json")

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("step", "samples", "seconds", "curve"):
            setattr(self, name, state[name])


def new_run(args: argparse.Namespace) -> Run:
    """The start, or where the checkpoint in the work folder stands."""
    network = PPLCNetV2().to(memory_format=torch.channels_last)
    checkpoint = args.work_dir / "checkpoint.pt"
    if not checkpoint.is_file():
        load_pdparams(network, args.start or args.shared / "models" / START)
        fit_last_layer(network, Crops(args.work_dir / "crops"), args.seed)
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    run = Run(network, copy.deepcopy(network).eval(), torch.optim.AdamW(groups, lr=args.lr))
    if checkpoint.is_file():
        run.load(checkpoint)
    return run


@torch.no_grad()
def fit_last_layer(network: PPLCNetV2, crops: Crops, seed: int, count: int = 4096, ridge: float = 0.3) -> None:
    """Set the last layer by ridge regression of the teacher's features: the start was taught another teacher's."""
    pooled, teacher = [], []
    hook = network.last_conv.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0].flatten(1).double()))
    crops.refresh()
    network.eval()
    for number in range(count // 64):
        batch, features = crops.batch(np.random.default_rng([seed, number]), 64)
        with autocast():
            network(network_input(batch, FIRST_SIDE))
        teacher.append(features.double())
    hook.remove()
    x, y = torch.cat(pooled), torch.cat(teacher)
    x_mean, y_mean = x.mean(0), y.mean(0)
    moments = (x - x_mean).T @ (x - x_mean)
    moments += ridge * moments.trace() / len(moments) * torch.eye(len(moments), dtype=moments.dtype)
    weight = torch.linalg.solve(moments, (x - x_mean).T @ (y - y_mean))
    bias = y_mean - x_mean @ weight
    # Cosines do not care for the scale; AdamW's first steps would wipe out the small weights of unit-length features.
    scale = 1 / (weight.square().mean() * len(weight)).sqrt()
    network.last_conv.weight.copy_(scale * weight.T[:, :, None, None])
    network.last_conv.bias.copy_(scale * bias)
    own, pairs = losses((x @ weight + bias)[:64].float(), y[:64].float())
    print(f"last layer fitted on {len(x)} crops: cosine loss {own:.4f}, of pairs {pairs:.4f}", flush=True)


def losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cosine, and how far the cosines within the batch are from the teacher's; means over the batch."""
    student, teacher = functional.normalize(student.float()), functional.normalize(teacher)
    relations = (student @ student.T - teacher @ teacher.T).square().sum(dim=1).mean()
    return 1 - (student * teacher).sum(dim=1).mean(), relations


def learn(run: Run, crops: Tensor, teacher: Tensor, *, side: int, relations: float, ema: float) -> float:
    """One step; the cosine loss."""
    run.network.train()
    with autocast():
        features = run.network(network_input(crops, side))
    own, pairs = losses(features, teacher)
    run.optimizer.zero_grad()
    (own + relations * pairs).backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), MAX_NORM)
    run.optimizer.step()
    run.step += 1
    run.samples += len(crops)
    keep = min(ema, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        for mine, new in zip(run.average.state_dict().values(), run.network.state_dict().values(), strict=True):
            mine.lerp_(new, 1 - keep) if mine.dtype.is_floating_point else mine.copy_(new)
    return own.item()


@torch.no_grad()
def recall(network: nn.Module, photos: list[Photo], side: int = SIDE) -> float:
    """Recall@1, leave one out, of whole photos squashed to side x side."""
    rows = []
    for start in range(0, len(photos), 32):
        read = [cv2.imread(str(photo.path), cv2.IMREAD_COLOR) for photo in photos[start : start + 32]]
        batch = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR) for image in read])
        with autocast():
            rows.append(network(network_input(torch.from_numpy(batch[..., ::-1].copy()), side)).float().numpy())
    return leave_one_out_recall(np.concatenate(rows), labels_of(photos))


def measure(run: Run, data: Path, loss: float | None) -> None:
    """Add a point to the curve."""
    chosen, hidden = set(validation_classes(data)), held_out()
    photos = listed(data / "caltech101")
    point = {
        "samples": run.samples,
        "step": run.step,
        "seconds": round(run.seconds),
        "cosine_loss": loss,
        "recall_validation": recall(run.average, [photo for photo in photos if photo.label in chosen]),
        "recall_unseen": recall(run.average, [photo for photo in photos if photo.label in hidden]),
    }
    run.curve.append(point)
    print(f"{datetime.now():%H:%M:%S}", json.dumps(point), flush=True)


def train(run: Run, crops: Crops, args: argparse.Namespace) -> None:
    """Learn until the hours are over; measured first, every 20 minutes and last."""
    data, whole = args.shared / "data", args.hours * 3600
    if not run.curve and args.measure_start:
        measure(run, data, None)
    saved = told = time.time()
    begin, used, recent, count = told - run.seconds, time.process_time(), [], 0
    measured = begin + (run.curve[-1]["seconds"] if run.curve else 0)
    while run.seconds < whole:
        part = run.seconds / whole
        rate = args.lr * min(1, (run.step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * part))
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        if run.step % 50 == 0 or not count:
            count = crops.refresh()
        side = FIRST_SIDE if part < 0.5 else SIDE
        batch = crops.batch(np.random.default_rng([args.seed, run.step]), args.batch)
        recent.append(learn(run, *batch, side=side, relations=args.relations, ema=args.ema))
        now = time.time()
        run.seconds = now - begin
        if now - told >= 60:
            loss = float(np.mean(recent))
            speed = len(recent) * args.batch / (now - told)
            text = f"step {run.step}, {run.samples} samples of {count} crops, {side} px, loss {loss:.4f}"
            print(f"{datetime.now():%H:%M:%S} {text}, lr {rate:.1e}, {speed:.0f}/s", flush=True)
            recent, told = [], now
            if now - measured >= MEASURE_SECONDS and time.process_time() - used >= LEARN_SECONDS:
                measure(run, data, loss)
                measured, used = (told := time.time()), time.process_time()
        if now - saved >= SAVE_SECONDS:
            run.save(args.work_dir)
            saved = time.time()
    measure(run, data, float(np.mean(recent)) if recent else None)
    run.save(args.work_dir)


def draw(curve: list[dict[str, Any]], path: Path) -> None:
    """Recall@1 against samples seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    samples = [point["samples"] / 1000 for point in curve]
    for key, label in (("recall_validation", "12 validation classes"), ("recall_unseen", "35 held-out classes")):
        axes.plot(samples, [point[key] for point in curve], marker="o", markersize=3, label=label)
    axes.set(xlabel="thousand samples seen", ylabel="Recall@1, leave one out, 128 px", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    run = new_run(args)
    if args.write:
        save_pdparams(run.average, args.write)
    if args.plot:
        draw(run.curve, args.plot)
    if not (args.write or args.plot):
        train(run, Crops(args.work_dir / "crops"), args)


if __name__ == "__main__":
    main()
