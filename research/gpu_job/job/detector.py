"""Third half: PicoDet over EfficientNet-Lite0 on boxed photos, mosaics and shelves, from the bundled detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.common.autocast import autocast
from research.detector.efficientnet_lite import EfficientNetLite0
from research.detector.loss import anchor_points, decode, detector_loss
from research.detector.network import PicoDet, in_building_order
from research.gpu_job.job.detector_views import DetectorViews
from research.gpu_job.job.half import Half
from research.gpu_job.job.packed import CHOOSE
from research.gpu_job.job.recogniser import MEAN, STD
from research.gpu_job.job.state import Learner

SIDE, SMOKE_SIDE = 320, 160
BEST, IOU, NMS_IOU, CANDIDATES = 10, 0.5, 0.5, 200


class Detector(Half):
    """The detector's half of the job."""

    name = "detector"
    warmup, max_norm, measure_every = 300, 10.0, 0.25

    def make(self, lr: float, seed: int) -> Learner:
        pack, self.side = self.pack, SMOKE_SIDE if self.smoke else SIDE
        self.views = DetectorViews(pack, self.device, seed + 1, self.side)
        self.mean, self.std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        network = PicoDet(EfficientNetLite0()).to(self.device)
        start_from(network, pack.start("detector"), self.normalized(self.views.batch(8 if self.smoke else 64).images))
        network = network.to(memory_format=torch.channels_last).train()
        return Learner(self.name, network, lr=lr, decay=0.02, ema=0.9995, slow=("backbone.",))

    def normalized(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        seen = self.views.batch(self.batch)
        with autocast(self.device):
            logits, sides = self.learner.network(self.normalized(seen.images))
        parts = detector_loss(
            logits.float(), sides.float(), seen.truth, seen.real, seen.background, crowd=seen.crowd, size=self.side
        )
        return torch.stack(list(parts.values())).sum(), parts

    def figures(self) -> dict[str, float]:
        """Recall of the ten best boxes and AP50 on the choosing photos of either kind."""
        figures = {}
        for source in ("boxes", "ecssd"):
            rows = self.pack.rows(CHOOSE, source)
            if len(rows):
                figures |= {f"{name}, {source}": value for name, value in self.judged(rows).items()}
        return figures

    @torch.no_grad()
    def judged(self, rows: Tensor) -> dict[str, float]:
        """Recall of the ten best boxes and AP50 on these photos."""
        found = []
        for some in rows.split(64):
            x = functional.interpolate(self.pack.images[some].float(), (self.side, self.side), mode="bicubic")
            with autocast(self.device):
                logits, sides = self.learner.average(self.normalized(x.clamp(0, 255)))
            boxes = decode(sides.float(), *anchor_points(self.side, self.device))
            found += [
                best_boxes(s, b / self.side) for s, b in zip(logits.float().sigmoid().cpu(), boxes.cpu(), strict=True)
            ]
        truth = [(self.pack.boxes[i][self.pack.real[i]], self.pack.boxes[i][self.pack.crowd[i]]) for i in rows.tolist()]
        return precision_and_recall(found, truth)


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
    boxes, kept = boxes[order], list[int]()
    close = (iou(boxes, boxes) > NMS_IOU).numpy()
    for i in range(len(scores)):
        if not close[i, kept].any():
            kept.append(i)
        if len(kept) == BEST:
            break
    return scores[kept], boxes[kept]


def precision_and_recall(found: list[tuple[Tensor, Tensor]], truth: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
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
