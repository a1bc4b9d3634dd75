"""PP-LCNetV2 by the recipes before and by the one that is there now, from nothing: which follows its teacher faster?

    OMP_NUM_THREADS=1 python -m research.gpu_job.compare_recipes --pack pack.npz --side 64 --samples 51200

`first` is what the H200 ran first: the 512 features and the pairs of a batch at once, strong views from the beginning;
`second` has the pooled features first and milder views; `now` the maps, Muon, and views that are used again. Printed is
the mean cosine to the teacher over the photos to choose by (whole, none learnt from) after each quarter of the samples,
and less each side's mean feature, so that an answer that never changes scores 0. The learning rate's schedule ends with
the samples.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from research.gpu_job.job import recogniser
from research.gpu_job.job.half import autocast
from research.gpu_job.job.losses import distillation
from research.gpu_job.job.packed import CHOOSE, Pack
from research.gpu_job.job.recogniser import MEAN, STD, Recogniser, Stage
from research.gpu_job.job.state import Learner, Log
from research.gpu_job.job.teacher import load_teacher
from research.pplcnetv2.network import PPLCNetV2

RELATIONS = 0.5


class FirstStudent(torch.nn.Module):
    """PP-LCNetV2, ending in its own 512."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = PPLCNetV2()

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        return self.backbone((x - mean) / std)


class FirstRecipe(Recogniser):
    """As the H200 ran it."""

    def make(self, lr: float, seed: int) -> Learner:
        self.prepare(seed)
        self.stages, self.stage, self.bank = recogniser.STAGES, None, deque()
        self.teacher = load_teacher(self._teacher_weights()).to(memory_format=torch.channels_last)
        return Learner(
            self.name, FirstStudent().train().to(memory_format=torch.channels_last), lr=lr, decay=0.03, ema=0.9995
        )

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.stage is not None
        rows = self.views.pick(self.photos, self.batch)
        seen = self.views(self.pack.images[rows], self.stage.teacher_side, smallest=0.12, blend=True)
        with torch.no_grad(), autocast(self.device):
            wanted = self.teacher(seen.contiguous(memory_format=torch.channels_last))
        with autocast(self.device):
            found = self.learner.network(seen)
        cosine, pairs = distillation(found, wanted)
        return cosine + RELATIONS * pairs, {"cosine": cosine, "pairs": pairs}


class SecondRecipe(Recogniser):
    """The teacher's pooled features first; AdamW alone, no maps, every view once."""

    hints, used, muon = 0.0, 1, 0.0


MADE = {"first": FirstRecipe, "second": SecondRecipe, "now": Recogniser}


@torch.no_grad()
def followed(half: Recogniser, side: int) -> tuple[float, float]:
    """Mean cosine of the averaged student to the teacher, and the same less the means."""
    rows, pairs = half.pack.rows(CHOOSE), []
    network = half.learner.average
    for some in rows.split(64):
        x = functional.interpolate(half.pack.images[some].float(), (side, side), mode="bilinear", antialias=True)
        with autocast(half.device):
            pairs.append((network(x).float(), half.teacher(x).float()))
    both = [functional.normalize(torch.cat(part)) for part in zip(*pairs, strict=True)]
    centred = [functional.normalize(part - part.mean(0)) for part in both]
    return tuple(float((a * b).sum(1).mean()) for a, b in (both, centred))


def learn(half: Recogniser, samples: int, side: int, name: str) -> None:
    """Steps until the samples are seen; four lines."""
    steps, began = samples // half.batch, time.monotonic()
    for step in range(steps):
        half.begin(step / steps)
        loss, _ = half.losses()
        half.learner.learn(loss, half.batch, half.learner.rate(step / steps, half.warmup // 10), half.max_norm)
        if (step + 1) % max(1, steps // 4) == 0:
            plain, centred = followed(half, side)
            seconds = time.monotonic() - began
            print(
                f"{name}: {half.learner.samples} samples, {seconds:.0f} s: cosine {plain:.3f}, centred {centred:.3f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="a folder with teacher.pt; without it the pack's teacher")
    parser.add_argument("--side", type=int, default=80)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--recipes", nargs="+", choices=MADE, default=["now", "second", "first"])
    args = parser.parse_args()
    recogniser.STAGES = (Stage(1.0, args.side, args.side),)
    pack = Pack(args.pack, torch.device("cpu"))
    parts = pack.images.split(256)
    pack.images = torch.cat([functional.interpolate(p.float(), (128, 128), mode="area").round().byte() for p in parts])
    for name in args.recipes:
        with tempfile.TemporaryDirectory() as folder:
            if args.run:
                (Path(folder) / "teacher.pt").symlink_to((args.run / "teacher.pt").resolve())
            half = MADE[name](pack, Path(folder), Log(Path(folder)), batch=args.batch, lr=args.lr, seed=1, smoke=False)
            half.learner.ema = 0.98  # few steps
            learn(half, args.samples, args.side, name)


if __name__ == "__main__":
    main()
