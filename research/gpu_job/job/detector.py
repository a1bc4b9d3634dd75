"""Second half: PicoDet-LCNet on boxed photos, mosaics and shelves, from the bundled detector."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.detector.loss import anchor_points, decode, detector_loss
from research.detector.network import PicoDet, in_building_order
from research.gpu_job.job.detector_views import DetectorViews
from research.gpu_job.job.packed import CHOOSE, Pack
from research.gpu_job.job.recogniser import MEAN, STD, autocast
from research.gpu_job.job.state import LEAST, Clock, Learner, Log

WARMUP, MAX_NORM = 300, 10.0
SIDE, SMOKE_SIDE = 320, 160
MEASURE_EVERY = 0.25
BEST, IOU, NMS_IOU, CANDIDATES = 10, 0.5, 0.5, 200


class Half:
    """The detector's half of the job."""

    def __init__(self, pack: Pack, out: Path, log: Log, *, batch: int, lr: float, seed: int, smoke: bool):
        self.pack, self.out, self.log, self.batch, self.smoke = pack, out, log, batch, smoke
        self.side, self.device = (SMOKE_SIDE if smoke else SIDE), pack.device
        self.views = DetectorViews(pack, self.device, seed + 1, self.side)
        self.mean, self.std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        network = PicoDet().to(self.device)
        start_from(network, pack.start("detector"), self.normalized(self.views.batch(8 if smoke else 64).images))
        network = network.to(memory_format=torch.channels_last).train()
        self.learner = Learner("detector", network, lr=lr, decay=0.02, ema=0.9995)
        self.learner.load(out, log.line)

    def normalized(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def run(self, seconds: float) -> None:
        """Learn until the time is over; measured before the first step, now and then, and last."""
        clock, learner = Clock(seconds, self.learner.used), self.learner
        if not learner.step:
            self.measure(clock)
        told, samples, measured = time.monotonic(), learner.samples, clock.progress
        losses: list[Tensor] = []
        least = learner.step + LEAST
        while (progress := clock.progress) < 1 or learner.step < least:
            values = self._losses()
            rate = learner.rate(progress, 5 if self.smoke else WARMUP)
            learner.learn(torch.stack(list(values.values())).sum(), self.batch, rate, MAX_NORM)
            losses.append(torch.stack([v.detach() for v in values.values()]))
            if time.monotonic() - told >= (2 if self.smoke else 10):
                means = torch.stack(losses).mean(0).tolist()
                speed = (learner.samples - samples) / (time.monotonic() - told)
                text = " ".join(f"{n} {v:.3f}" for n, v in zip(values, means, strict=True))
                self.log.line(f"detector: {progress:.0%} step {learner.step} {text} {speed:.0f}/s")
                told, samples, losses = time.monotonic(), learner.samples, []
            if progress - measured >= MEASURE_EVERY:
                self.measure(clock)
                measured = progress
            learner.save_now_and_then(self.out, clock.seconds)
        learner.save(self.out, clock.seconds)
        self.measure(clock)

    def _losses(self) -> dict[str, Tensor]:
        seen = self.views.batch(self.batch)
        with autocast(self.device):
            logits, sides = self.learner.network(self.normalized(seen.images))
        return detector_loss(
            logits.float(), sides.float(), seen.truth, seen.real, seen.background, crowd=seen.crowd, size=self.side
        )

    @torch.no_grad()
    def measure(self, clock: Clock) -> None:
        """Recall of the ten best boxes and AP50 on the choosing photos."""
        rows, found = self.pack.rows(CHOOSE, "boxes"), []
        for some in rows.split(64):
            x = functional.interpolate(self.pack.images[some].float(), (self.side, self.side), mode="bicubic")
            with autocast(self.device):
                logits, sides = self.learner.average(self.normalized(x.clamp(0, 255)))
            boxes = decode(sides.float(), *anchor_points(self.side, self.device))
            found += [
                best_boxes(s, b / self.side) for s, b in zip(logits.float().sigmoid().cpu(), boxes.cpu(), strict=True)
            ]
        truth = [(self.pack.boxes[i][self.pack.real[i]], self.pack.boxes[i][self.pack.crowd[i]]) for i in rows.tolist()]
        self.log.point("detector", {**clock.told(self.learner), **figures(found, truth)})


def exported_order(network: PicoDet) -> list[nn.Module]:
    """Convolutions and batch norms as the export builds them in ppdet: head, neck, backbone."""
    layers = [m for m in in_building_order(network) if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    backbone, features = (set(part.modules()) for part in (network.backbone, network.head.conv_feat))
    heads = [m for m in network.head.children() if isinstance(m, nn.Conv2d)]
    in_head = [m for m in layers if m in features]
    neck = [m for m in layers if m not in backbone and m not in features and m not in heads]
    return [*in_head, *heads, *neck, *(m for m in layers if m in backbone)]


def start_from(network: PicoDet, weights: dict[str, Tensor], images: Tensor) -> None:
    """Set the bundled detector's weights, whose batch norms were folded away, into a network that has them.

    `convN.weight`, `convN.bias` in the order of `exported_order`. Each batch norm gets the mean and variance that its
    input has on these images, and the scale and shift that undo them, so that the network gives what the folded one
    gives, and nearly the same in training.
    """
    layers = exported_order(network)
    convs = [m for m in layers if isinstance(m, nn.Conv2d)]
    hooks = []
    with torch.no_grad():
        for i, conv in enumerate(convs):
            conv.weight.copy_(weights[f"conv{i}.weight"])
            bias = weights[f"conv{i}.bias"].to(conv.weight.device)
            if conv.bias is not None:
                conv.bias.copy_(bias)
            else:
                norm = layers[layers.index(conv) + 1]
                norm.bias.copy_(bias)
                hooks.append(norm.register_forward_pre_hook(unfold))
        network.eval()(images)
    for hook in hooks:
        hook.remove()


def unfold(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    """Statistics of the input, and the scale and shift that undo them (norm.bias holds the folded bias)."""
    x = inputs[0].float()
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.add_(mean)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) of xyxy boxes."""
    corner, end = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = (end - corner).clamp(min=0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).clamp(min=0).prod(-1) for x in (a, b)]
    return overlap / (areas[0][:, None] + areas[1][None] - overlap).clamp(min=1e-9)


def best_boxes(scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and boxes of the ten best after suppression."""
    scores, order = scores.topk(min(CANDIDATES, len(scores)))
    boxes, kept = boxes[order], []
    overlaps = iou(boxes, boxes)
    for i in range(len(scores)):
        if all(overlaps[i, j] <= NMS_IOU for j in kept):
            kept.append(i)
        if len(kept) == BEST:
            break
    return scores[kept], boxes[kept]


def figures(found: list[tuple[Tensor, Tensor]], truth: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Recall and AP at IoU 0.5 of the ten best boxes a photo; crowds count neither way. VOC's area under the curve."""
    scores, right, total, hits = [], [], 0, 0
    for (score, boxes), (wanted, crowd) in zip(found, truth, strict=True):
        total += len(wanted)
        free = torch.ones(len(wanted), dtype=torch.bool)
        overlaps, in_crowd = iou(boxes, wanted), iou(boxes, crowd)
        for i in range(len(score)):
            candidates = overlaps[i] * free
            hit = len(wanted) > 0 and float(candidates.max()) >= IOU
            if hit:
                free[candidates.argmax()] = False
                hits += 1
            elif len(crowd) and float(in_crowd[i].max()) > 0.3:
                continue
            scores.append(float(score[i]))
            right.append(hit)
    order = torch.tensor(scores).argsort(descending=True)
    true = torch.tensor(right, dtype=torch.float)[order].cumsum(0)
    precision = true / torch.arange(1, len(true) + 1)
    precision = precision.flip(0).cummax(0).values.flip(0)
    recall = torch.cat([torch.zeros(1), true / max(total, 1)])
    return {"recall_of_10": hits / max(total, 1), "AP50": float((precision * recall.diff()).sum())}
