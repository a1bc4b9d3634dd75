"""PicoDet's training loss in PyTorch: SimOTA assignment, varifocal, distribution focal and GIoU losses.

It follows ppdet 2.6 (`SimOTAAssigner`, `OTAVFLHead.get_loss`) for one class, but takes a whole batch at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as fn

from research.detector.network import REG_MAX, STRIDES

CENTER_RADIUS = 2.5
CANDIDATES = 10
# A photo labelled for its main object shows others that nobody boxed: less of a box than this covers a labelled one.
APART = 0.1
IN_CROWD = 0.5  # share of a box
IOU_COST, FAR = 6.0, 1e8
DFL_WEIGHT, GIOU_WEIGHT = 0.25, 2.0


def anchor_points(size: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Centres [A, 2] in pixels and strides [A] of the cells of all levels, for a square input."""
    centres, strides = [], []
    for stride in STRIDES:
        cells = torch.arange(-(-size // stride), dtype=torch.float32, device=device).add(0.5).mul(stride)
        y, x = torch.meshgrid(cells, cells, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((len(centres[-1]),), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def decode(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes [B, A, 4] in pixels from the distributions over side distances."""
    bins = torch.arange(REG_MAX + 1, dtype=sides.dtype, device=sides.device)
    distance = (sides.softmax(-1) * bins).sum(-1) * strides[:, None]
    return torch.cat([centres - distance[..., :2], centres + distance[..., 2:]], -1)


def iou_and_giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU of boxes that broadcast against each other."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    iou = overlap / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def varifocal(logits: Tensor, target: Tensor) -> Tensor:
    """Positives weigh as their target IoU, negatives fade as they are learnt (alpha 0.75, gamma 2)."""
    score = logits.sigmoid()
    weight = torch.where(target > 0, target, 0.75 * (score - target).square())
    return fn.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight


@torch.no_grad()
def assign(logits: Tensor, boxes: Tensor, truth: Tensor, real: Tensor, size: int) -> Tensor:
    """SimOTA: index of the true box of every anchor, -1 for background. truth [B, G, 4], real [B, G] bool."""
    centres, strides = anchor_points(size, logits.device)
    point = centres[None, :, None]
    in_box = torch.cat([point - truth[:, None, :, :2], truth[:, None, :, 2:] - point], -1).amin(-1) > 0
    middle = (truth[..., :2] + truth[..., 2:])[:, None] / 2
    near = (point - middle).abs().amax(-1) < CENTER_RADIUS * strides[None, :, None]
    in_box, near = in_box & real[:, None], near & real[:, None]
    candidate = (in_box | near).any(-1, keepdim=True)
    iou, giou = iou_and_giou(boxes[:, :, None], truth[:, None])
    iou = iou * (candidate & real[:, None])
    cost = varifocal(logits[..., None].expand_as(iou), iou) + IOU_COST * (1 - giou)
    cost = cost + FAR * ~(in_box & near) + (FAR * FAR) * ~(candidate & real[:, None])
    wanted = iou.topk(CANDIDATES, 1).values.sum(1).int().clamp(min=1)
    cheapest = cost.topk(CANDIDATES, 1, largest=False)
    taken = torch.arange(CANDIDATES, device=logits.device)[None, :, None] < wanted[:, None]
    taken = taken & (cheapest.values < FAR * FAR / 2)
    matched = torch.zeros_like(cost, dtype=torch.bool).scatter_(1, cheapest.indices, taken)
    best = cost.masked_fill(~matched, torch.inf).argmin(-1)
    contested = matched.sum(-1) > 1
    best = torch.where(contested, cost.argmin(-1), best)
    return torch.where(matched.any(-1), best, -1)


@torch.no_grad()
def background_weight(boxes: Tensor, truth: Tensor, real: Tensor, background: Tensor, crowd: Tensor | None) -> Tensor:
    """Weight [B, A] of an anchor as background: `background` [B] apart from every labelled object, 0 within a crowd."""
    corner = torch.maximum(boxes[:, :, None, :2], truth[:, None, :, :2])
    overlap = (torch.minimum(boxes[:, :, None, 2:], truth[:, None, :, 2:]) - corner).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1).prod(-1)
    apart = (overlap * real[:, None]).amax(-1) / area < APART
    weight = torch.where(apart, background[:, None], 1.0)
    if crowd is None:
        return weight
    return torch.where((overlap * crowd[:, None]).amax(-1) / area > IN_CROWD, 0.0, weight)


def detector_loss(
    logits: Tensor,
    sides: Tensor,
    truth: Tensor,
    real: Tensor,
    background: Tensor,
    *,
    size: int,
    crowd: Tensor | None = None,
) -> dict[str, Tensor]:
    """The three weighted losses of a batch.

    logits [B, A], sides [B, A, 4, 8] of an input of size x size pixels; truth [B, G, 4] in its pixels, real and crowd
    [B, G] bool: which of truth are objects, and which are crowds, where nothing counts as background; background [B]:
    what background counts away from the labelled objects, 1 where everything is labelled, less where objects are left
    out.
    """
    centres, strides = anchor_points(size, logits.device)
    boxes = decode(sides, centres, strides)
    index = assign(logits.detach(), boxes.detach(), truth, real, size)
    positive = index >= 0
    count = positive.sum().clamp(min=1)
    wanted = truth.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 4))[positive]
    iou, giou = iou_and_giou(boxes[positive], wanted)
    target = torch.zeros_like(logits)
    target[positive] = iou.detach()
    counted = torch.where(positive, 1.0, background_weight(boxes, truth, real, background, crowd))
    weight = logits.detach()[positive].sigmoid()
    total = weight.sum().clamp(min=1)
    stride = strides.expand(len(logits), -1)[positive][:, None]
    point = centres.expand(len(logits), -1, -1)[positive]
    distance = torch.cat([point - wanted[:, :2], wanted[:, 2:] - point], 1) / stride
    distance = distance.clamp(0, REG_MAX - 0.1)
    return {
        "vfl": (varifocal(logits, target) * counted).sum() / count,
        "giou": GIOU_WEIGHT * ((1 - giou) * weight).sum() / total,
        "dfl": DFL_WEIGHT * (side_loss(sides[positive], distance).sum(1) * weight).sum() / 4 / total,
    }


def side_loss(sides: Tensor, distance: Tensor) -> Tensor:
    """Distribution focal loss: cross-entropy with the two bins beside the true distance."""
    low = distance.long()
    logp = sides.log_softmax(-1)
    left = logp.gather(-1, low[..., None])[..., 0] * (low + 1 - distance)
    right = logp.gather(-1, low[..., None] + 1)[..., 0] * (distance - low)
    return -(left + right)
